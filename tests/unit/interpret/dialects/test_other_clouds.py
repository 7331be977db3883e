"""Cohere, Mistral, Gemini's interactions and predictions, batches, and what only counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.interpret.reading import read, read_events, read_json

USAGE = {"billed_units": {"input_tokens": 5, "output_tokens": 7}, "tokens": {"input_tokens": 80, "output_tokens": 9}}


def tokens(meaning: Any) -> tuple[int | None, int | None, int | None]:
    assert meaning.usage is not None
    return (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.total_tokens)


# Cohere


def test_cohere_in_one_piece() -> None:
    message = {
        "role": "assistant",
        "tool_plan": "I look.",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}],
        "tool_calls": [{"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }
    answer = {"id": "c1", "finish_reason": "TOOL_CALL", "message": message, "usage": {**USAGE, "cached_tokens": 3}}
    asked = {"model": "command-a", "messages": [{"role": "user", "content": "hello"}]}
    meaning = read_json(answer, "/v2/chat", asked, family="cohere")
    assert tokens(meaning) == (80, 9, 89)
    (share,) = meaning.shares
    assert (share.usage.input_tokens, share.usage.output_tokens) == (5, 7)
    assert (meaning.text, meaning.reasoning, meaning.response_id) == ("Hi", "I look.hm", "c1")
    assert (meaning.model_asked, meaning.facts["model_from"]) == ("command-a", "request")
    assert [tuple(each) for each in meaning.tool_calls] == [("t", "look", "{}")]


def test_cohere_that_fails_at_the_end() -> None:
    end = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "it broke", "usage": USAGE}}
    meaning = read_events({"type": "message-start", "id": "c"}, end, "[DONE]", target="/v2/chat", named="type")
    assert meaning.error is not None
    assert (meaning.error.message, meaning.complete, meaning.usage_state) == ("it broke", False, "partial")


def test_cohere_that_thinks() -> None:
    def delta(kind: str, **content: str) -> dict[str, Any]:
        return {"type": kind, "index": 0, "delta": {"message": {"content": content}}}

    meaning = read_events(
        delta("content-start", type="thinking", thinking=""),
        delta("content-delta", thinking="hm"),
        delta("content-delta", text="Hi"),
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": USAGE}},
        "[DONE]",
        target="/v2/chat",
    )
    assert (meaning.text, meaning.reasoning, meaning.finish_reason_norm) == ("Hi", "hm", "stop")
    assert (meaning.terminator, meaning.complete) == ("[DONE]", True)


@pytest.mark.parametrize(
    ("target", "billed", "found", "others"),
    [
        ("/v2/embed", {"input_tokens": 6}, (6, None, 6), {}),
        ("/v1/embed", {"images": 2}, (None, None, None), {"images": 2}),
        ("/v2/rerank", {"search_units": 1}, (None, None, None), {"search_units": 1}),
    ],
)
def test_cohere_bills_by_units(target: str, billed: Any, found: Any, others: Any) -> None:
    meaning = read_json({"id": "e", "meta": {"billed_units": billed}}, target, {"model": "m"}, family="cohere")
    assert tokens(meaning) == found
    assert meaning.usage is not None
    assert meaning.usage.others == others
    assert meaning.usage_state == ("complete" if found[0] else "non_token")


def test_cohere_version_one() -> None:
    lines = [
        {"event_type": "stream-start", "generation_id": "g"},
        {"event_type": "text-generation", "text": "H"},
        {"event_type": "text-generation", "text": "i"},
        {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"meta": USAGE}},
    ]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    meaning = read(body, "/v1/chat", "application/stream+json", request=b'{"model":"m","message":"x"}', family="cohere")
    assert (meaning.text, meaning.response_id, meaning.terminator, meaning.events) == ("Hi", "g", "stream-end", 4)
    assert tokens(meaning) == (80, 9, 89)
    answer = {"text": "Hi", "generation_id": "g", "finish_reason": "COMPLETE", "meta": USAGE}
    calls = [{"name": "look", "parameters": {"a": 1}}]
    whole = read_json({**answer, "tool_calls": calls}, "/v1/chat", family="cohere")
    assert [tuple(each) for each in whole.tool_calls] == [(None, "look", '{"a": 1}')]
    assert (tokens(whole), whole.finish_reason_norm) == ((80, 9, 89), "tool_calls")


# Mistral


def test_a_conversation_of_mistral() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "connector_tokens": 30, "total_tokens": 150}
    meaning = read_events(
        {"type": "conversation.response.started", "conversation_id": "conv_1"},
        {"type": "tool.execution.started", "name": "web_search"},
        {"type": "message.output.delta", "content": "Hel", "model": "mistral-x", "role": "assistant"},
        {"type": "message.output.delta", "content": {"type": "text", "text": "lo"}},
        {"type": "function.call.delta", "name": "look", "tool_call_id": "c1", "arguments": '{"a"'},
        {"type": "function.call.delta", "name": "look", "tool_call_id": "c1", "arguments": ":1}"},
        {"type": "conversation.response.done", "usage": usage},
        target="/v1/conversations#stream",
        request={"model": "mistral-medium", "inputs": "hello", "stream": True},
        family="mistral",
        named="type",
    )
    assert tokens(meaning) == (130, 20, 150)
    assert (meaning.text, meaning.response_id, meaning.response_model) == ("Hello", "conv_1", "mistral-x")
    assert [tuple(each) for each in meaning.tool_calls] == [("c1", "look", '{"a":1}')]
    assert (meaning.complete, meaning.operation, meaning.finish_reason_norm) == (True, "conversation", "tool_calls")


def test_a_conversation_that_fails_and_one_in_one_piece() -> None:
    failed = read_events(
        {"type": "conversation.response.error", "message": "no", "code": 500},
        target="/v1/conversations",
        family="mistral",
    )
    assert failed.error is not None
    assert (failed.error.message, failed.error.code, failed.complete) == ("no", 500, False)
    outputs = [{"type": "message.output", "content": [{"type": "text", "text": "Hi"}], "model": "m"}]
    answer = {"conversation_id": "c", "outputs": outputs, "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    whole = read_json(answer, "/v1/conversations/c", {"inputs": [{"role": "user", "content": "x"}]}, family="mistral")
    assert (whole.text, tokens(whole), whole.response_model) == ("Hi", (4, 2, 6), "m")


def test_a_conversation_that_is_only_made_costs_nothing() -> None:
    meaning = read_json({"id": "conv_1", "object": "conversation"}, "/v1/conversations", {"items": []})
    assert (meaning.usage, meaning.usage_state) == (None, "none")
    items = read_json({"object": "list", "data": []}, "/v1/conversations/conv_1/items", {"items": []})
    assert (items.operation, items.usage_state) == ("metadata", "none")


def test_partners_of_vertex() -> None:
    target = "/v1/projects/p/locations/l/publishers/mistralai/models/mistral-small@2503:rawPredict"
    answer = {"object": "chat.completion", "choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 3}}
    meaning = read_json(answer, target, {"messages": [{"role": "user", "content": "x"}]}, family="gemini")
    assert (meaning.text, meaning.model_asked) == ("Hi", "mistral-small@2503")
    assert [each.text for each in meaning.prompts] == ["x"]


def test_pages_of_mistral() -> None:
    pages = [{"markdown": "# One", "images": [{"image_base64": "A" * 40}]}, {"markdown": "Two"}]
    answer = {"pages": pages, "model": "mistral-ocr", "usage_info": {"pages_processed": 2, "doc_size_bytes": 900}}
    meaning = read_json(answer, "/v1/ocr", {"model": "mistral-ocr-latest"}, family="mistral")
    assert meaning.usage is not None
    assert (meaning.usage.others, meaning.usage_state) == ({"pages": 2}, "non_token")
    assert (meaning.text, [tuple(each) for each in meaning.media]) == (
        "# One\n\nTwo",
        [("response", "image", 0, 0, 40)],
    )


def test_seconds_that_mistral_heard() -> None:
    usage = {"prompt_audio_seconds": 7, "prompt_tokens": 4, "completion_tokens": 30, "total_tokens": 34}
    meaning = read_json(
        {"model": "voxtral", "text": "hi", "usage": usage}, "/v1/audio/transcriptions", family="mistral"
    )
    assert meaning.usage is not None
    assert (tokens(meaning), meaning.usage.others) == ((4, 30, 34), {"audio_ms": 7000})


# Google


def test_an_interaction_with_calls() -> None:
    usage = {"total_input_tokens": 9, "total_output_tokens": 3, "total_thought_tokens": 21, "total_tool_use_tokens": 4}
    done = {"id": "i", "status": "requires_action", "model": "g", "usage": usage}
    meaning = read_events(
        {"event_type": "step.start", "index": 0, "step": {"type": "function_call", "id": "f", "name": "look"}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "arguments_delta", "partial_arguments": '{"a":1}'}},
        {
            "event_type": "step.delta",
            "index": 1,
            "delta": {"type": "image", "mime_type": "image/png", "data": "A" * 30},
        },
        {"event_type": "interaction.completed", "interaction": done},
        target="/v1beta/interactions",
        family="gemini",
    )
    assert tokens(meaning) == (13, 24, 37)
    assert [tuple(each) for each in meaning.tool_calls] == [("f", "look", '{"a":1}')]
    assert (meaning.finish_reason_norm, [tuple(each) for each in meaning.media]) == (
        "tool_calls",
        [("response", "image/png", 0, 0, 30)],
    )


def test_an_interaction_in_one_piece_and_one_that_is_fetched() -> None:
    steps = [
        {"type": "thought", "summary": [{"text": "hm"}]},
        {"type": "model_output", "content": [{"type": "text", "text": "Hi"}]},
    ]
    answer = {"id": "i", "object": "interaction", "status": "completed", "outputs": steps, "usage": {"total_tokens": 5}}
    made = read_json(answer, "/v1beta/interactions", {"model": "g", "input": "x"}, family="gemini")
    assert (made.text, made.reasoning, made.response_id, made.usage_state) == ("Hi", "hm", "i", "complete")
    fetched = read_json(answer, "/v1beta/interactions/i", method="GET", family="gemini")
    assert fetched.operation == "interactions.retrieve"


def test_predictions_of_vertex() -> None:
    target = "/v1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict"
    answer = {"predictions": [{"embeddings": {"values": [0.1], "statistics": {"token_count": n}}} for n in (3, 4)]}
    meaning = read_json(answer, target, {"instances": [{"content": "one"}, {"content": "two"}]}, family="gemini")
    assert (tokens(meaning), meaning.operation, meaning.model_asked) == (
        (7, None, 7),
        "embeddings",
        "text-embedding-005",
    )
    drawn = read_json({"predictions": [{"bytesBase64Encoded": "A" * 20, "mimeType": "image/png"}]}, target)
    assert drawn.usage is not None
    assert (drawn.usage.others, drawn.usage_state, drawn.operation) == ({"images": 1}, "non_token", "images")


# Batches


def test_results_of_both_makers_are_summed_by_model() -> None:
    body = {"object": "chat.completion", "model": "gpt-x", "usage": {"prompt_tokens": 10, "completion_tokens": 2}}
    lines: list[dict[str, Any]] = [
        {"id": "1", "custom_id": "a", "response": {"status_code": 200, "body": {**body, "service_tier": "default"}}},
        {"id": "2", "custom_id": "b", "response": {"status_code": 200, "body": body}},
        {"id": "3", "custom_id": "c", "response": {"status_code": 200, "body": {**body, "model": "gpt-y"}}},
        {"id": "4", "custom_id": "d", "response": {"status_code": 500, "body": {"error": {"message": "no"}}}},
    ]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    meaning = read(data, "/v1/files/file-1/content", "application/jsonl", method="GET", request=b"")
    assert (tokens(meaning), meaning.service_tier, meaning.billed_as) == ((30, 6, 36), "batch", "batch.results:file-1")
    assert [(part.model, part.usage.input_tokens) for part in meaning.shares] == [("gpt-x", 20), ("gpt-y", 10)]
    assert meaning.facts["results"] == {"errored": 1, "succeeded": 3}
    assert (meaning.complete, meaning.events, meaning.response_id) == (True, 4, None)


def test_another_file_is_no_batch() -> None:
    meaning = read(b'{"messages": []}\n{"messages": []}\n', "/v1/files/f/content", "application/jsonl", method="GET")
    assert (meaning.usage, meaning.usage_state) == (None, "none")


def test_what_is_hostile_in_results_stays_small() -> None:
    lines = b"".join(b'{"custom_id":"x","result":{"type":"%d%s"}}\n' % (n, b"t" * 200) for n in range(100))
    meaning = read(lines, "/v1/messages/batches/b/results", "application/x-jsonl", method="GET")
    results = meaning.facts["results"]
    assert (len(results), sum(results.values())) == (17, 100)
    assert max(map(len, results)) <= 64
    long = {"object": "chat.completion", "provider": "p" * 5000, "choices": []}
    assert len(read_json(long, "/v1/chat/completions").facts["upstream_provider"]) == 512


# What only counts


@pytest.mark.parametrize(
    ("target", "answer", "found"),
    [
        ("/v1/messages/count_tokens", {"input_tokens": 14}, 14),
        ("/v1/responses/input_tokens", {"object": "response.input_tokens", "input_tokens": 0}, 0),
        ("/v1beta/models/g:countTokens", {"totalTokens": 31}, 31),
        ("/model/x/count-tokens", {"inputTokens": 5}, 5),
        ("/v1/tokenize", {"tokens": [1, 2, 3]}, 3),
        ("/tokenize", {"count": 9, "max_model_len": 4096, "tokens": [1]}, 9),
        ("/v1/messages/count_tokens", {"input_tokens": "many"}, None),
    ],
)
def test_what_is_counted_for_nothing(target: str, answer: Any, found: int | None) -> None:
    meaning = read_json(answer, target, {"model": "m"})
    assert (meaning.usage, meaning.usage_state, meaning.operation) == (None, "none", "count")
    assert meaning.facts.get("counted_input_tokens") == found

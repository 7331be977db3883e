"""What OpenAI's chat form looks like at those who speak it under another name, where no recorded stream shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.interpret.meaning import Meaning, Rating, ToolCall
from tests.unit.interpret.reading import read, read_events, read_json

CHAT = "/v1/chat/completions"


def stream(*chunks: dict[str, Any] | str, **options: Any) -> Meaning:
    """The meaning of a stream of these chunks."""
    data = [each if isinstance(each, str) else json.dumps(each) for each in chunks]
    return read("".join(f"data: {each}\n\n" for each in data).encode(), options.pop("target", CHAT), **options)


def whole(body: dict[str, Any], target: str = CHAT, **options: Any) -> Meaning:
    return read(json.dumps(body).encode(), target, "application/json", **options)


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


def used(**usage: Any) -> Meaning:
    return stream({"choices": [], "usage": usage}, "[DONE]")


def test_usage_comes_with_or_without_choices_and_the_last_counts() -> None:
    running = [{**delta(content="x"), "usage": {"prompt_tokens": 5, "completion_tokens": n}} for n in (1, 2, 3)]
    meaning = stream(*running, "[DONE]")
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.total_tokens) == (5, 3, 8)
    assert meaning.usage_state == "complete"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 4}}, {"cache_read_tokens": 4}),
        ({"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6}, {"cache_read_tokens": 4}),  # DeepSeek
        ({"cached_tokens": 4}, {"cache_read_tokens": 4}),  # Together
        ({"num_cached_tokens": 4}, {"cache_read_tokens": 4}),  # Mistral
        ({"prompt_tokens_details": {"cache_write_tokens": 3}}, {"cache_write_tokens": 3}),
        ({"completion_tokens_details": {"reasoning_tokens": 2}}, {"reasoning_tokens": 2, "output_tokens": 5}),
        ({"completion_tokens_details": {"audio_tokens": 2}}, {"output_audio_tokens": 2}),
        ({"prompt_tokens_details": {"audio_tokens": 2, "image_tokens": 1}}, {"input_audio_tokens": 2}),
        # xAI's reasoning is beside the completion where the sum says so, and only there
        ({"total_tokens": 22, "completion_tokens_details": {"reasoning_tokens": 7}}, {"output_tokens": 12}),
        ({"total_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 4}}, {"output_tokens": 5}),
        # Gemini's hidden thoughts, through its own endpoint of this form
        ({"total_tokens": 22}, {"output_tokens": 12, "reasoning_tokens": 7, "total_tokens": 22}),
    ],
)
def test_usage_of_others(usage: dict[str, Any], expected: dict[str, int]) -> None:
    meaning = used(**{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} | usage)
    assert meaning.usage is not None
    assert {name: getattr(meaning.usage, name) for name in expected} == expected


def test_parts_that_exceed_their_total_are_a_conflict() -> None:
    assert used(
        prompt_tokens=10, completion_tokens=10, completion_tokens_details={"reasoning_tokens": 11}
    ).usage_conflict
    assert used(prompt_tokens=10, completion_tokens=1, prompt_tokens_details={"cached_tokens": 11}).usage_conflict
    assert used(prompt_tokens=10, completion_tokens=10, total_tokens=5).usage_conflict
    assert not used(prompt_tokens=10, completion_tokens=10, total_tokens=20).usage_conflict


@pytest.mark.parametrize(
    ("usage", "pico"),
    [
        ({"cost": 0.00219855}, 2_198_550_000),
        ({"cost": {"total_cost": 0.5}}, 500_000_000_000),
        ({"cost_in_usd_ticks": 12345}, 1_234_500),
        ({"cost": 0}, 0),
        ({"cost": -1}, None),
        ({"cost": "1"}, None),
    ],
)
def test_the_cost_that_a_provider_reports(usage: dict[str, Any], pico: int | None) -> None:
    assert used(prompt_tokens=1, completion_tokens=1, **usage).cost_reported_pico == pico


def test_groq_tells_usage_unasked() -> None:
    meaning = stream({**delta(content="x"), "x_groq": {"id": "r", "usage": {"prompt_tokens": 3}}}, "[DONE]")
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage_state) == (3, "complete")


def test_usage_within_a_choice() -> None:
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 3}}]}
    meaning = stream(last, "[DONE]")
    assert meaning.usage is not None
    assert meaning.usage.input_tokens == 3


def test_llamacpp_tells_timings_only() -> None:
    timings = {"cache_n": 4, "prompt_n": 6, "predicted_n": 5}
    meaning = stream({**delta(content="x"), "timings": timings}, "[DONE]")
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.cache_read_tokens, meaning.usage.output_tokens) == (10, 4, 5)
    assert meaning.usage_state == "derived"


def test_reasoning_under_both_names() -> None:
    meaning = stream(delta(reasoning_content="a"), delta(reasoning="b"), delta(content="c"), "[DONE]")
    assert (meaning.reasoning, meaning.text) == ("ab", "c")
    assert (meaning.first_reasoning_us, meaning.first_visible_us) == (1000, 1000)


def test_content_in_parts() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    meaning = stream(delta(content=[thought, {"type": "text", "text": "so"}]), "[DONE]")
    assert (meaning.reasoning, meaning.text) == ("hm", "so")


def test_several_choices_do_not_mix() -> None:
    chunks = [{"choices": [{"index": n % 2, "delta": {"content": text}}]} for n, text in enumerate("abcd")]
    assert stream(*chunks, "[DONE]").text == "ac\n\nbd"


def call(index: int | None, identity: str | None, arguments: str, name: str | None = "f") -> dict[str, Any]:
    made: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    made |= {} if index is None else {"index": index}
    return delta(tool_calls=[made | ({} if identity is None else {"id": identity})])


def test_tool_calls_by_index() -> None:
    meaning = stream(call(0, "a", '{"x"'), call(0, None, ":1}", None), call(1, "b", "{}"), "[DONE]")
    assert meaning.tool_calls == [ToolCall("a", "f", '{"x":1}'), ToolCall("b", "f", "{}")]


@pytest.mark.parametrize("index", [0, None])
def test_tool_calls_that_have_but_an_id(index: int | None) -> None:
    meaning = stream(call(index, "a", "{1"), call(index, None, "}", None), call(index, "b", "{2}"), "[DONE]")
    assert meaning.tool_calls == [ToolCall("a", "f", "{1}"), ToolCall("b", "f", "{2}")]


def test_the_old_function_call_and_arguments_that_are_an_object() -> None:
    old = stream(
        delta(function_call={"name": "f", "arguments": '{"a'}), delta(function_call={"arguments": '"}'}), "[DONE]"
    )
    assert old.tool_calls == [ToolCall(None, "f", '{"a"}')]
    body = {"choices": [{"message": {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]}}]}
    assert whole(body).tool_calls == [ToolCall("1", "f", '{"a": 1}')]


def test_in_one_piece() -> None:
    meaning = whole(
        {
            "id": "c1",
            "model": "m-1",
            "service_tier": "flex",
            "choices": [{"message": {"content": "hi", "refusal": None}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }
    )
    assert (meaning.response_id, meaning.response_model, meaning.service_tier) == ("c1", "m-1", "flex")
    assert (meaning.text, meaning.finish_reason, meaning.finish_reason_norm) == ("hi", "length", "length")
    assert (meaning.complete, meaning.terminator, meaning.events, meaning.streaming) == (True, "eof", None, False)


def test_azure() -> None:
    """The model is in the path, the first event has the prompt's ratings."""
    rated = {"hate": {"filtered": False, "severity": "safe"}, "jailbreak": {"filtered": True, "detected": True}}
    first = {"choices": [], "id": "", "model": "", "prompt_filter_results": [{"content_filter_results": rated}]}
    last = {
        "choices": [
            {"index": 0, "delta": {}, "finish_reason": "stop", "content_filter_results": {"hate": rated["hate"]}}
        ]
    }
    meaning = stream(first, last, "[DONE]", target="/openai/deployments/my%2Dgpt/chat/completions?api-version=1")
    assert meaning.model_asked == "my-gpt"
    assert meaning.ratings == [
        Rating("prompt", "hate", "safe", None, False),
        Rating("prompt", "jailbreak", "detected", None, True),
        Rating("completion", "hate", "safe", None, False),
    ]


def test_what_was_asked() -> None:
    asked = {
        "model": "gpt-x",
        "stream": True,
        "messages": [
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}],
            },
        ],
    }
    meaning = stream("[DONE]", request=json.dumps(asked).encode())
    assert (meaning.operation, meaning.model_asked, meaning.streaming) == ("chat", "gpt-x", True)
    assert [tuple(each) for each in meaning.prompts] == [("system", "be brief"), ("user", "a\nb")]


def test_an_error_in_mid_stream_and_what_follows_it() -> None:
    meaning = stream(delta(content="x"), {"error": {"message": "no", "code": 502}}, "[DONE]")
    assert meaning.error is not None
    assert (meaning.error.message, meaning.error.code, meaning.error.midstream) == ("no", 502, True)
    assert (meaning.text, meaning.complete, meaning.finish_reason_norm) == ("x", False, "error")


@pytest.mark.parametrize(
    ("target", "method", "operation", "state"),
    [
        ("/v1/models", "GET", "metadata", "none"),
        ("/v1/files/f1", "DELETE", "metadata", "none"),
        ("/v1/moderations", "POST", "moderation", "none"),
        ("/v1/chat/completions/c1", "GET", "chat.retrieve", "none"),
        ("/v1/chat/completions/c1", "DELETE", "metadata", "none"),
        ("/v1/chat/completions/c1", "POST", "metadata", "none"),
        ("/v1/chat/completions/c1/messages", "GET", "metadata", "none"),
        ("/v1/chat/completions", "GET", "metadata", "none"),
        ("/models/chat/completions", "POST", "chat", "missing"),  # Azure's Foundry
        ("/v1/fim/completions", "POST", "chat", "missing"),  # Mistral
        ("/v1/completions", "POST", "text", "missing"),
        ("/v1/batches", "POST", "batch", "none"),
        ("/some/thing", "POST", None, None),
    ],
)
def test_operations(target: str, method: str, operation: str | None, state: str | None) -> None:
    meaning = whole({}, target, method=method)
    assert (meaning.operation, meaning.usage_state) == (operation, state)


def test_a_path_that_says_nothing_is_no_obstacle() -> None:
    body = {"object": "chat.completion", "choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 2}}
    meaning = whole(body, "/gateway/ask")
    assert (meaning.text, meaning.usage_state) == ("hi", "complete")


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b'{"error": {"type": "t", "code": "c", "message": "m"}}', "application/json", ("t", "c", "m", 400)),
        (b'{"error": {"type": "t"}}', "application/octet-stream", ("t", None, None, 400)),  # DeepSeek
        (b'{"error": "words"}', "application/json", (None, None, "words", 400)),
        (b'{"object": "error", "message": "m", "type": "t", "code": 3}', "application/json", ("t", 3, "m", 400)),
        (b'{"detail": "m"}', "application/json", (None, None, "m", 400)),
        (b'{"detail": [{"msg": "a"}, 5, {"msg": "b"}]}', "application/json", (None, None, "a; b", 400)),  # Mistral
        (b'{"detail": [{"loc": "x"}]}', "application/json", (None, None, None, 400)),
        (b'\xef\xbb\xbf {"error": "words"}', "application/json", (None, None, "words", 400)),
        (b"upstream gone", "text/plain", (None, None, "upstream gone", 400)),
        (b"", "", (None, None, None, 400)),
    ],
)
def test_errors(body: bytes, kind: str, expected: tuple[Any, ...]) -> None:
    meaning = read(body, CHAT, kind, status=400, headers=[("retry-after", "7")])
    error = meaning.error
    assert error is not None
    assert (error.type, error.code, error.message, error.status) == expected
    assert (meaning.usage_state, error.retry_after_s, error.midstream) == ("none", 7.0, False)


def test_usage_of_a_stored_answer_is_not_counted_again() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    changed = whole({"object": "chat.completion", "id": "c1", "choices": [], "usage": usage}, CHAT + "/c1")
    assert (changed.usage, changed.usage_state) == (None, "none")


def test_the_id_of_a_request_stands_in_its_error() -> None:
    error = {"object": "error", "message": "m", "request_id": "r1"}
    assert whole(error, status=400).request_id == "r1"
    assert whole(error, status=400, headers=[("x-request-id", "r2")]).request_id == "r2"


def test_a_prompt_that_azure_refuses() -> None:
    rated = {"hate": {"filtered": True, "severity": "high"}}
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": rated}
    meaning = whole({"error": {"code": "content_filter", "message": "m", "innererror": inner}}, status=400)
    assert meaning.ratings == [Rating("prompt", "hate", "high", None, True)]
    assert (meaning.prompt_block_reason, meaning.usage_state) == ("ResponsibleAIPolicyViolation", "none")


def test_embeddings() -> None:
    body = {"object": "list", "data": [{"embedding": "AAAA"}], "model": "e"}
    meaning = whole({**body, "usage": {"prompt_tokens": 4, "total_tokens": 4}}, "/v1/embeddings")
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.total_tokens) == (4, None, 4)
    assert (meaning.operation, meaning.text) == ("embeddings", "")
    voyage = whole({**body, "usage": {"total_tokens": 7}}, "/v1/embeddings").usage
    assert voyage is not None
    assert (voyage.input_tokens, voyage.total_tokens) == (7, 7)


def test_refusals_transcripts_and_custom_tools() -> None:
    custom = {"index": 0, "id": "t", "custom": {"name": "g", "input": "free text"}}
    meaning = stream(delta(refusal="no "), delta(audio={"transcript": "spoken"}), delta(tool_calls=[custom]), "[DONE]")
    assert (meaning.text, meaning.tool_calls) == ("no spoken", [ToolCall("t", "g", "free text")])


def test_together_repeats_its_delta() -> None:
    chunk = {"choices": [{"index": 0, "text": "x", "delta": {"content": "x"}, "finish_reason": "eos"}]}
    meaning = stream(chunk, "[DONE]")
    assert (meaning.text, meaning.finish_reason_norm) == ("x", "stop")


def test_legacy_completions() -> None:
    meaning = stream({"choices": [{"index": 0, "text": "a"}]}, {"choices": [{"text": "b"}]}, "[DONE]")
    assert (meaning.text, meaning.complete) == ("ab", True)


def test_an_error_of_groq_has_a_name() -> None:
    error = {
        "error": {"message": "m", "type": "t", "code": "tool_use_failed", "failed_generation": "{", "status_code": 400}
    }
    body = f"event: error\ndata: {json.dumps(error)}\n\n".encode()
    meaning = read(body, CHAT)
    assert meaning.error is not None
    assert (meaning.error.code, meaning.error.midstream, meaning.complete) == ("tool_use_failed", True, False)


# Those that speak this form, each with what it adds


def _chunk(delta: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, **more.pop("choice", {})}]
    return {"object": "chat.completion.chunk", "id": "c", "model": "m", "choices": choices, **more}


USED = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


@pytest.mark.parametrize(
    ("last", "facts"),
    [
        ({"time_info": {"queue_time": 0.1, "prompt_time": 0.2, "completion_time": 2}},
         {"timings_s": {"queue": 0.1, "prompt": 0.2, "completion": 2}}),  # Cerebras
        ({"perf_metrics": {"num-concurrent-requests": 1}}, {}),  # Fireworks
        ({"sla_metrics": {"ttft_ms": 5}}, {}),  # Novita by Hugging Face
        ({"provider": "Anthropic"}, {"upstream_provider": "Anthropic"}),  # OpenRouter
        ({"citations": ["https://x"], "search_results": []}, {}),  # Perplexity
    ],
)  # fmt: skip
def test_what_others_add_is_no_obstacle(last: dict[str, Any], facts: dict[str, Any]) -> None:
    """Hugging Face, Fireworks, Cerebras, Perplexity, Moonshot: usage with the finish, deltas that repeat the role."""
    role = {"role": "assistant", "content": "Hel"}
    end = _chunk({"role": "assistant", "content": "lo"}, choice={"finish_reason": "stop"}, usage=USED, **last)
    meaning = read_events(_chunk(role, usage=None), end, "[DONE]", target="/v1/chat/completions")
    assert meaning.usage is not None
    assert (meaning.text, meaning.usage.total_tokens, meaning.usage_state) == ("Hello", 14, "complete")
    assert meaning.facts == facts


def test_perplexity_counts_on_every_chunk_and_says_its_cost() -> None:
    def usage(made: int, cost: float) -> dict[str, Any]:
        return {**USED, "completion_tokens": made, "cost": {"total_cost": cost}, "num_search_queries": 2}

    meaning = read_events(
        _chunk({"content": "Hel"}, usage=usage(1, 0.001)), _chunk({"content": "lo"}, usage=usage(4, 0.006)),
        target="/chat/completions",
    )  # fmt: skip
    assert meaning.usage is not None
    assert (meaning.usage.output_tokens, meaning.usage.others) == (4, {"web_searches": 2})
    assert meaning.cost_reported_pico == 6 * 10**9


def test_models_of_a_compound_system_of_groq_have_a_share_each() -> None:
    models = [{"model": "a", "usage": USED}, {"model": "b", "usage": {**USED, "prompt_tokens": 20}}]
    whole = {**USED, "prompt_tokens": 30, "completion_tokens": 8, "total_tokens": 38}
    groq = {"id": "req", "usage": whole, "usage_breakdown": {"models": models}}
    streamed = read_events(_chunk({"content": "Hi"}, x_groq=groq), "[DONE]", target="/openai/v1/chat/completions")
    body = {"object": "chat.completion", "choices": [], "usage": whole, "usage_breakdown": {"models": models}}
    for meaning in (streamed, read_json(body, "/openai/v1/chat/completions")):
        assert meaning.usage is not None
        assert meaning.usage.input_tokens == 30
        assert [(part.model, part.usage.input_tokens) for part in meaning.shares] == [("a", 10), ("b", 20)]


def test_ranking_has_but_a_total() -> None:
    meaning = read_json({"results": [], "usage": {"total_tokens": 22}}, "/v1/rerank", {"model": "m", "query": "x"})
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.total_tokens, meaning.operation) == (22, 22, "rerank")

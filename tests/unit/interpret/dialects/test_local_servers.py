"""Ollama, llama.cpp and LM Studio in their own forms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.interpret.reading import read, read_events, read_json


def lines(*each: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in each)


DONE = {"model": "l", "done": True, "done_reason": "stop", "total_duration": 9, "eval_count": 2}


def test_ollama_streams_unless_told_not_to() -> None:
    body = lines({"model": "l", "response": "H", "done": False}, {"response": "i", **DONE, "prompt_eval_count": 5})
    meaning = read(
        body, "/api/generate", "application/x-ndjson", request=b'{"model":"l","prompt":"x"}', family="ollama"
    )
    assert meaning.usage is not None
    assert (meaning.text, meaning.usage.total_tokens, meaning.streaming) == ("Hi", 7, True)
    whole = read_json(
        {"response": "Hi", **DONE, "prompt_eval_count": 5}, "/api/generate", {"stream": False}, family="ollama"
    )
    assert (whole.text, whole.streaming, whole.usage_state) == ("Hi", False, "complete")


def test_ollama_leaves_out_counts_of_zero() -> None:
    meaning = read_json({"message": {"content": "Hi"}, **DONE}, "/api/chat", {"messages": []}, family="ollama")
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.total_tokens) == (0, 2, 2)
    loaded = {"model": "l", "message": {"content": ""}, "done": True, "done_reason": "load"}
    meaning = read_json(loaded, "/api/chat", {"messages": []}, family="ollama")
    assert (meaning.finish_reason_norm, meaning.usage_state) == ("other", "missing")


def test_ollama_sees_pictures() -> None:
    asked = {"model": "l", "messages": [{"role": "user", "content": "what", "images": ["A" * 60]}]}
    meaning = read_json({"message": {"content": "Hi"}, **DONE}, "/api/chat", asked, family="ollama")
    assert [tuple(each) for each in meaning.media] == [("request", "image", 0, 0, 60)]


@pytest.mark.parametrize("target", ["/api/pull", "/api/tags", "/api/show", "/api/version", "/api/ps"])
def test_what_ollama_does_besides(target: str) -> None:
    meaning = read(lines({"status": "pulling"}), target, "application/x-ndjson", family="ollama")
    assert (meaning.operation, meaning.usage_state) == ("metadata", "none")


def test_ollama_in_the_forms_of_others() -> None:
    body = {"object": "chat.completion", "choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 3}}
    assert read_json(body, "/v1/chat/completions", family="ollama").text == "Hi"
    message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}]}
    assert read_json(message, "/v1/messages", family="ollama").operation == "messages"


def test_llamacpp_in_one_piece() -> None:
    timings = {"cache_n": 3, "prompt_n": 2, "prompt_ms": 1.5, "predicted_n": 4, "predicted_ms": 9}
    body = {"content": "Hi", "stop": True, "stop_type": "word", "tokens_evaluated": 5, "tokens_predicted": 4}
    meaning = read_json({**body, "timings": timings}, "/completion", {"prompt": "x"})
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.cache_read_tokens, meaning.usage.output_tokens) == (5, 3, 4)
    assert (meaning.finish_reason_norm, meaning.facts["timings_ms"]) == ("stop", {"prompt": 1.5, "predicted": 9})
    filled = read_json(body, "/infill", {"input_prefix": "a", "input_suffix": "b"})
    assert [each.text for each in filled.prompts] == ["a", "b"]


def test_llamacpp_that_fails() -> None:
    meaning = read_events({"content": "H", "stop": False}, {"error": {"message": "oops"}}, target="/completion")
    assert meaning.error is not None
    assert (meaning.error.message, meaning.complete, meaning.text) == ("oops", False, "H")


def test_llamacpp_is_known_by_its_looks() -> None:
    meaning = read_json({"content": "Hi", "tokens_predicted": 1, "stop": True}, "/somewhere/else")
    assert (meaning.text, meaning.operation) == ("Hi", "text")


def test_lmstudio_in_one_piece() -> None:
    output = [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "tool": "look", "arguments": {"a": 1}, "output": "x"},
        {"type": "message", "content": "Hi"},
    ]
    stats = {"input_tokens": 9, "total_output_tokens": 5, "reasoning_output_tokens": 2, "tokens_per_second": 43.5}
    body = {"model_instance_id": "m", "output": output, "stats": stats, "response_id": "resp_1"}
    meaning = read_json(body, "/api/v1/chat", {"model": "m", "input": "x", "system_prompt": "be brief"})
    assert meaning.usage is not None
    assert (meaning.text, meaning.reasoning, meaning.usage.total_tokens, meaning.response_id) == (
        "Hi",
        "hm",
        14,
        "resp_1",
    )
    assert [tuple(each) for each in meaning.tool_calls] == [(None, "look", '{"a": 1}')]
    assert [tuple(each) for each in meaning.prompts] == [("system", "be brief"), ("user", "x")]


def test_lmstudio_says_its_end_after_an_error() -> None:
    meaning = read_events(
        {"type": "chat.start", "model_instance_id": "m"},
        {"type": "message.delta", "content": "H"},
        {"type": "error", "error": {"type": "internal", "message": "oops"}},
        {"type": "chat.end", "result": {"stats": {"input_tokens": 3}}},
        target="/api/v1/chat",
        named="type",
    )
    assert meaning.error is not None
    assert (meaning.error.message, meaning.complete, meaning.terminator, meaning.text) == (
        "oops",
        False,
        "chat.end",
        "H",
    )


def test_lmstudio_s_older_form_is_that_of_openai() -> None:
    body = {"object": "chat.completion", "choices": [{"message": {"content": "Hi"}}], "stats": {"tokens_per_second": 4}}
    assert read_json(body, "/api/v0/chat/completions").text == "Hi"

"""What the built-in upstream says: event order, framing, usage, and that every form of an answer says the same."""

from __future__ import annotations

import json
import re

import pytest

from tests.unit.forward.demo_partner import (
    CHAT,
    GENERATE,
    MESSAGES,
    SSE_GENERATE,
    STREAM_GENERATE,
    STREAMS,
    ask,
    chat,
    chat_chunks,
    gemini_chunks,
    sse,
)


def test_chat_with_usage() -> None:
    heard = chat(stream=True, stream_options={"include_usage": True})
    chunks = chat_chunks(heard)
    assert 15 <= len(heard.chunks) <= 30
    first, *deltas, finish, last = chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert all(list(chunk["choices"][0]["delta"]) == ["content"] for chunk in deltas)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(deltas) + 1) + ["stop"]
    assert finish["choices"][0]["delta"] == {}
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert last["choices"] == []
    usage = last["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert {chunk["model"] for chunk in chunks} == {"gpt-4o-mini"}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    (chat_id,) = {chunk["id"] for chunk in chunks}
    assert re.fullmatch(r"chatcmpl-demo-[0-9a-f]{24}", chat_id)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_chat_tells_usage_only_when_asked(options: object) -> None:
    heard = chat(stream=True, stream_options=options)
    assert b"usage" not in heard.body
    assert all(chunk["choices"] for chunk in chat_chunks(heard))


def test_chat_leaves_out_obfuscation_when_told() -> None:
    assert b"obfuscation" in chat(stream=True).body
    heard = chat(stream=True, stream_options={"include_obfuscation": False})
    assert b"obfuscation" not in heard.body
    assert chat_chunks(heard)


def test_messages() -> None:
    heard = ask(MESSAGES + "?beta=true", STREAMS[1][1])
    events = sse(heard.body)
    names = [name for name, _ in events]
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert 15 <= len(events) <= 30
    data = [json.loads(data) for _, data in events]
    assert [item["type"] for item in data] == names
    assert any(re.search(r" {3,}\}$", text) for _, text in events), "the padding before the closing brace"
    message = data[0]["message"]
    assert message["model"] == "claude-sonnet-4-5"
    assert re.fullmatch(r"msg_demo[0-9a-f]{24}", message["id"])
    assert message["usage"]["output_tokens"] < data[-2]["usage"]["output_tokens"]
    assert data[-2]["delta"]["stop_reason"] == "end_turn"


def test_gemini() -> None:
    heard = ask(SSE_GENERATE, STREAMS[2][1])
    chunks = gemini_chunks(heard)
    assert len(chunks) == len(heard.chunks)
    assert 15 <= len(chunks) <= 30
    candidates = [chunk["candidates"][0] for chunk in chunks]
    assert [candidate.get("finishReason") for candidate in candidates] == [None] * (len(chunks) - 1) + ["STOP"]
    assert all(len(candidate["safetyRatings"]) == 4 for candidate in candidates)
    counts = [chunk["usageMetadata"]["candidatesTokenCount"] for chunk in chunks]
    assert counts == sorted(set(counts))
    for chunk in chunks:
        usage = chunk["usageMetadata"]
        assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    assert {chunk["modelVersion"] for chunk in chunks} == {"gemini-2.5-flash"}
    assert len({chunk["responseId"] for chunk in chunks}) == 1


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
@pytest.mark.parametrize("colon", [":", "%3A", "%3a"])
def test_gemini_paths(version: str, colon: str) -> None:
    heard = ask(f"/{version}/models/my-model{colon}streamGenerateContent?key=k&alt=sse", {})
    assert gemini_chunks(heard)[0]["modelVersion"] == "my-model"


@pytest.mark.parametrize("query", ["", "?alt=json", "?key=sse"])
def test_gemini_without_sse_is_an_array_in_pieces(query: str) -> None:
    heard = ask(STREAM_GENERATE + query, {})
    assert heard.headers["content-type"] == "application/json; charset=UTF-8"
    assert "content-length" not in heard.headers
    elements = json.loads(heard.body)
    assert len(elements) == len(heard.chunks)
    streamed = gemini_chunks(ask(SSE_GENERATE, {}))
    assert [element["candidates"] for element in elements] == [chunk["candidates"] for chunk in streamed]
    assert all(piece.startswith(b",\r\n{") for piece in heard.chunks[1:])


def test_whole_chat_says_what_the_stream_says() -> None:
    chunks = chat_chunks(chat(stream=True, stream_options={"include_usage": True}))
    whole = chat().document
    (choice,) = whole["choices"]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert choice["message"]["content"] == text
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    assert whole["usage"] == chunks[-1]["usage"]
    assert (whole["object"], whole["model"]) == ("chat.completion", "gpt-4o-mini")
    assert chat(stream=False).document.keys() == whole.keys()


def test_whole_message_says_what_the_stream_says() -> None:
    data = [json.loads(data) for _, data in sse(ask(MESSAGES, {"model": "m", "stream": True}).body)]
    whole = ask(MESSAGES, {"model": "m"}).document
    text = "".join(item["delta"]["text"] for item in data if item["type"] == "content_block_delta")
    assert whole["content"] == [{"type": "text", "text": text}]
    assert whole["usage"] == {**data[0]["message"]["usage"], **data[-2]["usage"]}
    assert (whole["type"], whole["role"], whole["model"], whole["stop_reason"]) == (
        "message",
        "assistant",
        "m",
        "end_turn",
    )


def test_whole_gemini_says_what_the_stream_says() -> None:
    chunks = gemini_chunks(ask(SSE_GENERATE, {}))
    whole = ask(GENERATE, {}).document
    (candidate,) = whole["candidates"]
    text = "".join(chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks)
    assert candidate["content"] == {"parts": [{"text": text}], "role": "model"}
    assert candidate["finishReason"] == "STOP"
    assert whole["usageMetadata"] == chunks[-1]["usageMetadata"]


@pytest.mark.parametrize(("target", "content"), STREAMS)
def test_a_chunk_is_an_event(target: str, content: object) -> None:
    heard = ask(target, content)
    assert heard.log == ["head", *["chunk"] * len(heard.chunks), "end"]
    for chunk in heard.chunks:
        assert len(sse(chunk, "\r\n" if "alt=sse" in target else "\n")) == 1


@pytest.mark.parametrize(("target", "content"), STREAMS)
def test_ids_are_fresh(target: str, content: object) -> None:
    assert ask(target, content).body != ask(target, content).body


def test_heads() -> None:
    openai, anthropic, gemini = (ask(target, content) for target, content in STREAMS)
    for heard in (openai, anthropic, gemini):
        assert (heard.head.status, heard.head.reason, heard.head.bodiless) == (200, b"OK", False)
        assert heard.headers["date"].endswith(" GMT")
        assert "content-length" not in heard.headers
    assert openai.headers["content-type"] == anthropic.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert gemini.headers["content-type"] == "text/event-stream"
    assert openai.headers["x-request-id"].startswith("req_demo")
    assert int(openai.headers["openai-processing-ms"]) > 0
    assert openai.headers["x-ratelimit-limit-requests"] == "30000"
    assert anthropic.headers["request-id"].startswith("req_demo")
    assert anthropic.headers["anthropic-ratelimit-tokens-remaining"] == "399000"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", anthropic.headers["anthropic-ratelimit-tokens-reset"])
    assert [value for name, value in gemini.head.headers if name == b"vary"] == [b"Origin", b"X-Origin", b"Referer"]


def test_models() -> None:
    heard = ask("/v1/models", method="GET")
    assert "gpt-4o-mini" in {model["id"] for model in heard.document["data"]}
    head = ask("/v1/models", method="HEAD")
    assert head.log == ["head", "end"]
    assert head.head.bodiless
    assert head.headers["content-length"] == heard.headers["content-length"]


@pytest.mark.parametrize("model", ['a"b\\c', "naïve 📼", "$id ${model}", "\n\n", '"choices":[],"usage":null', "\0"])
@pytest.mark.parametrize(("target", "content"), STREAMS[:2])
def test_any_model_name_is_echoed(target: str, content: dict[str, object], model: str) -> None:
    usual = ask(target, content)
    heard = ask(target, {**content, "model": model})
    data = [json.loads(data) for _, data in sse(heard.body) if data != "[DONE]"]
    assert data[0].get("message", data[0])["model"] == model
    assert len(heard.chunks) == len(usual.chunks)


def test_without_a_model() -> None:
    assert ask(CHAT, {}).document["model"] == ask(MESSAGES, {}).document["model"] == "wiretape-demo"

"""Whatever was recorded has a meaning, if only a partial one: nothing raises, and what was there is kept."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Meaning, Recording
from tests.support.streams import names, streams
from tests.unit.interpret.reading import read, recording

TARGETS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/m:streamGenerateContent?alt=sse",
    "/v1beta/models/m:generateContent",
    "/v1/embeddings",
    "/api/chat",
    "/v2/chat",
    "/v1/chat",
    "/model/m/converse",
    "/model/m/invoke",
    "/completion",
    "/api/v1/chat",
    "/v1/images/generations",
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
    "/v1/interactions",
    "/v1/conversations",
    "/v1/ocr",
    "/nobody/knows",
)
KINDS = ("text/event-stream", "application/json", "application/x-ndjson", "", "audio/mpeg", "text/plain")
KEYS = [
    "id",
    "object",
    "model",
    "choices",
    "delta",
    "message",
    "content",
    "text",
    "index",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "error",
    "type",
    "code",
    "response",
    "output",
    "output_index",
    "item",
    "summary",
    "status",
    "incomplete_details",
    "reason",
    "content_block",
    "partial_json",
    "input_tokens",
    "output_tokens",
    "cache_creation",
    "iterations",
    "candidates",
    "parts",
    "functionCall",
    "args",
    "usageMetadata",
    "promptTokenCount",
    "promptFeedback",
    "blockReason",
    "safetyRatings",
    "partialArgs",
    "jsonPath",
    "stringValue",
    "numberValue",
    "willContinue",
    "stop_details",
    "innererror",
    "content_filter_result",
    "details",
    "retryDelay",
    "detail",
    "action",
    "to",
    "category",
    "candidatesTokensDetails",
    "modality",
    "tokenCount",
    "thought",
    "x_groq",
    "timings",
    "prompt_n",
    "predicted_n",
    "prompt_filter_results",
    "content_filter_results",
    "cost",
    "cost_in_usd_ticks",
]
WORDS = [
    "message_start",
    "message_delta",
    "content_block_delta",
    "content_block_start",
    "text_delta",
    "input_json_delta",
    "response.completed",
    "response.output_text.delta",
    "response.output_item.added",
    "error",
    "function_call",
    "message",
    "reasoning",
    "completed",
    "tool_use",
    "fallback",
    "fallback_message",
    "compaction",
    "refusal",
    "web_search_call",
    "$.a[0].b",
    "content_filter",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**63, 2**70, 1.5, 1e300, float("inf"), float("nan")])
    | st.sampled_from(WORDS)
    | st.text(max_size=4)
)
HOSTILE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)


def survives(meaning: Meaning) -> None:
    """The types are those that were promised, whatever came."""
    assert isinstance(meaning.text, str)
    meaning.text.encode()
    meaning.reasoning.encode()
    usage = meaning.usage
    if usage is not None:
        counts = [getattr(usage, name) for name in usage.__slots__ if name != "others"]
        assert all(count is None or (type(count) is int and count >= 0) for count in counts)
    assert meaning.usage_state in (None, "complete", "partial", "derived", "missing", "none", "non_token")
    for call in meaning.tool_calls:
        assert isinstance(call.arguments, str)


@settings(max_examples=300)
@given(st.sampled_from(TARGETS), HOSTILE, st.lists(HOSTILE, min_size=1, max_size=4), st.booleans())
def test_any_json(target: str, asked: Any, answers: list[Any], stream: bool) -> None:
    if stream:
        body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in answers)
        survives(read(body, target, request=json.dumps(asked).encode()))
    else:
        body, request = json.dumps(answers[0]).encode(), json.dumps(asked).encode()
        survives(read(body, target, "application/json", request=request))
        survives(read(body, target, "application/json", request=request, status=400))


@given(
    st.sampled_from(TARGETS),
    st.sampled_from(KINDS),
    st.binary(max_size=200),
    st.binary(max_size=100),
    st.sampled_from([200, 206, 404, 529, 101]),
    st.sampled_from(["gzip", "br", "zstd", "deflate", "", "gzip, gzip", "x-none"]),
)
def test_any_bytes(target: str, kind: str, body: bytes, request: bytes, status: int, coding: str) -> None:
    headers = [("Content-Encoding", coding)]
    survives(read(body, target, kind, status=status, request=request, headers=headers))


@pytest.mark.parametrize("name", names())
def test_cut_off_anywhere(name: str) -> None:
    """It keeps what was there, and is complete only once its last event was seen."""
    stream = streams()[name]
    whole = interpret(recording(stream))
    for end in range(0, len(stream.body), 3):
        meaning = interpret(recording(stream, [stream.body[:end]], whole=False))
        survives(meaning)
        assert whole.text.startswith(meaning.text.rstrip("\ufffd")) or stream.name.startswith("openai-responses")
        if meaning.usage_state == "complete":
            assert meaning.terminated
        assert not (meaning.complete and not meaning.terminated and meaning.events is not None)


@given(st.data())
def test_flipped_bits(data: st.DataObject) -> None:
    stream = streams()[data.draw(st.sampled_from(names()))]
    body = bytearray(stream.body)
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    survives(interpret(recording(stream, [bytes(body)])))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"usage": {"prompt_tokens": 1e999, "completion_tokens": -5, "total_tokens": ' + b"9" * 400 + b"}}",
        b'{"id": "a", "id": 5, "id": "b", "choices": [{"message": {"content": "\\ud83d"}}]}',
        b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
        b'{"choices": NaN, "usage": Infinity}',
        b"",
        b"null",
        b'"text"',
    ],
)
def test_json_that_means_harm(target: str, body: bytes) -> None:
    survives(read(body, target, "application/json", request=body))
    survives(read(b"data: " + body + b"\n\n", target, request=body))


@pytest.mark.parametrize("piece", ["/deployments/a", "/models/b:", "/chat", "%2F", "/a"])
def test_paths_that_mean_harm(piece: str) -> None:
    """A quarter of a megabyte of them, as long as heads may be, is read as fast as any other."""
    began = time.process_time()
    for number in range(20):
        assert (
            read(b"{}", piece * (250_000 // len(piece)) + f"/{number}/completions", "application/json").operation
            == "text"
        )
    assert time.process_time() - began < 10


def test_surrogates_that_were_cut_between_two_deltas() -> None:
    events = [
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\udcfc"}}]}\n\n',
    ]
    assert read(b"".join(events)).text == "📼"


def test_the_text_of_one_exchange_is_bounded() -> None:
    event = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % (b"x" * 2**20)
    meaning = interpret(
        Recording("", "POST", TARGETS[0], [], 200, [("content-type", KINDS[0])], [], [(1, event)] * 20, whole=True)
    )
    assert len(meaning.text) == 8 * 2**20
    assert meaning.problem is not None
    assert meaning.events == 20


def test_memory_is_bounded_by_the_largest_event() -> None:
    """64 MiB of events, of which little is text, take the room of a few of them."""
    event = b'data: {"choices":[{"delta":{"content":"x"}}],"padding":"%s"}\n\n' % (b"p" * 65536)
    kind = [("content-type", KINDS[0])]
    pieces = ((number, event) for number in range(1000))
    tracemalloc.start()
    try:
        meaning = interpret(Recording("", "POST", TARGETS[0], [], 200, kind, [], pieces, whole=True))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert meaning.text == "x" * 1000
    assert peak < 2 * 2**20

"""Pictures and sounds stay where they were recorded: named by chunks, never copied, little memory for large ones."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Meaning, Recording
from tests.support.aws import event
from tests.support.websocket import Frame, Op

SIZE = 12 * 2**20
CHUNK = 64 * 1024
SSE = [("Content-Type", "text/event-stream")]
JSON = [("Content-Type", "application/json")]


def _event(data: str) -> bytes:
    return b'data: {"type":"image_generation.completed","b64_json":"%s","usage":{"input_tokens":1}}\n\n' % data.encode()


def _chat(data: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"audio":{"data":"%s"}}}]}\n\ndata: [DONE]\n\n' % data.encode()


def _socket(data: str) -> bytes:
    return Frame(Op.TEXT, json.dumps({"type": "response.output_audio.delta", "delta": data}).encode()).encode()


def _gemini(data: str) -> bytes:
    part = {"inlineData": {"mimeType": "image/png", "data": data}}
    return b"data: %s\r\n\r\n" % json.dumps({"candidates": [{"content": {"parts": [part]}}]}).encode()


def _images(data: str) -> bytes:
    return json.dumps({"data": [{"b64_json": data}]}).encode()


def _bedrock(data: str) -> bytes:
    return event("contentBlockStart", {"contentBlockIndex": 0, "start": {"image": {"source": {"bytes": data}}}})


FORMS: dict[str, tuple[str, int, list[tuple[str, str]], Callable[[str], bytes]]] = {
    "image event": ("/v1/images/generations", 200, SSE, _event),
    "spoken chat": ("/v1/chat/completions", 200, SSE, _chat),
    "gemini": ("/v1/models/m:streamGenerateContent", 200, SSE, _gemini),
    "one json": ("/v1/images/generations", 200, JSON, _images),
    "realtime": ("/v1/realtime", 101, [("Upgrade", "websocket")], _socket),
    "bedrock": ("/model/m/converse-stream", 200, [("Content-Type", "application/vnd.amazon.eventstream")], _bedrock),
}


def meaning_of(form: str, pieces: Iterator[tuple[int, bytes]]) -> Meaning:
    target, status, headers, _ = FORMS[form]
    method = "GET" if status == 101 else "POST"
    return interpret(Recording("", method, target, [], status, headers, [], pieces, whole=True))


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """As the store gives them: one at a time."""
    return ((at, data[at : at + CHUNK]) for at in range(0, len(data), CHUNK))


@pytest.mark.parametrize("form", FORMS)
def test_a_large_one_takes_at_most_twice_its_size(form: str) -> None:
    body = FORMS[form][3]("A" * SIZE)
    meaning_of(form, chunks(FORMS[form][3]("A")))  # what is loaded at the first time
    tracemalloc.start()
    try:
        meaning = meaning_of(form, chunks(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (medium,) = meaning.media
    assert (medium.first, medium.last) == (0, (len(body) - 1) // CHUNK)
    assert medium.size == SIZE
    assert peak < 2 * len(body) + 2**20, f"{peak / len(body):.2f} times the size"
    kept: Any = (meaning.text, meaning.facts, meaning.usage_raw, meaning.tool_calls, meaning.prompts)
    assert "AAAA" not in repr(kept)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "one json"])
def test_the_chunks_are_those_that_hold_it(form: str) -> None:
    """An event in the chunks 2 to 4, after one that is something else."""
    before = FORMS[form][3]("")
    data = FORMS[form][3]("A" * 90)
    third = len(data) // 3
    pieces = [before, b"", data[:third], data[third : 2 * third], data[2 * third :]]
    if form == "spoken chat":
        pieces[0] = b'data: {"choices":[]}\n\n'
    meaning = meaning_of(form, iter(enumerate(pieces)))
    (medium,) = meaning.media
    first = 1  # an empty chunk may be where it begins
    assert (medium.first, medium.last, medium.size) == (first, 4, 90)

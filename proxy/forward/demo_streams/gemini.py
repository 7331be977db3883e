"""The demo's Gemini: generateContent and streamGenerateContent, the latter as server-sent events or as a JSON array."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec

from proxy.forward.demo_streams.provider import (
    BEFORE_HEAD,
    MAX_MODEL_NAME,
    Headers,
    Reply,
    Unreadable,
    event_data,
    events,
    fresh,
    pauses,
    read,
    stream_text,
    streamed,
    whole,
    written,
)

GENERATE = "/v1beta/models/{model}:streamGenerateContent"

_PATH = re.compile(r"/(?:v1|v1beta|v1alpha)/models/(?P<model>.+):(?P<verb>streamGenerateContent|generateContent)")
_JSON = "application/json; charset=UTF-8"
_STATUS = {400: "INVALID_ARGUMENT", 405: "UNIMPLEMENTED", 413: "INVALID_ARGUMENT"}


class Gemini:
    """A provider.Provider. Its lines end in CRLF on the wire, and in LF in the file, where tools may rewrite them."""

    def __init__(self) -> None:
        self._text = stream_text("gemini.sse")

    def methods(self, path: str) -> tuple[bytes, ...]:
        return (b"POST",) if _PATH.fullmatch(path) else ()

    def answer(self, path: str, query: str, body: bytes) -> Reply:
        read(body, dict[str, msgspec.Raw])
        found = _PATH.fullmatch(path)
        assert found is not None
        model = found["model"]
        if len(model) > MAX_MODEL_NAME:
            raise Unreadable(f"the model's name has more than {MAX_MODEL_NAME} characters")
        said = events(self._text, {"id": fresh("demo"), "model": model})
        if found["verb"] == "generateContent":
            headers = _headers(_JSON, sum(pauses(len(said))))
            return written(headers, _indented(_complete(said)) + b"\n", len(said))
        if parse_qs(query).get("alt", [""])[-1] == "sse":
            headers = [*_headers("text/event-stream", BEFORE_HEAD), ("content-disposition", "attachment")]
            return streamed(headers, [event.replace("\n", "\r\n").encode() for event in said])
        return streamed(_headers(_JSON, BEFORE_HEAD), _array(said))

    def refuse(self, status: int, message: str) -> Reply:
        error = {"code": status, "message": message, "status": _STATUS[status]}
        return whole(status, _headers(_JSON, 0.003), _indented({"error": error}) + b"\n")


def _array(said: Sequence[str]) -> list[bytes]:
    """The chunks as the elements of one array, each sent as it comes."""
    parts = [b",\r\n" + _indented(msgspec.json.decode(event_data(event))) for event in said]
    parts[0] = b"[" + parts[0].removeprefix(b",\r\n")
    parts[-1] += b"]"
    return parts


def _complete(said: Sequence[str]) -> dict[str, Any]:
    """The response that a client gets who did not ask for a stream: what the stream says, put together."""
    chunks = [msgspec.json.decode(event_data(event)) for event in said]
    text = "".join(part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"])
    last: dict[str, Any] = chunks[-1]
    candidate = {**last["candidates"][0], "content": {"parts": [{"text": text}], "role": "model"}}
    return {**last, "candidates": [candidate]}


def _indented(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _headers(content_type: str, seconds: float) -> Headers:
    return [
        ("content-type", content_type),
        ("vary", "Origin"),
        ("vary", "X-Origin"),
        ("vary", "Referer"),
        ("server", "scaffolding on HTTPServer2"),
        ("x-xss-protection", "0"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-content-type-options", "nosniff"),
        ("server-timing", f"gfet4t7; dur={round(seconds * 1000)}"),
    ]

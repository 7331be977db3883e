"""The demo's Anthropic: messages, streamed and not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from proxy.forward.demo_streams.provider import (
    DEFAULT_MODEL,
    Headers,
    ModelName,
    Reply,
    event_data,
    events,
    fresh,
    read,
    stream_text,
    streamed,
    whole,
    written,
)

MESSAGES = "/v1/messages"

_LIMITS = {
    "requests": (4000, 3999),
    "tokens": (400000, 399000),
    "input-tokens": (80000, 80000),
    "output-tokens": (16000, 16000),
}


class _Messages(msgspec.Struct):
    model: ModelName = DEFAULT_MODEL
    stream: bool | None = False


class Anthropic:
    """A provider.Provider."""

    def __init__(self) -> None:
        self._text = stream_text("anthropic.sse")

    def methods(self, path: str) -> tuple[bytes, ...]:
        return (b"POST",) if path == MESSAGES else ()

    def answer(self, path: str, query: str, body: bytes) -> Reply:
        asked = read(body, _Messages)
        said = events(self._text, {"id": fresh("msg_demo"), "model": asked.model})
        request_id = fresh("req_demo")
        if asked.stream:
            headers = [*_headers("text/event-stream; charset=utf-8", request_id), ("cache-control", "no-cache")]
            return streamed(headers, [event.encode() for event in said])
        return written(_headers("application/json", request_id), msgspec.json.encode(_complete(said)), len(said))

    def refuse(self, status: int, message: str) -> Reply:
        request_id = fresh("req_demo")
        error = {"type": "request_too_large" if status == 413 else "invalid_request_error", "message": message}
        document = {"type": "error", "error": error, "request_id": request_id}
        return whole(status, _headers("application/json", request_id), msgspec.json.encode(document))


def _complete(said: Sequence[str]) -> dict[str, Any]:
    """The message that a client gets who did not ask for a stream: what the stream says, put together."""
    message: dict[str, Any] = {}
    text = ""
    for event in said:
        data = msgspec.json.decode(event_data(event))
        match data["type"]:
            case "message_start":
                message = data["message"]
            case "content_block_delta":
                text += data["delta"]["text"]
            case "message_delta":
                message |= data["delta"]
                message["usage"] |= data["usage"]
    return {**message, "content": [{"type": "text", "text": text}]}


def _headers(content_type: str, request_id: str) -> Headers:
    reset = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers = [("content-type", content_type), ("request-id", request_id)]
    for kind, (limit, remaining) in _LIMITS.items():
        headers.append((f"anthropic-ratelimit-{kind}-limit", str(limit)))
        headers.append((f"anthropic-ratelimit-{kind}-remaining", str(remaining)))
        headers.append((f"anthropic-ratelimit-{kind}-reset", reset))
    headers.append(("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"))
    return headers

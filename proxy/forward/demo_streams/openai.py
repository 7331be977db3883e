"""The demo's OpenAI: chat completions, streamed and not, and a list of models."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.forward.demo_streams.provider import (
    BEFORE_HEAD,
    DEFAULT_MODEL,
    Headers,
    ModelName,
    Reply,
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

CHAT = "/v1/chat/completions"
MODELS = "/v1/models"

_METHODS: dict[str, tuple[bytes, ...]] = {CHAT: (b"POST",), MODELS: (b"GET", b"HEAD")}
_LISTED = ("gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash", DEFAULT_MODEL)
_CODES = {404: "unknown_url", 405: "method_not_supported"}

_OBFUSCATION = re.compile(r',"obfuscation":"[^"]*"')
_NO_USAGE = ',"usage":null'
_USAGE_EVENT = '"choices":[],'
_DONE = "data: [DONE]"


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False
    include_obfuscation: bool | None = True


class _Chat(msgspec.Struct):
    model: ModelName = DEFAULT_MODEL
    stream: bool | None = False
    stream_options: _StreamOptions | None = None


class OpenAI:
    """A provider.Provider; its stream file is what a client gets that asks for usage."""

    def __init__(self) -> None:
        self._text = stream_text("openai.sse")

    def methods(self, path: str) -> tuple[bytes, ...]:
        return _METHODS.get(path, ())

    def answer(self, path: str, query: str, body: bytes) -> Reply:
        if path == MODELS:
            return _whole(200, {"object": "list", "data": [_listed(name) for name in _LISTED]})
        chat = read(body, _Chat)
        if not chat.stream:
            said = self._events(chat.model, _StreamOptions())
            seconds = sum(pauses(len(said)))
            return written(_headers("application/json", seconds), _indented(_complete(said)), len(said))
        options = chat.stream_options or _StreamOptions()
        said = self._events(chat.model, options)
        if not options.include_usage:
            said = [event.replace(_NO_USAGE, "") for event in said if _USAGE_EVENT not in event]
        headers = _headers("text/event-stream; charset=utf-8", BEFORE_HEAD)
        return streamed(headers, [event.encode() for event in said])

    def refuse(self, status: int, message: str) -> Reply:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": _CODES.get(status)}
        return _whole(status, {"error": error})

    def _events(self, model: str, options: _StreamOptions) -> list[str]:
        text = self._text if options.include_obfuscation in (True, None) else _OBFUSCATION.sub("", self._text)
        return events(text, {"id": fresh("chatcmpl-demo-"), "created": str(int(time.time())), "model": model})


def _complete(said: Sequence[str]) -> dict[str, Any]:
    """The object that a client gets who did not ask for a stream: what the stream says, put together."""
    chunks = [msgspec.json.decode(event_data(event)) for event in said if not event.startswith(_DONE)]
    *choices, finish, last = chunks
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in choices)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {**finish["choices"][0], "message": message}
    del choice["delta"]
    return {
        "id": last["id"],
        "object": "chat.completion",
        "created": last["created"],
        "model": last["model"],
        "choices": [choice],
        "usage": last["usage"],
        "service_tier": last["service_tier"],
        "system_fingerprint": last["system_fingerprint"],
    }


def _listed(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1726617600, "owned_by": DEFAULT_MODEL}


def _whole(status: int, document: object) -> Reply:
    return whole(status, _headers("application/json", 0.003), _indented(document))


def _indented(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _headers(content_type: str, seconds: float) -> Headers:
    return [
        ("content-type", content_type),
        ("access-control-expose-headers", "X-Request-ID"),
        ("openai-organization", DEFAULT_MODEL),
        ("openai-processing-ms", str(round(seconds * 1000))),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "30000"),
        ("x-ratelimit-limit-tokens", "150000000"),
        ("x-ratelimit-remaining-requests", "29999"),
        ("x-ratelimit-remaining-tokens", "149999967"),
        ("x-ratelimit-reset-requests", "2ms"),
        ("x-ratelimit-reset-tokens", "0s"),
        ("x-request-id", fresh("req_demo")),
    ]

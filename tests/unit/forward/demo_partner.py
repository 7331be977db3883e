"""Asks the built-in upstream and keeps what it tells its listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from proxy.forward.demo import DemoUpstream
from proxy.wire.interface import (
    RawHeaders,
    Upload,
    Upstream,
    UpstreamError,
    UpstreamExchange,
    UpstreamRequest,
    UpstreamResponse,
)

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
GENERATE = "/v1beta/models/gemini-2.5-flash:generateContent"
STREAM_GENERATE = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
SSE_GENERATE = STREAM_GENERATE + "?alt=sse"

STREAMS = [
    (CHAT, {"model": "gpt-4o-mini", "stream": True, "stream_options": {"include_usage": True}}),
    (MESSAGES, {"model": "claude-sonnet-4-5", "max_tokens": 64, "stream": True}),
    (SSE_GENERATE, {"contents": [{"parts": [{"text": "a joke, please"}]}]}),
]
DEADLINE = 20.0
MANY_TURNS = 200  # of the event loop; far more than a whole answer takes at pace 0


class Heard:
    """A wire.interface.UpstreamListener that keeps what it is told; `react` is called after each event.

    It judges nothing: what a callback raises, the event loop only logs.
    """

    def __init__(self, react: Callable[[Heard], None] | None = None) -> None:
        self.log: list[str] = []
        self.heads: list[UpstreamResponse] = []
        self.chunks: list[bytes] = []
        self.times: list[float] = []
        self.flushes = 0
        self.exchange: UpstreamExchange | None = None
        self.told = asyncio.Event()
        self.over = asyncio.Event()
        self._react = react

    def _note(self, what: str) -> None:
        self.log.append(what)
        self.times.append(asyncio.get_running_loop().time())
        self.told.set()
        if what == "end":
            self.over.set()
        if self._react is not None:
            self._react(self)

    def on_interim(self, response: UpstreamResponse) -> None:
        self._note("interim")

    def on_head(self, response: UpstreamResponse) -> None:
        self.heads.append(response)
        self._note("head")

    def on_upgraded(self, response: UpstreamResponse) -> None:
        self._note("upgraded")

    def on_chunk(self, data: bytes) -> None:
        self.chunks.append(data)
        self._note("chunk" if data else "empty chunk")

    def on_data(self, data: bytes) -> None:
        self.on_chunk(data)
        self.flush()

    def on_end(self, trailers: RawHeaders) -> None:
        self._note("trailers" if trailers else "end")

    def on_broken(self, error: UpstreamError) -> None:
        self._note("broken")

    def flush(self) -> None:
        self.flushes += 1

    def pause_upload(self) -> None:
        self._note("pause upload")

    def resume_upload(self) -> None:
        self._note("resume upload")

    @property
    def head(self) -> UpstreamResponse:
        (head,) = self.heads
        return head

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.head.headers}

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def document(self) -> Any:
        assert int(self.headers["content-length"]) == len(self.body)
        return json.loads(self.body)


def request(target: str, method: str = "POST") -> UpstreamRequest:
    return UpstreamRequest(method.encode(), target.encode(), b"", chunked=False)


def as_body(content: object) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


async def turns(count: int = MANY_TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def hear(target: str, content: object = b"", method: str = "POST", pace: float = 0.0) -> Heard:
    heard = Heard()
    upstream: Upstream = DemoUpstream(pace)
    assert upstream.start(request(target, method), heard, Upload(as_body(content))) is not None
    await asyncio.wait_for(heard.over.wait(), DEADLINE)
    await turns(3)
    assert heard.log == ["head", *["chunk"] * len(heard.chunks), "end"]
    assert heard.flushes == len(heard.log), "an event a flush, or it would not go out before the next"
    return heard


def ask(target: str, content: object = b"", method: str = "POST", pace: float = 0.0) -> Heard:
    """All that the demo says to one request."""
    return asyncio.run(hear(target, content, method, pace))


def sse(body: bytes, line_end: str = "\n") -> list[tuple[str | None, str]]:
    """The events of a stream of this one line end as (name, data); fails on anything but `event` and `data` lines."""
    text = body.decode()
    assert text.endswith(line_end * 2)
    assert "\r" not in text.replace(line_end, "")
    events = []
    for block in text.removesuffix(line_end * 2).split(line_end * 2):
        fields = dict(line.split(": ", 1) for line in block.split(line_end))
        assert fields.keys() <= {"event", "data"}
        events.append((fields.get("event"), fields["data"]))
    return events


def chat(**body: Any) -> Heard:
    return ask(CHAT, {"model": "gpt-4o-mini", **body})


def chat_chunks(heard: Heard) -> list[dict[str, Any]]:
    events = sse(heard.body)
    assert events[-1] == (None, "[DONE]")
    return [json.loads(data) for _, data in events[:-1]]


def gemini_chunks(heard: Heard) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data in sse(heard.body, "\r\n") if name is None]

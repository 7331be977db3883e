"""The built-in upstream: answers like OpenAI, Anthropic and Gemini without a network, a key or a bill.

It plays made-up streams at a model's pace from timers of the event loop, and like any upstream it may look into the
bodies it gets. What is said, and in whose form, is demo_streams'. Must not know sockets, relay, journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from urllib.parse import unquote

from proxy.forward.demo_streams import anthropic, gemini, openai
from proxy.forward.demo_streams.provider import Provider, Reply, Unreadable
from proxy.wire.interface import RawHeaders, Upload, UpstreamListener, UpstreamRequest, UpstreamResponse

MAX_BODY = 1024 * 1024  # bytes of a request that are kept, to be looked into

_NOT_FOUND = (
    f"The demo has no such path; it answers POST to {openai.CHAT}, {anthropic.MESSAGES} "
    f"and {gemini.GENERATE} (or :generateContent), and GET to {openai.MODELS}."
)
_TOO_LARGE = f"The demo reads requests of at most {MAX_BODY} bytes; send a shorter one."


class DemoUpstream:
    """A wire.interface.Upstream that is always there.

    `pace` multiplies the pauses between events, which make about two seconds for an answer; 0 leaves none, and still
    tells one event per turn of the event loop. Nothing is answered before the request is complete.
    """

    def __init__(self, pace: float = 1.0) -> None:
        self._pace = pace
        self._openai = openai.OpenAI()
        self._providers: tuple[Provider, ...] = (self._openai, anthropic.Anthropic(), gemini.Gemini())

    def start(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> DemoExchange:
        """Begin; needs a running event loop. The listener hears nothing before this has returned."""
        exchange = DemoExchange(partial(self._reply, request), request.method == b"HEAD", listener, self._pace)
        if upload.body:
            exchange.write(upload.body)
        if upload.complete:
            exchange.end([])
        return exchange

    async def connect(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> DemoExchange:
        return self.start(request, listener, upload)

    def close(self) -> None:
        """Nothing waits in a pool."""

    def _reply(self, request: UpstreamRequest, body: bytes | None) -> Reply:
        """What to answer; `body` is None where it was too long to keep."""
        path, _, query = request.target.decode("latin-1").partition("?")
        path = unquote(path)
        provider: Provider
        for provider in self._providers:
            methods = provider.methods(path)
            if methods:
                break
        else:
            return self._openai.refuse(404, _NOT_FOUND)
        if request.method not in methods:
            allowed = b", ".join(methods)
            refusal = provider.refuse(405, f"This path takes {allowed.decode()} and no other method.")
            return replace(refusal, headers=[*refusal.headers, (b"allow", allowed)])
        if body is None:
            return provider.refuse(413, _TOO_LARGE)
        try:
            return provider.answer(path, query, body)
        except Unreadable as error:
            return provider.refuse(400, f"The demo cannot answer: {error}.")


class DemoExchange:
    """A wire.interface.UpstreamExchange: takes a request, then plays the reply to its listener, a callback an event."""

    def __init__(
        self, reply: Callable[[bytes | None], Reply], bodiless: bool, listener: UpstreamListener, pace: float
    ) -> None:
        self._reply = reply
        self._bodiless = bodiless
        self._listener = listener
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._body: bytearray | None = bytearray()
        self._complete = False
        self._paused = False
        self._steps: Iterator[tuple[float, Callable[[], None]]] = iter(())
        self._next: Callable[[], None] | None = None  # what the listener is told next, at `_due`
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        if self._complete or self._body is None:
            return
        self._body += data
        if len(self._body) > MAX_BODY:
            self._body = None

    def end(self, trailers: RawHeaders) -> None:
        if self._complete:
            return
        self._complete = True
        body, self._body = self._body, None
        self._steps = self._play(self._reply(None if body is None else bytes(body)))
        self._take_next()

    def pause(self) -> None:
        self._paused = True
        self._disarm()

    def resume(self) -> None:
        self._paused = False
        if self._next is not None and self._timer is None:
            self._arm()

    def abort(self) -> None:
        self._complete = True
        self._body = None
        self._steps = iter(())
        self._next = None
        self._disarm()

    def _play(self, reply: Reply) -> Iterator[tuple[float, Callable[[], None]]]:
        """What to tell the listener, each with the seconds to wait before."""
        reason = HTTPStatus(reply.status).phrase.encode()
        head = UpstreamResponse(reply.status, reason, reply.headers, self._bodiless)
        before_head, *before_parts = reply.pauses
        yield before_head, partial(self._listener.on_head, head)
        if not self._bodiless:
            for pause, part in zip(before_parts, reply.parts, strict=True):
                yield pause, partial(self._listener.on_chunk, part)
        yield 0.0, partial(self._listener.on_end, [])

    def _take_next(self) -> None:
        step = next(self._steps, None)
        if step is None:
            self._next = None
            return
        pause, self._next = step
        self._due = self._loop.time() + pause * self._pace
        if not self._paused:
            self._arm()

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._due, self._tell)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        tell = self._next
        assert tell is not None
        self._timer = None
        # Before the listener hears of this one: it may well pause, resume or abort in answer.
        self._take_next()
        tell()
        self._listener.flush()

"""The load client: keep-alive connections in a closed loop, every body checked byte by byte.

Written on asyncio and httptools alone, so that it costs less than whatever it measures. Must not know which target
answers, nor its processes.
"""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

import httptools

from tests.bench.upstream import COMPLETION, PATH, STAMP, STAMP_DIGITS, blank_times, request_text, stream_body

_STAMP_LENGTH = len("sent ") + STAMP_DIGITS
_PATIENCE = 30.0  # seconds beyond its plan after which a phase is given up
_WATCH_EVERY = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Phase:
    """What is asked for. `chunks` 0: plain answers. `once`: one request per connection, whatever `seconds` says.

    `writes`: the times of writes to the journal are of interest. `disk`: something else keeps the disk busy meanwhile.
    """

    name: str
    seconds: float
    connections: int
    chunks: int = 0
    pause_ms: float = 0.0
    once: bool = False
    writes: bool = False
    disk: bool = False

    @property
    def unit(self) -> str:
        """What CPU time is divided by: `chunk` or `request`."""
        return "chunk" if self.chunks else "request"


@dataclass(slots=True)
class Tally:
    """What a phase came to. `delays`: ns per request, of a stream per chunk (received minus sent by the upstream)."""

    sent: int = 0
    perfect: int = 0
    failed: int = 0
    chunks: int = 0
    reads: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    seconds: float = 0.0
    delays: array[int] = field(default_factory=lambda: array("q"))
    first_delays: array[int] = field(default_factory=lambda: array("q"))
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def imperfect(self) -> int:
        """Requests answered with 200 and a complete message whose body is not what the upstream sent."""
        return self.sent - self.perfect - self.failed

    def fail(self, reason: str) -> None:
        self.failed += 1
        self.errors[reason] += 1


@dataclass(slots=True)
class _Reply:
    sent_ns: int
    status: int = 0
    parts: list[bytes] = field(default_factory=list)
    reads: int = 0
    stamps: int = 0
    first_ns: int = 0
    end_ns: int = 0
    keep_alive: bool = False
    surplus: bool = False  # bytes came behind its end
    error: str = ""


class _Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time; every reply ends its future, none raises."""

    def __init__(self, delays: array[int] | None) -> None:
        self._delays = delays  # None: the bodies hold no times
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[_Reply] | None = None
        self._reply = _Reply(0)
        self._tail = b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._finish(f"connection lost before the end: {exc!r}" if exc else "connection closed before the end")

    def request(self, payload: bytes) -> asyncio.Future[_Reply]:
        """Send it; the future ends with the reply, broken or not."""
        self._reply, self._done = _Reply(time.monotonic_ns()), self._loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._tail = b""
        future = self._done
        self._transport.write(payload)
        return future

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            self._reply.surplus = True
            return
        self._reply.reads += 1
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._reply.surplus = self._done is None
            self._finish(f"not HTTP: {error}")

    def on_message_begin(self) -> None:
        if self._done is None:
            self._reply.surplus = True

    def on_headers_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self._reply.parts.append(data)
        if self._delays is not None:
            self._read_times(data, time.monotonic_ns())

    def on_message_complete(self) -> None:
        self._reply.keep_alive = self._parser.should_keep_alive()
        self._finish()

    def _read_times(self, data: bytes, now: int) -> None:
        reply, delays = self._reply, cast("array[int]", self._delays)
        text = self._tail + data if self._tail else data
        end = 0
        for stamp in STAMP.finditer(text):
            delays.append(now - int(stamp[1]))
            reply.stamps += 1
            end = stamp.end()
        reply.first_ns = reply.first_ns or now
        # A time may be cut anywhere; after a whole event there is nothing to keep.
        self._tail = b"" if data.endswith(b"\n\n") else text[max(end, len(text) - _STAMP_LENGTH + 1) :]

    def _finish(self, error: str = "") -> None:
        if self._done is None:
            return
        self._reply.end_ns, self._reply.error = time.monotonic_ns(), error
        if not self._done.done():
            self._done.set_result(self._reply)
        self._done = None


class _Load:
    def __init__(self, base_url: str, phase: Phase) -> None:
        url = urlsplit(base_url)
        self.host, self.port = cast(str, url.hostname), cast(int, url.port)
        self.phase, self.tally = phase, Tally()
        self.body, self.payload = _request(url.path.rstrip("/") + PATH, url.netloc, phase)
        self.expected = stream_body(phase.chunks) if phase.chunks else COMPLETION
        self.open: set[_Connection] = set()
        self.stop_at = time.monotonic() + phase.seconds
        self.given_up = False

    def give_up(self) -> None:
        """End the phase: what still runs counts as failed."""
        self.given_up = True
        for connection in tuple(self.open):
            connection.abort()

    async def worker(self, number: int) -> None:
        if self.phase.pause_ms:  # spread over one pause, or all streams would send in step
            await asyncio.sleep(self.phase.pause_ms / 1000 * number / self.phase.connections)
        connection: _Connection | None = None
        while not self.given_up:
            connection = await self._exchange(connection)
            if self.phase.once or time.monotonic() >= self.stop_at:
                break
        if connection:
            self._drop(connection)

    async def _exchange(self, connection: _Connection | None) -> _Connection | None:
        """One request; the connection if it may carry another."""
        if connection is None or connection.closed:
            connection = await self._connect()
        if connection is None:
            await asyncio.sleep(0.05)  # a target that refuses must not turn the client into a busy loop
            return None
        self.tally.sent += 1
        reply = await connection.request(self.payload)
        good = self._judge(reply)
        if good and reply.keep_alive:
            return connection
        self._drop(connection)
        if not good:
            await asyncio.sleep(0.05)
        return None

    async def _connect(self) -> _Connection | None:
        delays = self.tally.delays if self.phase.chunks else None
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(delays), self.host, self.port)
        except OSError as error:
            self.tally.sent += 1
            self.tally.fail(f"no connection: {error}")
            return None
        self.open.add(connection)
        return connection

    def _drop(self, connection: _Connection) -> None:
        self.open.discard(connection)
        connection.abort()

    def _judge(self, reply: _Reply) -> bool:
        tally, body = self.tally, b"".join(reply.parts)
        tally.request_bytes += len(self.body)
        tally.response_bytes += len(body)
        if reply.error or reply.status != HTTPStatus.OK:
            tally.fail(f"{reply.status} {reply.error or body[:150]!r}")
            return False
        tally.reads += reply.reads
        tally.chunks += reply.stamps
        if self.phase.chunks:
            if reply.first_ns:
                tally.first_delays.append(reply.first_ns - reply.sent_ns)
            good = reply.stamps == self.phase.chunks and blank_times(body, self.phase.chunks) == self.expected
        else:
            tally.delays.append(reply.end_ns - reply.sent_ns)
            good = body == self.expected
        good = good and not reply.surplus
        tally.perfect += good
        if not good:
            tally.errors["a body is not what the upstream sent"] += 1
        return good


def _request(path: str, host: str, phase: Phase) -> tuple[bytes, bytes]:
    """The body, and head and body joined."""
    prompt = "You are a benchmark. " * 10
    message = {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": prompt},
            {"role": "user", "content": request_text(phase.chunks, phase.pause_ms)},
        ],
        "stream": bool(phase.chunks),
        **({"stream_options": {"include_usage": True}} if phase.chunks else {}),
    }
    body = json.dumps(message).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer sk-bench\r\nContent-Type: application/json\r\n"
        f"Accept: */*\r\nUser-Agent: wiretape-bench\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return body, head.encode() + body


async def run_load(base_url: str, phase: Phase, watch: Callable[[], None] | None = None) -> Tally:
    """Run one phase against `base_url` + the chat completions path; `watch` is called five times a second meanwhile.

    Nothing raises for what the target does wrong: it is counted. A target that hangs is given up after the planned time
    and half a minute.
    """
    load = _Load(base_url, phase)
    planned = phase.seconds + 2 * phase.chunks * phase.pause_ms / 1000
    give_up = asyncio.get_running_loop().call_later(planned + _PATIENCE, load.give_up)
    watcher = asyncio.create_task(_repeat(watch)) if watch else None
    start = time.monotonic()
    await asyncio.gather(*(load.worker(number) for number in range(phase.connections)))
    load.tally.seconds = time.monotonic() - start
    give_up.cancel()
    if watcher:
        watcher.cancel()
    return load.tally


async def _repeat(watch: Callable[[], None]) -> None:
    while True:
        watch()
        await asyncio.sleep(_WATCH_EVERY)

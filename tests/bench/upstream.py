"""The fake LLM API: chat completions from precomputed bytes, one write and one HTTP chunk for each event.

Every delta holds its number and the monotonic time (ns) at which it was written, at fixed places: a client on the
same machine can tell the delay of each chunk, blank the times and compare the rest byte by byte.
Must not know who is measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import cast

import uvloop

PATH = "/v1/chat/completions"
INDEX_DIGITS = 5
STAMP_DIGITS = 19  # all of a 64-bit count of nanoseconds
STAMP = re.compile(rb"sent (\d{%d})" % STAMP_DIGITS)

_ORDER = re.compile(rb"bench chunks=(\d+) pause_ms=([\d.]+)")
_STREAM = re.compile(rb'"stream": ?true')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

_IDENTITY = {"id": "chatcmpl-bench", "created": 1700000000, "model": "gpt-4o-mini"}
_USAGE = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}


def _json(**fields: object) -> bytes:
    return json.dumps({**_IDENTITY, **fields}, separators=(",", ":")).encode()


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return b"data: " + _json(object="chat.completion.chunk", choices=[choice]) + b"\n\n"


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


_INDEX_HOLE, _STAMP_HOLE = "I" * INDEX_DIGITS, "0" * STAMP_DIGITS
_TEMPLATE = _delta({"content": f" word {_INDEX_HOLE} sent {_STAMP_HOLE}"})
_BEFORE_INDEX, _REST = _TEMPLATE.split(_INDEX_HOLE.encode())
_BEFORE_STAMP, _AFTER_STAMP = _REST.split(_STAMP_HOLE.encode())
_INDEXES = [b"%0*d" % (INDEX_DIGITS, index) for index in range(10**INDEX_DIGITS)]
_FRAMED_START, _FRAMED_END = b"%x\r\n%s" % (len(_TEMPLATE), _BEFORE_INDEX), _AFTER_STAMP + b"\r\n"

_LAST_EVENTS = (
    _delta({}, finish="stop"),
    b"data: " + _json(object="chat.completion.chunk", choices=[], usage=_USAGE) + b"\n\n",
    b"data: [DONE]\n\n",
)
_LAST_FRAMED = (*map(_framed, _LAST_EVENTS[:-1]), _framed(_LAST_EVENTS[-1]) + b"0\r\n\r\n")

COMPLETION = _json(
    object="chat.completion",
    choices=[{"index": 0, "message": {"role": "assistant", "content": "plain words " * 27}, "finish_reason": "stop"}],
    usage=_USAGE,
)
_HEAD = b"HTTP/1.1 200 OK\r\nx-request-id: req_bench\r\ncontent-type: "
_COMPLETION_REPLY = _HEAD + b"application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(COMPLETION), COMPLETION)
_STREAM_HEAD = _HEAD + b"text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
_REFUSAL = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def request_text(chunks: int, pause_ms: float) -> str:
    """What a prompt says to order a stream of `chunks` deltas, `pause_ms` apart (0: as fast as they go out)."""
    return f"bench chunks={chunks} pause_ms={pause_ms:g}"


def stream_body(chunks: int) -> bytes:
    """The whole body of a stream of `chunks` deltas, its times blanked with zeros."""
    stamp = _BEFORE_STAMP + _STAMP_HOLE.encode() + _AFTER_STAMP
    return b"".join([*(_BEFORE_INDEX + _INDEXES[index] + stamp for index in range(chunks)), *_LAST_EVENTS])


def blank_times(body: bytes, chunks: int) -> bytes:
    """`body` with zeros wherever a stream of `chunks` deltas holds a time; a body of another length comes out wrong."""
    blank = bytearray(body)
    first, size = len(_BEFORE_INDEX) + INDEX_DIGITS + len(_BEFORE_STAMP), len(_TEMPLATE)
    if len(body) >= chunks * size:
        for digit in range(first, first + STAMP_DIGITS):  # every size-th byte at once: 19 steps, not one per chunk
            blank[digit : chunks * size : size] = b"0" * chunks
    return bytes(blank)


class Upstream(asyncio.Protocol):
    """One connection: one request at a time; what arrives during an answer waits for its end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._busy = self._paused = False
        self._next = self._deltas = 0
        self._pause = self._due = 0.0
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._busy and self._timer is None:
            self._write_event()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self._busy and (body := self._take_request()) is not None:
            self._answer(body)

    def _take_request(self) -> bytes | None:
        """The body of the next request, once all of it is here."""
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        length = _LENGTH.search(self._received, 0, head_end)
        if length is None:
            self._transport.write(_REFUSAL)
            self._transport.close()
            self._received = b""
            return None
        start = head_end + len(b"\r\n\r\n")
        end = start + int(length[1])
        if len(self._received) < end:
            return None
        body, self._received = self._received[start:end], self._received[end:]
        return body

    def _answer(self, body: bytes) -> None:
        order = _ORDER.search(body)
        if order is None or not _STREAM.search(body):
            self._transport.write(_COMPLETION_REPLY)
            return
        self._busy, self._next = True, 0
        self._deltas, self._pause, self._due = int(order[1]), float(order[2]) / 1000, self._loop.time()
        self._transport.write(_STREAM_HEAD)
        self._write_event()

    def _write_event(self) -> None:
        self._timer = None
        index = self._next
        self._next += 1
        if index < self._deltas:
            stamp = b"%0*d" % (STAMP_DIGITS, time.monotonic_ns())
            self._transport.write(_FRAMED_START + _INDEXES[index] + _BEFORE_STAMP + stamp + _FRAMED_END)
        else:
            self._transport.write(_LAST_FRAMED[index - self._deltas])
        if self._next == self._deltas + len(_LAST_FRAMED):
            self._busy = False
            self.data_received(b"")
        elif self._paused:
            return
        elif self._pause and self._next < self._deltas:
            self._due += self._pause  # by the clock, so that the rate offered does not drop when the machine is busy
            self._timer = self._loop.call_at(self._due, self._write_event)
        else:
            self._timer = self._loop.call_soon(self._write_event)


async def serve(port: int) -> None:
    """Answer on this loopback port for ever."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

"""What one exchange of the mixed traffic does: drawn by chance from a seed, the same bytes on both sides.

Pure, but for the events by which the two sides wait for each other; must not know sockets or what is recorded.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum


class Way(Enum):
    """How the upstream answers. Those from EARLY on have an end of their own."""

    PLAIN = "plain"  # with a length
    STREAM = "stream"  # in chunks, each an event
    GZIP = "gzip"  # a stream, compressed and flushed behind each event
    CLOSE = "until close"
    TRAILERS = "trailers"
    HINTS = "103"
    CONTINUE = "100"
    EARLY = "413"  # amid the upload
    TUNNEL = "tunnel"  # an upgrade, and then all is echoed
    SILENT = "reset before the head"
    CUT = "reset amid the stream"
    SHORT = "closed amid the body"
    GARBAGE = "no HTTP"
    DEAD = "nobody listens"


class Leave(Enum):
    """When the client leaves."""

    HALF_HEAD = "amid its own head"
    BEFORE_HEAD = "before the head"
    AMID_RESPONSE = "amid the response"
    AMID_UPLOAD = "amid the upload"


FAILED = frozenset((Way.SILENT, Way.GARBAGE, Way.DEAD))
"""Answered by wiretape with a 502."""
BROKEN = frozenset((Way.CUT, Way.SHORT))
"""A stream that must look broken to the client too."""
_CHUNKED = frozenset((Way.STREAM, Way.GZIP, Way.TRAILERS, Way.CUT))
_LEFT_AMID = (Way.PLAIN, Way.STREAM, Way.GZIP, Way.CLOSE, Way.TRAILERS, Way.TUNNEL)
_UPLOADING = (Way.PLAIN, Way.STREAM, Way.GZIP, Way.CLOSE, Way.HINTS)

_WAYS = {
    Way.PLAIN: 24,
    Way.STREAM: 30,
    Way.GZIP: 8,
    Way.CLOSE: 4,
    Way.TRAILERS: 4,
    Way.HINTS: 3,
    Way.CONTINUE: 3,
    Way.EARLY: 4,
    Way.TUNNEL: 6,
    Way.SILENT: 3,
    Way.CUT: 4,
    Way.SHORT: 3,
    Way.GARBAGE: 2,
    Way.DEAD: 2,
}
TARGET = b"/v1/soak/"


@dataclass(frozen=True, slots=True)
class Plan:
    """One exchange. The body is `pieces` of about `size` bytes, `pace` seconds apart; `upload` are bytes.

    `closing`: the upstream announces that it closes, or ends the tunnel first. `last`: the client's connection carries
    no other exchange. `held`: the upstream sends a piece, and the others when it is told to.
    """

    token: str
    way: Way
    pieces: int = 1
    size: int = 200
    pace: float = 0.0
    upload: int = 0
    chunked: bool = False
    leave: Leave | None = None
    reset: bool = False
    closing: bool = False
    last: bool = False
    held: bool = False

    @property
    def target(self) -> bytes:
        """As the upstream is asked."""
        return TARGET + self.token.encode()

    @property
    def response_chunked(self) -> bool:
        return self.way in _CHUNKED

    @property
    def outcome(self) -> tuple[str, str] | None:
        """What must be recorded in the end (outcome, wire end); None: nothing, it is no exchange."""
        if self.leave is Leave.HALF_HEAD:
            return None
        if self.leave is not None:
            return "client_left", "client_left"
        return ("upstream_failed", "upstream_error") if self.way in FAILED | BROKEN else ("completed", "upstream_end")

    @property
    def status(self) -> int:
        """What a client sees that waits for it."""
        own = {Way.EARLY: 413, Way.TUNNEL: 101}
        return 502 if self.way in FAILED else own.get(self.way, 200)

    @property
    def endless(self) -> bool:
        """The upstream goes on until it is left alone: who leaves amid the response shall find no end there."""
        return self.leave is Leave.AMID_RESPONSE

    def parts(self) -> Iterator[bytes]:
        """The pieces of the response's body, as the upstream sends them; of a tunnel: what the client sends."""
        numbers = itertools.count() if self.endless else iter(range(self.pieces))
        if self.way is not Way.GZIP:
            yield from (_event(self.token, number, self.size) for number in numbers)
            return
        packer = zlib.compressobj(wbits=31)
        for number in numbers:
            yield packer.compress(_event(self.token, number, self.size)) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield packer.flush()

    @property
    def body(self) -> bytes:
        assert not self.endless
        return b"".join(self.parts())

    def begins_with(self, data: bytes) -> bool:
        """Whether that is the beginning of the response's body."""
        at = 0
        for part in self.parts():
            if at >= len(data):
                break
            if data[at : at + len(part)] != part[: len(data) - at]:
                return False
            at += len(part)
        return at >= len(data)

    @property
    def uploaded(self) -> bytes:
        """The request's body."""
        return _event(f"upload {self.token}", 0, self.upload) if self.upload else b""


def _event(token: str, number: int, size: int) -> bytes:
    """An event that no other exchange has, of `size` bytes at least."""
    head = b'data: {"exchange": "%b", "n": %d, "text": "' % (token.encode(), number)
    word = hashlib.sha256(head).hexdigest().encode()
    return head + (word * (size // len(word) + 1))[:size] + b'"}\n\n'


def draw(chance: random.Random, token: str) -> Plan:
    """The next exchange of a client."""
    (way,) = chance.choices(list(_WAYS), list(_WAYS.values()))
    plan = Plan(
        token,
        way,
        pieces=chance.randint(1, 12),
        size=chance.choice((20, 200, 1000, 5000, 40_000)),
        pace=chance.choice((0.0, 0.002, 0.01)),
        closing=chance.random() < 0.1,
        last=chance.random() < 0.2,
    )
    if way is Way.EARLY:
        plan = replace(plan, upload=600_000, chunked=chance.random() < 0.5, pieces=1)
    elif way is Way.CONTINUE or (way in _UPLOADING and chance.random() < 0.5):
        upload = chance.choice((1, 300, 20_000, 300_000))
        plan = replace(plan, upload=upload, chunked=chance.random() < 0.5)
    if chance.random() < 0.25:
        plan = _leaving(chance, plan)
    return plan


def _leaving(chance: random.Random, plan: Plan) -> Plan:
    moment = chance.choice(list(Leave))
    fits = {
        Leave.HALF_HEAD: True,
        Leave.BEFORE_HEAD: plan.way in (Way.PLAIN, Way.STREAM),
        Leave.AMID_RESPONSE: plan.way in _LEFT_AMID,
        Leave.AMID_UPLOAD: plan.upload > 1 and plan.way in _UPLOADING,
    }
    if not fits[moment]:
        return plan
    # A tunnel that its client ends politely has come to its end.
    return replace(plan, leave=moment, reset=plan.way is Way.TUNNEL or chance.random() < 0.5)


@dataclass(slots=True)
class Met:
    """One exchange as it went. `id` is wiretape's word for it; `complete`: the response came whole.

    The events are for the other side to wait for: the upstream has the request's head, half of its body; the client
    has something of the response.
    """

    plan: Plan
    id: str | None = None
    status: int | None = None
    body: bytearray = field(default_factory=bytearray)
    interims: list[int] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False
    upload: bytearray = field(default_factory=bytearray)  # as far as the upstream has it
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    halfway: asyncio.Event = field(default_factory=asyncio.Event)
    invited: asyncio.Event = field(default_factory=asyncio.Event)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def take_upload(self, data: bytes) -> None:
        self.upload += data
        if len(self.upload) >= self.plan.upload // 2:
            self.halfway.set()

    def take_response(self, data: bytes) -> None:
        self.body += data
        self.flowing.set()

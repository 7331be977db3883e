"""How long an upstream may be silent, by a clock of the test's own; and, in short, by the real one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from proxy.wire.client import UpstreamConnection
from proxy.wire.interface import Timeouts, Upload
from tests.support.rawhttp import Peer, RawUpstream
from tests.unit.wire.clock import Clock
from tests.unit.wire.listening import Ear, Run, begin, pool, request
from tests.unit.wire.parsing import SWITCHING

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire:
    """The part of a transport that a connection uses."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Nothing waits."""

    def get_extra_info(self, name: str) -> None:
        """There is no TLS."""

    def is_closing(self) -> bool:
        return "abort" in self.log or "close" in self.log

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.log.append(name)


class Stage:
    """A connection between a clock, a wire and an ear."""

    def __init__(self, sock: socket.socket, timeouts: Timeouts, late: float = 0.0) -> None:
        self.clock, self.wire, self.ear = Clock(late), Wire(), Ear()
        loop = cast("asyncio.AbstractEventLoop", self.clock)
        self.connection = UpstreamConnection(loop, sock, timeouts, lambda _: None)
        self.connection.connection_made(cast("asyncio.Transport", self.wire))

    def ask(self, *, complete: bool = True, upgrade: bool = False) -> None:
        self.connection.begin(request(b"GET", upgrade=upgrade), self.ear, Upload(b"", complete))

    def say(self, *data: bytes) -> None:
        self.connection.data_received(b"".join(data))


@pytest.fixture
def make() -> Iterator[Callable[..., Stage]]:
    with socket.socket() as sock:
        yield lambda **options: Stage(
            sock, Timeouts(None, options.pop("first", None), options.pop("idle", None)), **options
        )


def test_none_waits_for_ever(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.ask()
    assert stage.clock.timers == []
    stage.say(HEAD)
    assert stage.clock.timers == []


def test_nothing_is_answered(make: Callable[..., Stage]) -> None:
    stage = make(first=5)
    stage.ask()
    stage.clock.advance(4.9)
    assert stage.ear.log == []
    stage.clock.advance(0.2)
    assert stage.ear.log == ["timeout"]
    assert str(stage.ear.error) == "the upstream took too long: nothing was answered for 5 s"
    assert stage.wire.log == ["abort"]
    assert stage.clock.waiting() == []


def test_the_first_byte_is_waited_for_from_the_requests_end(make: Callable[..., Stage]) -> None:
    stage = make(first=5, idle=1)
    stage.ask(complete=False)
    stage.clock.advance(3600)
    stage.connection.end([])
    stage.clock.advance(4.9)
    assert stage.ear.log == []
    stage.clock.advance(0.2)
    assert stage.ear.log == ["timeout"]


@pytest.mark.parametrize("late", [0.0, 0.05])
def test_a_limit_for_the_first_byte_says_nothing_of_the_rest(make: Callable[..., Stage], late: float) -> None:
    """Also where the head comes at once and the loop is late: the limit that was armed first must not fire."""
    stage = make(first=5, late=late)
    stage.ask()
    stage.clock.advance(0.001)
    stage.say(HEAD)
    stage.clock.advance(3600)
    assert stage.ear.log == ["head 200"]
    assert stage.clock.waiting() == []


def test_silence_behind_the_head_has_its_own_limit(make: Callable[..., Stage]) -> None:
    stage = make(first=600, idle=2)
    stage.ask()
    stage.clock.advance(100)
    stage.say(HEAD)
    stage.clock.advance(1.9)
    assert stage.ear.log == ["head 200"]
    stage.clock.advance(0.2)
    assert stage.ear.log == ["head 200", "timeout"]
    assert str(stage.ear.error) == "the upstream took too long: its response went silent for 2 s"


def test_the_limit_between_bytes_does_not_hold_before_the_head(make: Callable[..., Stage]) -> None:
    stage = make(idle=2)
    stage.ask()
    stage.clock.advance(3600.5)
    assert stage.ear.log == []
    stage.say(HEAD)
    stage.clock.advance(1.9)
    assert stage.ear.log == ["head 200"]
    stage.clock.advance(0.2)
    assert stage.ear.log == ["head 200", "timeout"]


def test_every_byte_counts_also_of_framing(make: Callable[..., Stage]) -> None:
    stage = make(idle=2)
    stage.ask()
    for byte in HEAD + b"1\r\nx\r\n1;ext=1\r\n":
        stage.say(bytes([byte]))
        stage.clock.advance(1.9)
    assert stage.ear.log == ["head 200", "chunk"]
    stage.clock.advance(0.2)
    assert stage.ear.log[-1] == "timeout"


def test_silence_of_our_own_making_is_none(make: Callable[..., Stage]) -> None:
    stage = make(idle=2)
    stage.ask()
    stage.say(HEAD)
    stage.connection.pause()
    stage.clock.advance(3600.5)
    assert stage.ear.log == ["head 200"]
    stage.connection.resume()
    stage.clock.advance(1.9)
    assert stage.ear.log == ["head 200"]
    stage.clock.advance(2.2)
    assert stage.ear.log == ["head 200", "timeout"]


def test_an_early_head_is_not_measured_until_the_request_is_complete(make: Callable[..., Stage]) -> None:
    stage = make(first=1, idle=2)
    stage.ask(complete=False)
    stage.say(HEAD)
    stage.clock.advance(3600)
    assert stage.ear.log == ["head 200"]
    stage.connection.end([])
    stage.clock.advance(2.1)
    assert stage.ear.log == ["head 200", "timeout"]


def test_an_interim_response_is_a_sign_of_life_but_no_head(make: Callable[..., Stage]) -> None:
    stage = make(first=5, idle=1)
    stage.ask()
    stage.clock.advance(4.9)
    stage.say(b"HTTP/1.1 103 E\r\n\r\n")
    stage.clock.advance(4.9)
    assert stage.ear.log == ["interim 103"]
    stage.clock.advance(0.2)
    assert stage.ear.log == ["interim 103", "timeout"]


def test_a_tunnel_may_be_silent(make: Callable[..., Stage]) -> None:
    stage = make(first=5, idle=1)
    stage.ask(upgrade=True)
    stage.say(SWITCHING)
    assert stage.clock.waiting() == []
    stage.clock.advance(3600)
    stage.say(b"\x81\x00")
    stage.clock.advance(3600)
    assert stage.ear.log == ["upgraded", "chunk"]


@pytest.mark.parametrize("end", ["complete", "abort", "lost"])
def test_no_timer_outlives_its_exchange(make: Callable[..., Stage], end: str) -> None:
    stage = make(first=5, idle=2)
    stage.ask()
    stage.say(HEAD)
    if end == "complete":
        stage.say(b"0\r\n\r\n")
    elif end == "abort":
        stage.connection.abort()
    else:
        stage.connection.connection_lost(None)
    before = list(stage.ear.log)
    assert stage.clock.waiting() == []
    stage.clock.advance(3600)
    assert stage.ear.log == before


@pytest.mark.parametrize(
    ("timeouts", "said", "words"),
    [
        (Timeouts(first_byte=0.05), b"", ["timeout"]),
        (Timeouts(idle=0.05), HEAD + b"1\r\nx\r\n", ["head 200", "chunk", "timeout"]),
    ],
)
def test_by_the_real_clock(run: Run[Any], timeouts: Timeouts, said: bytes, words: list[str]) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(said)
        peer.read_to_end()

    async def main() -> None:
        ear, own = Ear(), pool(upstream.port, timeouts)
        await begin(own, ear, request(b"GET"))
        assert await ear.finish() == words
        await asyncio.to_thread(upstream.wait_idle)
        own.close()

    with RawUpstream(script) as upstream:
        run(main())

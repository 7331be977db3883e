"""Whether a connection is read from: one resume does not cancel another's pause, and who leaves meanwhile is missed."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from proxy.wire.reading import HANG_UP_POLL, Reading
from tests.unit.wire.clock import Clock


class Transport:
    """The part of a transport that is used; fails where it is paused twice or resumed without a pause."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reading = True
        self.log: list[str] = []

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False
        self.log.append("pause")

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True
        self.log.append("resume")

    def is_closing(self) -> bool:
        return "abort" in self.log

    def abort(self) -> None:
        self.log.append("abort")

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self.sock


class Stage:
    def __init__(self, ours: socket.socket, peer: socket.socket) -> None:
        self.clock, self.transport, self.peer = Clock(), Transport(ours), peer
        loop = cast("asyncio.AbstractEventLoop", self.clock)
        self.reading = Reading(loop, cast("asyncio.Transport", self.transport))


@pytest.fixture
def stage() -> Iterator[Stage]:
    ours, peer = socket.socketpair()
    with ours, peer:
        yield Stage(ours, peer)


STEPS = [("pause", 1), ("pause", 2), ("resume", 1), ("resume", 2), ("resume", 3)]


def test_it_is_read_where_nothing_speaks_against_it() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        for steps in itertools.product(STEPS, repeat=5):
            stage, reasons = Stage(ours, peer), 0
            for what, reason in steps:
                getattr(stage.reading, what)(reason)
                reasons = reasons | reason if what == "pause" else reasons & ~reason
                assert (stage.reading.reasons, stage.transport.reading) == (reasons, not reasons), steps
            assert len(stage.clock.waiting()) <= 1


def test_who_leaves_while_it_is_not_read_from_is_missed(stage: Stage) -> None:
    stage.reading.pause(1)
    stage.clock.advance(10 * HANG_UP_POLL)
    assert stage.transport.log == ["pause"]
    stage.peer.close()
    stage.clock.advance(1.1 * HANG_UP_POLL)
    assert stage.transport.log == ["pause", "abort"]
    assert stage.clock.waiting() == []
    stage.reading.resume(1)
    stage.reading.pause(1)
    assert stage.transport.log == ["pause", "abort"], "a transport that closes is left alone"


def test_what_waits_to_be_read_is_no_sign_of_leaving(stage: Stage) -> None:
    stage.peer.send(b"hello")
    stage.reading.pause(1)
    stage.clock.advance(10 * HANG_UP_POLL)
    assert stage.transport.log == ["pause"]


def test_nobody_looks_while_it_is_read(stage: Stage) -> None:
    stage.reading.pause(1)
    stage.reading.resume(1)
    stage.clock.advance(2 * HANG_UP_POLL)
    assert stage.clock.waiting() == []
    stage.reading.pause(2)
    assert len(stage.clock.waiting()) == 1


def test_where_there_is_nothing_more_to_read_nothing_is_paused(stage: Stage) -> None:
    """A client that has said all may still be answered."""
    stage.reading.pause(1)
    stage.reading.end()
    stage.peer.close()
    stage.reading.resume(1)
    stage.reading.pause(1)
    stage.reading.end()
    stage.clock.advance(10 * HANG_UP_POLL)
    assert (stage.transport.log, stage.clock.waiting()) == (["pause"], [])

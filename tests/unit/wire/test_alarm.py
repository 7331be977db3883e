"""One timer for all that a connection waits for, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from proxy.wire.alarm import Alarm
from tests.unit.wire.clock import Clock


class Stage:
    """An alarm, and what it did."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.alarm = Alarm(cast("asyncio.AbstractEventLoop", self.clock))
        self.done: list[str] = []

    def one(self) -> None:
        self.done.append("one")

    def two(self) -> None:
        self.done.append("two")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_it_acts_when_it_is_due_and_once(stage: Stage) -> None:
    stage.alarm.set(5, stage.one)
    stage.clock.advance(4.9)
    assert (stage.done, stage.alarm.act) == ([], stage.one)
    stage.clock.advance(0.2)
    assert (stage.done, stage.alarm.act) == (["one"], None)
    stage.clock.advance(3600)
    assert (stage.done, stage.clock.waiting()) == (["one"], [])


@pytest.mark.parametrize(("first", "second"), [(5, 60), (60, 5), (5, 5)])
def test_what_is_set_later_takes_the_place_of_what_was_set_before(stage: Stage, first: float, second: float) -> None:
    stage.alarm.set(first, stage.one)
    stage.clock.advance(1)
    stage.alarm.set(second, stage.two)
    stage.clock.advance(second - 0.1)
    assert stage.done == []
    stage.clock.advance(0.2)
    assert stage.done == ["two"]
    stage.clock.advance(3600)
    assert stage.done == ["two"]


def test_to_put_it_off_takes_no_second_timer(stage: Stage) -> None:
    for _ in range(100):
        stage.alarm.set(5, stage.one)
        stage.clock.advance(1)
        assert len(stage.clock.waiting()) == 1
    assert stage.done == []
    stage.clock.advance(3.9)
    assert stage.done == []
    stage.clock.advance(0.2)
    assert stage.done == ["one"]


def test_cleared_it_does_nothing_and_may_be_set_again(stage: Stage) -> None:
    stage.alarm.set(5, stage.one)
    stage.alarm.clear()
    stage.clock.advance(3600)
    assert (stage.done, stage.clock.waiting()) == ([], [])
    stage.alarm.set(5, stage.one)
    stage.alarm.clear()
    stage.alarm.set(3, stage.two)
    stage.clock.advance(10)
    assert stage.done == ["two"]


def test_what_it_does_may_set_it_again(stage: Stage) -> None:
    def again() -> None:
        stage.done.append("again")
        if len(stage.done) < 3:
            stage.alarm.set(1, again)

    stage.alarm.set(1, again)
    stage.clock.advance(10)
    assert stage.done == ["again"] * 3
    assert stage.clock.waiting() == []


def test_closed_it_leaves_no_timer(stage: Stage) -> None:
    stage.alarm.close()
    stage.alarm.set(5, stage.one)
    stage.alarm.close()
    stage.alarm.close()
    assert stage.clock.waiting() == []
    stage.clock.advance(10)
    assert stage.done == []

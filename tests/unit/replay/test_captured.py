"""Tapes: the very chunks with their times, for threads and for event loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from proxy.errors import UsageError, WiretapeError
from proxy.exchange import Side
from proxy.replay import Chunk, Tape, tape
from proxy.replay.captured import capture
from proxy.store.engine import open_engine
from proxy.store.errors import DatabaseAway
from proxy.store.rows import Exchange
from tests.support.databases import Site
from tests.support.recordings import EVENTS, HOSTILE_CHUNKS

CAME = [Chunk(at * 100_000, data) for at, data in enumerate(EVENTS, 1)]


def test_boundaries_and_times(database: Site, ids: dict[str, UUID]) -> None:
    with tape(ids["stream"], database.url) as found:
        assert list(found) == CAME
        assert list(found) == CAME, "as often as one likes"
        assert (len(found), found[0], found[-1]) == (len(CAME), CAME[0], CAME[-1])
        assert found.header("content-type") == "text/event-stream; charset=utf-8"
        assert found.header("set-cookie") == "a=1, b=2"
        assert (found.exchange.id, found.whole, found.note) == (ids["stream"], True, "")
        with pytest.raises(IndexError, match="5 chunks"):
            found[5]


def test_two_readers_of_one_tape(database: Site, ids: dict[str, UUID]) -> None:
    with tape(ids["stream"], database.url) as found:
        assert list(zip(found, found, strict=True)) == list(zip(CAME, CAME, strict=True))


def test_the_request(database: Site, ids: dict[str, UUID]) -> None:
    with tape(ids["stream"], database.url, request=True) as found:
        assert [data for _, data in found] == [b'{"model":', b'"m"}']


def test_by_the_end_of_an_id_and_the_last(database: Site, ids: dict[str, UUID]) -> None:
    with tape(str(ids["hostile"])[-8:], database.url) as found:
        assert [data for _, data in found] == HOSTILE_CHUNKS
    with tape("last", database.url) as found:
        assert found.exchange.id == ids["running"]
        assert "still running" in found.note


@pytest.mark.engines("sqlite")
def test_a_file_by_its_path(database: Site, home: Path, ids: dict[str, UUID]) -> None:
    with tape(ids["stream"], home / "wiretape.db") as found:
        assert list(found) == CAME


def test_several_share_a_spool(database: Site, ids: dict[str, UUID], tmp_path: Path) -> None:
    engine = open_engine(database.url, create=False)
    with (tmp_path / "spool").open("w+b") as spool:
        tapes = [capture(engine, str(ids[name]), Side.RESPONSE, spool) for name in ("stream", "hostile")]
        engine.dispose()
        assert [[data for _, data in each] for each in tapes] == [EVENTS, HOSTILE_CHUNKS]


def test_what_is_not_there(database: Site, ids: dict[str, UUID], tmp_path: Path) -> None:
    with pytest.raises(WiretapeError, match="not recorded"):
        tape(ids["bodiless"], database.url)
    with pytest.raises(WiretapeError, match="no response"):
        tape(ids["refused"], database.url)
    with pytest.raises(UsageError, match="no exchange"):
        tape(UUID(int=1), database.url)
    with pytest.raises((UsageError, DatabaseAway)):
        tape("last", tmp_path / "nothing.db")
    with tape(ids["lossy"], database.url) as found:
        assert not found.whole
        assert "70 bytes" in found.note


# Times


@pytest.fixture
def made() -> Iterator[Tape]:
    with Tape(Exchange(UUID(int=1), None, 0), Side.RESPONSE, ()) as found:
        for at_us, data in ((1_000_000, b"a"), (1_200_000, b"b"), (3_000_000, b"c")):
            found.add(at_us, data)
        yield found


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(asyncio, "sleep", clock.asleep)
    return clock


@pytest.mark.parametrize(
    ("speed", "start", "expected"),
    [
        (1.0, 0, [1.0, 1.2, 3.0]),
        (0.5, 0, [2.0, 2.4, 6.0]),
        (2.0, 1, [0.1, 1.0]),
        (None, 0, [0, 0, 0]),
        (1.0, 3, []),
    ],
)
def test_each_is_given_when_it_is_due(
    made: Tape, clock: Clock, speed: float | None, start: int, expected: list[float]
) -> None:
    began = clock.now
    assert [clock.now - began for _ in made.play(speed, start)] == pytest.approx(expected)

    async def later() -> list[float]:
        began = clock.now
        return [clock.now - began async for _ in made.aplay(speed, start)]

    assert asyncio.run(later()) == pytest.approx(expected)


def test_a_slow_reader_is_not_made_to_wait_once_more(made: Tape, clock: Clock) -> None:
    began, came = clock.now, []
    for chunk in made.play():
        came.append(clock.now - began)
        clock.now += 1.5 if chunk.data == b"a" else 0.0
    assert came == pytest.approx([1.0, 2.5, 3.0])


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none(made: Tape, speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        next(made.play(speed))

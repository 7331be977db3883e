"""Packing and retention go on beside storing, in short steps, by one of those who share a database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from proxy.ingest import upkeep
from proxy.ingest.upkeep import Plan, Upkeep
from proxy.store.engine import one_at_a_time, open_engine, reading
from proxy.store.errors import DatabaseAway
from proxy.store.partitions import Room, existing
from proxy.store.retention import Pruned, Retention
from tests.support.journals import DEADLINE, STARTED_US, House, exchange, merged, until
from tests.unit.ingest.conftest import Running

Start = Callable[..., Running]

RECORDED = datetime.fromtimestamp(STARTED_US / 1e6, UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def engine(house: House) -> Iterator[Engine]:
    found = open_engine(house.url, create=False)
    yield found
    found.dispose()


def fill(house: House, count: int = 5) -> None:
    house.record(merged(*[exchange(number) for number in range(1, count + 1)]))
    house.interpret()


class Waited(Upkeep):
    """One whose steps end with all that they began."""

    def step(self) -> bool:
        more = super().step()
        assert self.wait(DEADLINE)
        return more


def kept_up(engine: Engine, plan: Plan, now: datetime) -> Upkeep:
    return Waited(engine, Room(engine, {}), plan, lambda: now)


def test_packed_when_it_is_old_enough(house: House, engine: Engine) -> None:
    fill(house)
    before = {number: house.body(number) for number in range(1, 6)}
    young = kept_up(engine, Plan(pack_after=WEEK), RECORDED + timedelta(days=6))
    while young.step():
        pass
    assert house.one("SELECT count(*) FROM tapes") == 0
    old = kept_up(engine, Plan(pack_after=WEEK), RECORDED + timedelta(days=8))
    while old.step():
        pass
    assert house.one("SELECT count(*) FROM chunks") == 0
    assert house.one("SELECT count(*) FROM tapes") == 10
    assert before[1] != house.body(1) == [], "the rows are gone, what they held is in the tapes"


def test_never_packed_when_that_is_said(house: House, engine: Engine) -> None:
    fill(house)
    for _ in range(3):
        assert kept_up(engine, Plan(), RECORDED + timedelta(days=900)).step() is False
    assert house.one("SELECT count(*) FROM tapes") == 0


def test_retention_goes_by_the_clock(house: House, engine: Engine) -> None:
    fill(house)
    plan = Plan(retention=Retention(chunks=WEEK, exchanges=timedelta(days=30)))
    kept_up(engine, plan, RECORDED + timedelta(days=3)).step()
    assert house.one("SELECT count(*) FROM chunks") > 0
    kept_up(engine, plan, RECORDED + timedelta(days=8)).step()
    assert house.query("SELECT count(*) FROM chunks") == [(0,)]
    assert house.one("SELECT count(*) FROM exchanges") == 5
    kept_up(engine, plan, RECORDED + timedelta(days=31)).step()
    assert house.one("SELECT count(*) FROM exchanges") == 0
    assert house.one("SELECT CAST(sum(exchanges) AS int) FROM spend_hours") == 5


def test_a_clock_set_back_takes_nothing(house: House, engine: Engine) -> None:
    fill(house)
    plan = Plan(pack_after=WEEK, retention=Retention(exchanges=WEEK))
    kept_up(engine, plan, RECORDED - timedelta(days=365)).step()
    assert house.one("SELECT count(*) FROM exchanges") == 5


@pytest.mark.engines("postgres")
def test_a_clock_that_is_ahead_takes_nothing_that_is_young(house: House, engine: Engine) -> None:
    """The server's clock counts too: one bad node would empty everybody's database."""
    fill(house)
    ahead = datetime.now(UTC) + timedelta(days=10_000)
    kept_up(engine, Plan(retention=Retention(exchanges=timedelta(days=9_000))), ahead).step()
    assert house.one("SELECT count(*) FROM exchanges") == 5


def test_pruning_holds_up_nobody(house: House, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take hours: copying goes on beside it, and a second one does not begin."""
    began, may_end = threading.Event(), threading.Event()

    def slow(_engine: Engine, _cutoffs: object) -> list[Pruned]:
        began.set()
        assert may_end.wait(DEADLINE)
        return []

    monkeypatch.setattr(upkeep, "prune", slow)
    monkeypatch.setattr(upkeep, "PRUNE_EVERY", 0.0)
    kept = Upkeep(engine, Room(engine, {}), Plan(retention=Retention(chunks=WEEK)), lambda: RECORDED)
    kept.step()
    assert began.wait(DEADLINE)
    fill(house)
    kept.step()
    assert not kept.wait(0.0)
    assert house.one("SELECT count(*) FROM exchanges WHERE interpreter IS NOT NULL") == 5
    may_end.set()
    assert kept.wait(DEADLINE)


def test_a_database_that_is_away_is_no_end(house: House, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_engine: Engine, _cutoffs: object) -> list[Pruned]:
        raise DatabaseAway("the database is away")

    monkeypatch.setattr(upkeep, "prune", away)
    kept_up(engine, Plan(retention=Retention(chunks=WEEK)), RECORDED).step()


def test_not_again_at_once(house: House, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def note(_engine: Engine, cutoffs: object) -> list[Pruned]:
        asked.append(cutoffs)
        return []

    monkeypatch.setattr(upkeep, "prune", note)
    kept = kept_up(engine, Plan(retention=Retention(chunks=WEEK)), RECORDED)
    for _ in range(5):
        kept.step()
    assert len(asked) == 1


@pytest.mark.engines("postgres")
def test_who_finds_another_at_it_leaves_it(house: House, engine: Engine) -> None:
    fill(house)
    plan = Plan(pack_after=WEEK, retention=Retention(chunks=timedelta(days=100)))
    with one_at_a_time(engine, "pack") as mine, one_at_a_time(engine, "prune") as mine_too:
        assert mine
        assert mine_too
        other = kept_up(engine, plan, RECORDED + timedelta(days=200))
        assert other.step() is False
        with one_at_a_time(engine, "pack") as theirs:
            assert not theirs
        with one_at_a_time(engine, "something else") as free:
            assert free
    assert house.one("SELECT count(*) FROM chunks") > 0
    another = kept_up(engine, plan, RECORDED + timedelta(days=200))
    while another.step():
        pass
    assert house.one("SELECT count(*) FROM chunks") == 0


def test_the_loop_keeps_up(house: House, running: Start) -> None:
    house.record(merged(*[exchange(number) for number in range(1, 4)]))
    ingest = running(plan=Plan(pack_after=timedelta(seconds=1)))
    until(lambda: house.one("SELECT count(*) FROM tapes") == 6)
    ingest.stop()
    assert ingest.error is None
    if house.database.kind != "sqlite":
        engine = open_engine(house.url, create=False)
        with reading(engine) as connection:
            tables = {each.table for each in existing(connection)}
        engine.dispose()
        assert {"exchanges", "chunks", "tapes"} <= tables

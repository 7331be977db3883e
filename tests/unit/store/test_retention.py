"""What is older than its class may be goes, what runs stays, what was spent stays; partitions go as a whole."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine

from proxy.store import read, retention
from proxy.store.engine import reading, size
from proxy.store.names import first_id
from proxy.store.pack import pack_some
from proxy.store.partitions import Unit, existing, make
from proxy.store.retention import Retention, keep_within, preview, prune
from proxy.store.rows import TextRow
from proxy.store.write import Writer
from tests.unit.store.meaning import meant, spent, understand
from tests.unit.store.support import BEGAN_US, DAY, chunk, exchange, ids, opened, stored

NOW = datetime.fromtimestamp(BEGAN_US / 1e6, UTC)


def fill(writer: Writer, days: range) -> list[UUID]:
    """An exchange for each of so many days ago, the oldest first."""
    made = [ids(BEGAN_US - day * DAY)() for day in sorted(days, reverse=True)]
    with writer.transaction():
        writer.put_exchanges([exchange(each) for each in made])
        writer.put_chunks([chunk(each, seq, b"body" * 20) for each in made for seq in range(3)])
    understand(writer, *[meant(each, usage_raw="{}", texts=[TextRow("user", f"said {each}")]) for each in made])
    return made


def age(**spans: int) -> Retention:
    kept = {name: timedelta(days=days) for name, days in spans.items()}
    return Retention(kept.get("chunks"), kept.get("bodies"), kept.get("exchanges"))


def left(engine: Engine) -> dict[str, int]:
    return {table: stored(engine, table) for table in ("exchanges", "chunks", "texts", "usage_raw", "meanings")}


def test_each_class_takes_what_is_its_own(engine: Engine, writer: Writer) -> None:
    fill(writer, range(100))
    before = spent(engine)
    cutoffs = age(chunks=30, bodies=60, exchanges=90).cutoffs(NOW)
    would = preview(engine, cutoffs)
    assert [(each.name, each.exchanges) for each in would] == [("chunks", 69), ("bodies", 39), ("exchanges", 9)]
    assert left(engine)["exchanges"] == 100
    prune(engine, cutoffs)
    assert left(engine) == {"exchanges": 91, "chunks": 93, "texts": 61, "usage_raw": 61, "meanings": 91}
    assert spent(engine) == before
    assert [each.exchanges for each in prune(engine, cutoffs)] == [0, 0, 0]


def test_a_wider_class_takes_the_narrower_along(engine: Engine, writer: Writer) -> None:
    fill(writer, range(10))
    assert age(exchanges=5).cutoffs(NOW) == dict.fromkeys(retention.CLASSES, first_id(BEGAN_US - 5 * DAY))
    prune(engine, age(exchanges=5).cutoffs(NOW))
    assert left(engine) == {"exchanges": 6, "chunks": 18, "texts": 6, "usage_raw": 6, "meanings": 6}


def test_what_runs_stays_whatever_its_age(engine: Engine, writer: Writer) -> None:
    fill(writer, range(40, 42))
    running = ids(BEGAN_US - 41 * DAY - 5)()
    with writer.transaction():
        writer.put_exchanges([opened(running)])
        writer.put_chunks([chunk(running, 1)])
    cutoffs = age(chunks=1, exchanges=2).cutoffs(NOW)
    assert [each.still_open for each in preview(engine, cutoffs)] == [1, 1, 1]
    prune(engine, cutoffs)
    assert left(engine) == {"exchanges": 1, "chunks": 1, "texts": 0, "usage_raw": 0, "meanings": 0}


def test_tapes_go_with_the_chunks(engine: Engine, writer: Writer) -> None:
    fill(writer, range(5))
    pack_some(engine, UUID(int=2**128 - 1), UUID(int=0))
    assert stored(engine, "tapes") == 5
    prune(engine, age(chunks=3).cutoffs(NOW))
    assert stored(engine, "tapes") == 4
    with reading(engine) as connection:
        assert read.counts(connection).chunks == 12


def test_nothing_is_kept_for_ever_by_default() -> None:
    assert Retention().cutoffs(NOW) == {}
    assert Retention().units() == {}


def test_what_is_kept_shortly_is_parted_by_day() -> None:
    assert age(chunks=7).units() == {"chunks": Unit.DAY, "tapes": Unit.DAY}
    assert age(bodies=30, exchanges=400).units() == dict.fromkeys(("chunks", "tapes", "texts", "usage_raw"), Unit.DAY)
    assert age(chunks=400).units() == {}
    assert set(Retention(most_bytes=1).units()) == {"chunks", "tapes", "texts", "usage_raw"}


@pytest.mark.engines("postgres")
def test_partitions_are_dropped_as_a_whole(engine: Engine, writer: Writer) -> None:
    now = datetime.now(UTC)
    days = [now - timedelta(days=each) for each in range(10)]
    units = dict.fromkeys(("chunks", "tapes", "texts", "usage_raw"), Unit.DAY)
    make(engine, days, units)
    made = [ids(int(day.timestamp() * 1e6))() for day in days]
    running = ids(int(days[6].timestamp() * 1e6) + 5)()
    with writer.transaction():
        writer.put_exchanges([*[exchange(each) for each in made], opened(running)])
        writer.put_chunks([chunk(each, 1) for each in (*made, running)])
    cutoffs = age(chunks=3).cutoffs(now)
    with reading(engine) as connection:
        before = {each.name for each in existing(connection)}
    (would,) = preview(engine, cutoffs)
    assert would.partitions
    (done,) = prune(engine, cutoffs)
    with reading(engine) as connection:
        after = {each.name for each in existing(connection)}
        kept = {row.exchange for each in (*made, running) for row in read.chunks(connection, each)}
    assert set(done.partitions) == before - after == set(would.partitions)
    assert kept == {*[each for each, day in zip(made, days, strict=True) if day >= now - timedelta(days=3)], running}
    assert not any(f"d{days[6]:%d}" in each and each.startswith("chunks_") for each in done.partitions), "it runs there"


def fill_up(engine: Engine, writer: Writer, *, packed: bool = False) -> tuple[list[UUID], int]:
    """An exchange with much in it for each of twenty days up to now, in partitions where there are any; the newest
    first, and the bytes that it takes."""
    now = datetime.now(UTC)
    days = [now - timedelta(days=day) for day in range(20)]
    make(engine, days, Retention(most_bytes=1).units())
    made = [ids(int(day.timestamp() * 1e6))() for day in days]
    body = random.Random(1).randbytes(100_000)
    with writer.transaction():
        writer.put_exchanges([exchange(each) for each in made])
        writer.put_chunks([chunk(each, seq, body) for each in made for seq in range(4)])
    understand(writer, *[meant(each) for each in made])
    while packed and pack_some(engine, UUID(int=2**128 - 1), UUID(int=0)).exchanges:
        pass
    with reading(engine) as connection:
        return made, size(connection)


@pytest.mark.parametrize("packed", [False, True])
def test_room_is_made_by_taking_the_oldest(engine: Engine, writer: Writer, packed: bool) -> None:
    made, taken = fill_up(engine, writer, packed=packed)
    assert keep_within(engine, taken * 2) == []
    assert {each.name for each in keep_within(engine, taken // 2)} == {"bodies"}
    with reading(engine) as connection:
        assert size(connection) <= taken // 2
        left = [bool(list(read.chunks(connection, each))) for each in made]
        assert stored(engine, "exchanges") == 20
    assert left == sorted(left, reverse=True), "the oldest have gone"
    assert left[0]


def test_what_cannot_go_ends_it(engine: Engine, writer: Writer) -> None:
    """Nothing that runs, or is young, is taken, however full it is; and nobody tries for ever."""
    with writer.transaction():
        old = ids(BEGAN_US - 40 * DAY)()
        writer.put_exchanges([opened(old)])
        writer.put_chunks([chunk(old, 1)])
    keep_within(engine, 1)
    assert (stored(engine, "exchanges"), stored(engine, "chunks")) == (1, 1)


@pytest.mark.engines("sqlite")
def test_the_oldest_go_first(engine: Engine, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fill(writer, range(30))
    sizes = iter([10**9, 10**9, 10**9, 1])
    monkeypatch.setattr(retention, "size", lambda _connection: next(sizes, 1))
    keep_within(engine, 10**6)
    with reading(engine) as connection:
        gone = [not list(read.chunks(connection, each)) for each in made]
    assert gone == sorted(gone, reverse=True)
    assert any(gone)
    assert not all(gone)

"""Partitions are made ahead and on demand; what fits none is stored all the same, and moved once there is one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine

from proxy.store import partitions, read
from proxy.store.engine import check_version, open_engine, reading, revision
from proxy.store.migrate import upgrade
from proxy.store.partitions import Room, Unit, bound, existing, make, moment, partition_of
from proxy.store.retention import prune
from proxy.store.schema_postgres import PARTITIONED
from proxy.store.write import Writer
from tests.support.databases import Opener, PostgresDatabase
from tests.unit.store.support import chunk, exchange, ids, sql

pytestmark = pytest.mark.engines("postgres")

NOW = datetime.now(UTC)


def names(engine: Engine, table: str = "chunks") -> list[str]:
    with reading(engine) as connection:
        return [each.name for each in existing(connection) if each.table == table]


def where(engine: Engine, table: str) -> list[str]:
    """The partitions that rows are in."""
    return [row[0] for row in sql(engine, f"SELECT DISTINCT tableoid::regclass::text FROM {table} ORDER BY 1")]  # noqa: S608 - our tables


@pytest.mark.parametrize(
    ("unit", "at", "name", "low", "high"),
    [
        (Unit.MONTH, datetime(2026, 11, 26, 15, tzinfo=UTC), "chunks_y2026m11", (2026, 11, 1), (2026, 12, 1)),
        (Unit.MONTH, datetime(2027, 12, 31, 23, 59, tzinfo=UTC), "chunks_y2027m12", (2027, 12, 1), (2028, 1, 1)),
        (Unit.DAY, datetime(2028, 2, 29, tzinfo=UTC), "chunks_y2028m02d29", (2028, 2, 29), (2028, 3, 1)),
    ],
)
def test_bounds_are_times(
    unit: Unit, at: datetime, name: str, low: tuple[int, int, int], high: tuple[int, int, int]
) -> None:
    found = partition_of("chunks", at, unit)
    assert (found.name, found.low, found.high) == (
        name,
        bound(datetime(*low, tzinfo=UTC)),
        bound(datetime(*high, tzinfo=UTC)),
    )
    assert moment(found.low) == datetime(*low, tzinfo=UTC)
    assert moment(UUID(int=2**128 - 1)).year == 9999


def test_made_ahead_for_every_table(engine: Engine) -> None:
    made = make(engine, None, {"chunks": Unit.DAY})
    assert made == len(names(engine)) + sum(len(names(engine, each)) for each in PARTITIONED if each != "chunks")
    assert len(names(engine)) >= 8
    assert f"exchanges{Unit.MONTH.suffix(Unit.MONTH.start(NOW + timedelta(days=31)))}" in names(engine, "exchanges")
    assert make(engine, None, {"chunks": Unit.DAY}) == 0
    assert make(engine, None, {}) <= 1, "what is there by day is not made by month"


def test_rows_go_where_they_belong(engine: Engine, writer: Writer) -> None:
    room = Room(engine, {})
    key = ids(int(NOW.timestamp() * 1e6))()
    room.make_for([key])
    with writer.transaction():
        writer.put_exchanges([exchange(key)])
        writer.put_chunks([chunk(key, 1)])
    suffix = Unit.MONTH.suffix(Unit.MONTH.start(NOW))
    assert (where(engine, "exchanges"), where(engine, "chunks")) == ([f"exchanges{suffix}"], [f"chunks{suffix}"])


@pytest.mark.parametrize("wrong", [timedelta(days=-4000), timedelta(days=-20000), timedelta(days=400)])
def test_a_wrong_clock_stops_nothing(engine: Engine, writer: Writer, wrong: timedelta) -> None:
    at = max(NOW + wrong, datetime(1970, 1, 2, tzinfo=UTC))
    key = ids(int(at.timestamp() * 1e6))()
    Room(engine, {}).make_for([key])
    with writer.transaction():
        writer.put_exchanges([exchange(key)])
        writer.put_chunks([chunk(key, 1)])
    assert where(engine, "chunks") == ["chunks_default"]
    with reading(engine) as connection:
        assert len(list(read.chunks(connection, key))) == 1


def test_what_strayed_moves_once_there_is_a_place(engine: Engine, writer: Writer) -> None:
    """A clock that was ahead has filled the default; then that time comes."""
    near, far = ids(int(NOW.timestamp() * 1e6))(), ids(int((NOW + timedelta(days=500)).timestamp() * 1e6))()
    with writer.transaction():
        writer.put_exchanges([exchange(near), exchange(far)])
        writer.put_chunks([chunk(each, seq) for each in (near, far) for seq in range(3)])
    assert where(engine, "chunks") == ["chunks_default"]
    make(engine, [NOW], {})
    suffix = Unit.MONTH.suffix(Unit.MONTH.start(NOW))
    assert where(engine, "chunks") == [f"chunks{suffix}", "chunks_default"][:: 1 if suffix < "_d" else -1]
    with reading(engine) as connection:
        assert [len(list(read.chunks(connection, each))) for each in (near, far)] == [3, 3]
        assert len(read.list_exchanges(connection, read.Filters(), 10)) == 2


def test_several_nodes_may_make_them_at_once(opener: Opener) -> None:
    engines = [opener() for _ in range(3)]
    with ThreadPoolExecutor() as threads:
        made = list(threads.map(lambda engine: make(engine, None, {}), engines))
    assert max(made) > 0
    found = names(engines[0], "exchanges")
    assert len(found) == len(set(found)) >= 2


def test_the_database_is_asked_once_a_day_of_ids(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(partitions, "make", lambda _engine, moments, _units: asked.append(len(moments)))
    room = Room(engine, {})
    new = ids(int(NOW.timestamp() * 1e6) // 86_400_000_000 * 86_400_000_000, step_us=3_600_000_000)
    for _ in range(30):
        room.make_for([new(), new()])
    assert asked == [1, 1, 1]


def test_a_long_reader_is_not_waited_for(
    place: PostgresDatabase, engine: Engine, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup holds every table for hours: what comes meanwhile goes into the defaults, and moves afterwards."""
    key = ids(int(NOW.timestamp() * 1e6))()
    room = Room(engine, {})
    with psycopg.connect(place.server.conninfo(place.name)) as reader:
        reader.execute("LOCK TABLE chunks, exchanges IN ACCESS SHARE MODE")
        room.make_for([key])
        room.make_ahead()
        with writer.transaction():
            writer.put_exchanges([exchange(key)])
            writer.put_chunks([chunk(key, 1)])
        reader.rollback()
    assert where(engine, "chunks") == ["chunks_default"]
    monkeypatch.setattr(room, "_again", 0.0)
    room.make_ahead()
    suffix = Unit.MONTH.suffix(Unit.MONTH.start(NOW))
    assert where(engine, "chunks") == [f"chunks{suffix}"]


def test_what_is_read_is_dropped_the_next_time(place: PostgresDatabase, engine: Engine) -> None:
    old = NOW - timedelta(days=100)
    make(engine, [old], {})
    cutoffs = {"chunks": bound(NOW)}
    with psycopg.connect(place.server.conninfo(place.name)) as reader:
        reader.execute("LOCK TABLE chunks IN ACCESS SHARE MODE")
        (done,) = prune(engine, cutoffs)
        assert [each for each in done.partitions if each.startswith("chunks")] == []
        reader.rollback()
    (done,) = prune(engine, cutoffs)
    assert f"chunks{Unit.MONTH.suffix(Unit.MONTH.start(old))}" in done.partitions


def test_a_schema_whose_name_needs_quotes(place: PostgresDatabase) -> None:
    place.execute('CREATE SCHEMA "My Schema"')
    engine = open_engine(place.url + "&options=-csearch_path%3D%22My%5C%20Schema%22", create=True)
    upgrade(engine)
    assert make(engine, None, {}) > 0
    assert make(engine, None, {}) == 0
    engine.dispose()


def test_another_programs_revision_further_down_the_path(place: PostgresDatabase) -> None:
    place.execute("CREATE SCHEMA wire")
    engine = open_engine(place.url + "&options=-csearch_path%3Dwire,public", create=True)
    assert revision(engine) is None
    place.execute("UPDATE public.alembic_version SET version_num = 'theirs'")
    upgrade(engine)
    check_version(engine)
    engine.dispose()

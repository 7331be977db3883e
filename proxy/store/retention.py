"""Retention: what is older than its class may be goes, in partitions where they are all of it, else row by row.

Three classes, each holding the one before: `chunks` are the bytes as they crossed the wire; `bodies` are those and all
text that was made of them; `exchanges` is everything. What was spent stays: the rollups outlive the exchanges.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine

from proxy.store.backend import marks
from proxy.store.delete import delete_exchanges, delete_parts
from proxy.store.engine import execute, is_shared, one, reading, reclaim, size, writing
from proxy.store.errors import DatabaseBusy
from proxy.store.names import first_id
from proxy.store.partitions import IMPATIENT, Partition, Unit, existing

CHUNKS, BODIES, EXCHANGES = "chunks", "bodies", "exchanges"
CLASSES = (CHUNKS, BODIES, EXCHANGES)

TABLES: dict[str, tuple[str, ...]] = {
    CHUNKS: ("chunks", "tapes"),
    BODIES: ("chunks", "tapes", "texts", "usage_raw"),
}
"""The tables of a class; `exchanges` has all that are parted by time."""

SHORT = timedelta(days=45)
"""What is kept no longer than that is parted by day."""

_PAGE = 512
_DAY_US = 86_400_000_000
_RECENT_US = 60_000_000  # what is no older is not taken to make room
_ENOUGH = 0.9  # of the most that may be stored: where making room ends


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each class is kept; None: for good. `most_bytes` is what the database may take."""

    chunks: timedelta | None = None
    bodies: timedelta | None = None
    exchanges: timedelta | None = None
    most_bytes: int | None = None

    def cutoffs(self, now: datetime) -> dict[str, UUID]:
        """Class -> the lowest id that stays. What a wider class loses, a narrower one does too."""
        kept: timedelta | None = None
        found: dict[str, UUID] = {}
        for name in reversed(CLASSES):
            asked: timedelta | None = getattr(self, name)
            kept = asked if kept is None else kept if asked is None else min(asked, kept)
            if kept is not None:
                found[name] = first_id(int((now - kept).timestamp() * 1_000_000))
        return {name: found[name] for name in CLASSES if name in found}

    def units(self) -> dict[str, Unit]:
        """Table -> how it is parted, by the class that goes first; by day too where room is made by the oldest."""
        spans = {name: getattr(self, name) for name in CLASSES}
        units = {}
        for table in TABLES[BODIES]:
            mine = [spans[name] for name in CLASSES if name == EXCHANGES or table in TABLES[name]]
            shortest = min((each for each in mine if each is not None), default=None)
            if self.most_bytes is not None or (shortest is not None and shortest <= SHORT):
                units[table] = Unit.DAY
        return units


class Pruned(NamedTuple):
    """What went, or would go, of one class: exchanges concerned, those left since they run, partitions dropped."""

    name: str
    exchanges: int
    still_open: int
    partitions: tuple[str, ...] = ()


def preview(engine: Engine, cutoffs: Mapping[str, UUID]) -> list[Pruned]:
    """What `prune` would do, which only reads."""
    said = []
    with reading(engine) as connection:
        for name, cutoff in cutoffs.items():
            whole = [each.name for each in _whole(connection, name, cutoff)]
            said.append(Pruned(name, _affected(connection, name, cutoff), _running(connection, cutoff), tuple(whole)))
    return said


def prune(engine: Engine, cutoffs: Mapping[str, UUID]) -> list[Pruned]:
    """Take out what is older than its class may be, the widest class first; room is given back to the file system."""
    said = []
    for name in reversed(CLASSES):
        if name not in cutoffs:
            continue
        cutoff = cutoffs[name]
        with reading(engine) as connection:
            running = _running(connection, cutoff)
            partitions = _whole(connection, name, cutoff)
            held = {each.name: _held(connection, each, name) for each in partitions}
        dropped = [each.name for each in partitions if _drop(engine, each)]
        gone = sum(held[each] for each in dropped) + _delete(engine, name, cutoff)
        said.append(Pruned(name, gone, running, tuple(dropped)))
    if any(each.exchanges for each in said):
        reclaim(engine)
    return said[::-1]


def keep_within(engine: Engine, most_bytes: int) -> list[Pruned]:
    """Make room where the database takes more than it may: the oldest bodies go first, then the oldest exchanges.

    In Postgres whole partitions only: rows that are deleted leave their room to the table, and the rest would follow.
    """
    said: list[Pruned] = []
    if not _exceeds(engine, most_bytes):
        return said
    for name in (BODIES, EXCHANGES):
        done = UUID(int=0)
        while _exceeds(engine, most_bytes * _ENOUGH):
            with reading(engine) as connection:
                cutoff = _next_cutoff(connection, name, done)
            if cutoff is None:
                break
            said += prune(engine, {name: cutoff})
            done = cutoff
    return said


def _exceeds(engine: Engine, most_bytes: float) -> bool:
    with reading(engine) as connection:
        return size(connection) > most_bytes


def _next_cutoff(connection: Connection, name: str, after: UUID) -> UUID | None:
    """What to prune next, behind a cutoff that was pruned; None: nothing is old enough."""
    now = time.time_ns() // 1000
    if is_shared(connection):
        ends = [each.high for each in existing(connection) if each.table in _tables(connection, name)]
        return min((each for each in ends if after < each <= first_id(now)), default=None)
    oldest: list[int] = []
    for table in TABLES.get(name, ("exchanges",)):
        sql = f"SELECT {_key(table)} FROM {table} WHERE {_key(table)} > ? ORDER BY 1 LIMIT 1"  # noqa: S608 - our tables
        found = one(connection, sql, after.bytes)
        oldest += [] if found is None else [UUID(bytes=bytes(found)).int >> 80]
    if not oldest:
        return None
    began = min(oldest) * 1000
    step = max(min(_DAY_US, (now - began) // 10), _RECENT_US)
    return first_id(began + step) if began + step < now - _RECENT_US else None


def _table(name: str) -> str:
    return "exchanges" if name == EXCHANGES else "chunks"


def _key(table: str) -> str:
    return "id" if table == "exchanges" else "exchange_id"


def _tables(connection: Connection, name: str) -> Sequence[str]:
    return TABLES.get(name) or sorted({each.table for each in existing(connection)})


def _whole(connection: Connection, name: str, cutoff: UUID) -> list[Partition]:
    """The partitions of a class in which nothing stays: all before the cutoff, and nothing that still runs."""
    tables = set(_tables(connection, name))
    return [
        each
        for each in existing(connection)
        if each.table in tables and each.high <= cutoff and not _runs(connection, each.low, each.high)
    ]


def _runs(connection: Connection, low: UUID, high: UUID) -> bool:
    sql = """SELECT 1 FROM exchanges WHERE (outcome IS NULL OR outcome <> 0) AND outcome IS NULL
        AND id >= ? AND id < ? LIMIT 1"""
    return one(connection, sql, low.bytes, high.bytes) is not None


def _drop(engine: Engine, partition: Partition) -> bool:
    """Drop a partition unless something in it runs now."""
    try:
        with writing(engine) as connection:
            if _runs(connection, partition.low, partition.high):
                return False
            execute(connection, IMPATIENT)
            execute(connection, f"DROP TABLE IF EXISTS {partition.name}")
    except DatabaseBusy:
        return False  # somebody reads it: the next time
    return True


def _held(connection: Connection, partition: Partition, name: str) -> int:
    """How many exchanges are in a partition, which is told of one table of a class only."""
    if partition.table != _table(name):
        return 0
    sql = "SELECT count(*) FROM exchanges WHERE id >= ? AND id < ?"
    return int(one(connection, sql, partition.low.bytes, partition.high.bytes))


def _affected(connection: Connection, name: str, cutoff: UUID) -> int:
    """How many ended exchanges lose something."""
    if name == EXCHANGES:
        return int(one(connection, "SELECT count(*) FROM exchanges WHERE id < ? AND outcome IS NOT NULL", cutoff.bytes))
    parts = " UNION ".join(f"SELECT exchange_id FROM {table} WHERE exchange_id < ?" for table in TABLES[name])  # noqa: S608 - ours
    sql = f"""SELECT count(*) FROM exchanges WHERE id < ? AND outcome IS NOT NULL
        AND id IN ({parts})"""  # noqa: S608 - our tables
    return int(one(connection, sql, cutoff.bytes, *[cutoff.bytes] * len(TABLES[name])))


def _running(connection: Connection, cutoff: UUID) -> int:
    sql = "SELECT count(*) FROM exchanges WHERE (outcome IS NULL OR outcome <> 0) AND outcome IS NULL AND id < ?"
    return int(one(connection, sql, cutoff.bytes))


def _page(connection: Connection, name: str, after: UUID, cutoff: UUID) -> tuple[list[UUID], UUID | None]:
    """Some of them, and behind which id to go on; None at the end."""
    bounds = (after.bytes, cutoff.bytes, _PAGE)
    if name == EXCHANGES:
        sql = "SELECT id FROM exchanges WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
        values: tuple[object, ...] = bounds
    else:
        parts = " UNION ".join(
            f"""SELECT exchange_id FROM (SELECT exchange_id FROM {table} WHERE exchange_id > ? AND exchange_id < ?
            GROUP BY exchange_id ORDER BY exchange_id LIMIT ?) of_{table}"""  # noqa: S608 - our tables
            for table in TABLES[name]
        )
        sql = f"SELECT exchange_id FROM ({parts}) found ORDER BY exchange_id LIMIT ?"  # noqa: S608 - our tables
        values = (*bounds * len(TABLES[name]), _PAGE)
    found = [bytes(row[0]) for row in execute(connection, sql, values).fetchall()]
    if not found:
        return [], None
    known = f"SELECT id FROM exchanges WHERE id IN ({marks(found)}) AND outcome IS NULL"  # noqa: S608 - question marks
    running = {bytes(row[0]) for row in execute(connection, known, found).fetchall()}
    return [UUID(bytes=each) for each in found if each not in running], UUID(bytes=found[-1])


def _delete(engine: Engine, name: str, cutoff: UUID) -> int:
    """Delete what no dropped partition took along; of how many exchanges."""

    def waiting() -> Iterator[UUID]:
        """A page at a time, when it is needed: nothing holds a transaction open meanwhile."""
        after: UUID | None = UUID(int=0)
        while after is not None:
            with reading(engine) as connection:
                page, after = _page(connection, name, after, cutoff)
            yield from page

    if name == EXCHANGES:
        return delete_exchanges(engine, waiting(), vacuum=False).deleted
    return delete_parts(engine, waiting(), TABLES[name])

"""Partitions of the tables that Postgres parts by time: which there should be, making them, dropping them.

An exchange's id begins with its time, so that a range of ids is a range of time. A row that fits no partition goes into
NAME_default: a wrong clock stops nothing. SQLite has none: every function does nothing there. All statements are ones
that Citus runs too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine

from proxy.store.engine import execute, is_shared, one, writing
from proxy.store.errors import DatabaseBusy
from proxy.store.schema_postgres import PARTITIONED

_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)  # before it there was nothing to record
_AHEAD = timedelta(days=62)  # a clock that is further ahead is wrong
_DAYS_AHEAD = 7
_DAY_MS = 86_400_000
_BUSY_WAIT = 10.0  # seconds after which what was read by somebody is tried again


class Unit(Enum):
    """How long the time of one partition is."""

    DAY = "day"
    MONTH = "month"

    def start(self, at: datetime) -> datetime:
        """When the one that holds a moment begins, in UTC."""
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self is Unit.DAY else midnight.replace(day=1)

    def next(self, start: datetime) -> datetime:
        """When the one after that which begins at `start` begins."""
        return self.start(start + timedelta(days=1 if self is Unit.DAY else 31))

    def suffix(self, start: datetime) -> str:
        """What the names of its tables end with."""
        return f"{start:_y%Ym%md%d}" if self is Unit.DAY else f"{start:_y%Ym%m}"


Units = Mapping[str, Unit]
"""Table -> unit; those that are not named are by month."""


class Partition(NamedTuple):
    """A partition of `table`, of ids from `low` on and before `high`."""

    table: str
    name: str
    low: UUID
    high: UUID


def bound(at: datetime) -> UUID:
    """The lowest id of a time."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


def moment(key: UUID) -> datetime:
    """The time in an id; that of an absurd one is the nearest that there is."""
    return datetime.fromtimestamp(min(key.int >> 80, 253402300799999) / 1000, UTC)


def partition_of(table: str, at: datetime, unit: Unit) -> Partition:
    """The partition that should hold a moment."""
    start = unit.start(at)
    return Partition(table, table + unit.suffix(start), bound(start), bound(unit.next(start)))


_EXISTING = """SELECT p.relname::text, c.relname::text, pg_get_expr(c.relpartbound, c.oid)::text
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
    WHERE p.relkind = 'p' AND c.relispartition AND p.relnamespace = to_regnamespace(quote_ident(current_schema()))"""


def existing(connection: Connection) -> list[Partition]:
    """The partitions that there are, but for the defaults, the oldest of each table first."""
    if not is_shared(connection):
        return []
    found = []
    for table, name, limits in execute(connection, _EXISTING).fetchall():
        parts = limits.split("'")  # FOR VALUES FROM ('...') TO ('...')
        if len(parts) == 5 and table in PARTITIONED:
            found.append(Partition(table, name, UUID(parts[1]), UUID(parts[3])))
    return sorted(found, key=lambda each: (each.table, each.low))


def ahead(now: datetime, unit: Unit) -> Iterator[datetime]:
    """A moment of each unit that should have its partitions by now."""
    until = now + (timedelta(days=_DAYS_AHEAD) if unit is Unit.DAY else timedelta(days=32))
    at = unit.start(now)
    while at <= until:
        yield at
        at = unit.next(at)


IMPATIENT = "SELECT set_config('lock_timeout', '100ms', true)"
"""To be run before what wants a whole table: where a backup reads it for long, others would queue behind us."""


def make(engine: Engine, moments: Iterable[datetime] | None, units: Units) -> int:
    """Make what is missing for these moments (None: for those to come), a short transaction each; how many were made.

    What lies before 2020 or more than two months ahead is left to the default partitions. Raises DatabaseBusy.
    """
    if not is_shared(engine):
        return 0
    now = datetime.now(UTC)
    wanted: dict[str, Partition] = {}
    for table in PARTITIONED:
        unit = units.get(table, Unit.MONTH)
        for at in ahead(now, unit) if moments is None else list(moments):
            if _EARLIEST <= at <= now + _AHEAD:
                each = partition_of(table, at, unit)
                wanted[each.name] = each
    with engine.connect() as connection:
        there = existing(connection)
    missing = [each for each in wanted.values() if not any(_meet(each, other) for other in there)]
    for each in missing:
        with writing(engine) as connection:
            execute(connection, IMPATIENT)
            _make(connection, each)
    return len(missing)


def _meet(one_of: Partition, other: Partition) -> bool:
    return one_of.table == other.table and one_of.low < other.high and other.low < one_of.high


def _make(connection: Connection, wanted: Partition) -> None:
    """Make a partition, and move into it what the default has of it, from when a clock was ahead."""
    if any(_meet(wanted, other) for other in existing(connection)):
        return  # another node was faster
    key = "id" if wanted.table == "exchanges" else "exchange_id"
    within = f"{key} >= '{wanted.low}' AND {key} < '{wanted.high}'"
    default = f"{wanted.table}_default"
    strayed = one(connection, f"SELECT 1 FROM {default} WHERE {within} LIMIT 1") is not None  # noqa: S608 - ours
    if strayed:
        execute(connection, f"CREATE TEMP TABLE strayed ON COMMIT DROP AS SELECT * FROM {default} WHERE {within}")  # noqa: S608 - ours
        execute(connection, f"DELETE FROM {default} WHERE {within}")  # noqa: S608 - ours
    execute(
        connection,
        f"CREATE TABLE {wanted.name} PARTITION OF {wanted.table} FOR VALUES FROM ('{wanted.low}') TO ('{wanted.high}')",
    )
    if strayed:
        execute(connection, f"INSERT INTO {wanted.table} SELECT * FROM strayed")  # noqa: S608 - ours
        execute(connection, "DROP TABLE strayed")


class Room:
    """Looks that there are partitions for what is about to be written; asks the database only for times it has not."""

    def __init__(self, engine: Engine, units: Units) -> None:
        self._engine = engine
        self._units = units
        self._days: set[int] = set()
        self._shared = is_shared(engine)
        self._made_ahead = self._again = -float("inf")

    def make_for(self, ids: Iterable[UUID]) -> None:
        """To be called outside any transaction."""
        if not self._shared:
            return
        missing: dict[int, UUID] = {}
        for each in ids:
            day = (each.int >> 80) // _DAY_MS
            if day not in self._days:
                missing[day] = each
        if missing and self._try([moment(each) for each in missing.values()]):
            self._days |= missing.keys()

    def make_ahead(self, every: float = 600.0) -> None:
        """Make what will be needed next, if it is time to look again."""
        if self._shared and time.monotonic() - self._made_ahead > every and self._try(None):
            self._made_ahead = time.monotonic()

    def _try(self, moments: Iterable[datetime] | None) -> bool:
        """Make them unless somebody reads those tables for long: then rows go into the defaults until it is over."""
        if time.monotonic() < self._again:
            return False
        try:
            make(self._engine, moments, self._units)
        except DatabaseBusy:
            self._again = time.monotonic() + _BUSY_WAIT
            return False
        return True

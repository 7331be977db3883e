"""Deleting exchanges so that nothing of them stays in the file, beside a running ingest.

Short immediate transactions of bounded size, with pauses in which others get the write lock; then the interned rows
that nobody uses any more (sweep.py), the words of texts (fulltext.py), the freed pages. What was counted of them stays.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Column, Connection, Engine, Table, delete, func, select

from proxy.store.engine import reclaim, writing
from proxy.store.fulltext import drop_texts, drop_texts_of, forget_words
from proxy.store.responses import forget
from proxy.store.schema import (
    OF_EXCHANGE,
    changes,
    chunks,
    exchanges,
    metadata,
)
from proxy.store.schema_meaning import texts
from proxy.store.sweep import SWEPT_COLUMNS, no_ids, note_used, sweep

HELD_SECONDS = 0.08
"""How long a transaction takes on new work; the last piece of it comes on top, and others wait no longer than 0.2 s."""

_AT_ONCE = 32
_FETCHED = 1024
_PIECE_ROWS, _PIECE_BYTES = 500, 1 << 20
_LARGE: tuple[tuple[Table, Column[Any]], ...] = (
    (chunks, chunks.c.data),
    (changes, changes.c.data),
    (texts, texts.c.data),
)


class Deleted(NamedTuple):
    """How many exchanges were deleted, and how many were left because they are still open."""

    deleted: int
    still_open: int


def delete_exchanges(engine: Engine, ids: Iterable[UUID], *, vacuum: bool = True) -> Deleted:
    """Delete ended exchanges with everything stored of them; ids that are not there are passed over.

    What was deleted stays deleted if it is interrupted; a large exchange may then have lost a part of its chunks.
    `vacuum`: the freed room is given back to the file system at once.
    """
    work = _Deletion(ids)
    _do(engine, work)
    if work.deleted:
        sweep(engine, work.used)
        forget_words(engine)
        if vacuum:
            reclaim(engine)
    return Deleted(work.deleted, work.still_open)


def delete_parts(engine: Engine, ids: Iterable[UUID], tables: Sequence[str]) -> int:
    """Delete what some tables have of exchanges, which stay; of how many."""
    work = _Deletion(ids, [metadata.tables[each] for each in tables])
    _do(engine, work)
    if work.deleted and texts.name in tables:
        forget_words(engine)
    return work.deleted


def _do(engine: Engine, work: _Deletion) -> None:
    while work.waiting:
        with writing(engine) as connection:
            began = time.monotonic()  # the lock is held from here
            work.step(connection)
            while work.waiting and time.monotonic() - began < HELD_SECONDS:
                work.step(connection)
        work.refill()
        if work.waiting:
            time.sleep(time.monotonic() - began)


class _Deletion:
    """What is still to be deleted, and what the deleted exchanges referred to. `parts`: of these tables only."""

    def __init__(self, ids: Iterable[UUID], parts: Sequence[Table] | None = None) -> None:
        self.waiting: deque[UUID] = deque()
        self.deleted = 0
        self.still_open = 0
        self.used = no_ids()
        self._parts = parts
        self._source = iter(ids)
        self.refill()

    def refill(self) -> None:
        """Take more of the ids; outside any transaction, since they may be looked up."""
        self.waiting.extend(islice(self._source, _FETCHED - len(self.waiting)))

    def step(self, connection: Connection) -> None:
        """One bounded piece of work: delete a few small exchanges, or one, or the first part of a large one."""
        group = list(dict.fromkeys(islice(self.waiting, _AT_ONCE)))
        taken = min(len(self.waiting), _AT_ONCE)
        if not _fit(connection, group):
            group, taken = group[:1], 1
        columns = (exchanges.c.id, exchanges.c.outcome, exchanges.c.response_id, *SWEPT_COLUMNS)
        found = list(connection.execute(select(*columns).where(exchanges.c.id.in_(group))).mappings())
        ended = [row for row in found if row["outcome"] is not None]
        if len(group) == 1 and ended and _cut(connection, group[0], self._parts):
            return
        ids = [row["id"] for row in ended]
        if self._parts is None:
            note_used(connection, ended, self.used)
            _delete(connection, ids, [row["response_id"] for row in ended])
        else:
            _delete_from(connection, ids, self._parts)
        self.deleted += len(ended)
        self.still_open += len(found) - len(ended)
        for _ in range(taken):
            self.waiting.popleft()


def _fit(connection: Connection, group: Sequence[UUID]) -> bool:
    """Whether all of these exchanges can be deleted in one piece."""
    for table, data in _LARGE:
        first = select(func.length(data).label("size")).where(table.c.exchange_id.in_(group)).limit(_PIECE_ROWS + 1)
        sizes = first.subquery()
        rows, total = connection.execute(select(func.count(), func.sum(sizes.c.size))).one()
        if rows > _PIECE_ROWS or (total or 0) > _PIECE_BYTES:
            return False
    return True


def _cut(connection: Connection, exchange: UUID, parts: Sequence[Table] | None) -> bool:
    """Delete the first rows of an exchange that has too much for one piece; False if the rest of it fits one."""
    for table, data in _LARGE:
        if parts is not None and table not in parts:
            continue
        rows = select(table.c.seq, func.length(data)).where(table.c.exchange_id == exchange)
        total = 0
        for number, (seq, size) in enumerate(connection.execute(rows.order_by(table.c.seq).limit(_PIECE_ROWS + 1))):
            total += size
            if number == _PIECE_ROWS or (number and total > _PIECE_BYTES):
                if table is texts:
                    drop_texts(connection, "exchange_id = ? AND seq < ?", (exchange.bytes, seq))
                else:
                    connection.execute(delete(table).where(table.c.exchange_id == exchange, table.c.seq < seq))
                return True
    return False


def _delete(connection: Connection, ids: Sequence[UUID], responses: Sequence[str | None]) -> None:
    if not ids:
        return
    _delete_from(connection, ids, OF_EXCHANGE)
    forget(connection, [(response, each.bytes) for response, each in zip(responses, ids, strict=True)])
    connection.execute(delete(exchanges).where(exchanges.c.id.in_(ids)))


def _delete_from(connection: Connection, ids: Sequence[UUID], tables: Sequence[Table]) -> None:
    if not ids:
        return
    for table in tables:
        if table is texts:
            drop_texts_of(connection, [each.bytes for each in ids])
        else:
            connection.execute(delete(table).where(table.c.exchange_id.in_(ids)))

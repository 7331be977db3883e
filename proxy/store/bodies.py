"""Chunks of exchanges as they are stored, packed or not: whoever reads them sees no difference.

An exchange has either rows of `chunks` or rows of `tapes`, all of it. Every function takes a connection of
`engine.reading`; memory is bounded by a few chunks, and for packed ones by the tape.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from proxy.store import tapes
from proxy.store.backend import lots, marks
from proxy.store.engine import execute, one, rows
from proxy.store.rows import ChunkRow

_ALL = "SELECT side, seq, at_us, data FROM chunks WHERE exchange_id = ? ORDER BY seq"
_SIDE = "SELECT side, seq, at_us, data FROM chunks WHERE exchange_id = ? AND side = ? ORDER BY seq"


class Stored(NamedTuple):
    """How much of a side is stored."""

    chunks: int
    bytes: int


def stored(connection: Connection, exchange: UUID) -> dict[int, Stored]:
    """Side -> what is stored of it; a side without chunks is absent."""
    sql = """SELECT side, count(*), CAST(coalesce(sum(length(data)), 0) AS BIGINT) FROM chunks
        WHERE exchange_id = ? GROUP BY side
        UNION ALL SELECT side, chunks, bytes FROM tapes WHERE exchange_id = ?"""
    key = exchange.bytes
    return {row[0]: Stored(row[1], row[2]) for row in execute(connection, sql, (key, key)).fetchall()}


def is_stored(connection: Connection, exchange: UUID) -> bool:
    """Whether a single chunk of an exchange is stored."""
    sql = "SELECT 1 FROM chunks WHERE exchange_id = ? UNION ALL SELECT 1 FROM tapes WHERE exchange_id = ? LIMIT 1"
    return one(connection, sql, exchange.bytes, exchange.bytes) is not None


def packed_of(connection: Connection, keys: Sequence[bytes]) -> set[bytes]:
    """Those of the exchanges that are packed."""
    found: set[bytes] = set()
    for lot in lots(keys):
        sql = f"SELECT exchange_id FROM tapes WHERE exchange_id IN ({marks(lot)})"  # noqa: S608 - question marks
        found.update(bytes(row[0]) for row in execute(connection, sql, lot))
    return found


def unpacked(connection: Connection, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int, int, bytes]]:
    """The chunks of exchanges that are not packed, and few: id, side, time, data; each exchange's by its sequence."""
    for lot in lots(keys):
        sql = f"""SELECT exchange_id, side, at_us, data FROM chunks WHERE exchange_id IN ({marks(lot)})
            ORDER BY exchange_id, seq"""  # noqa: S608 - question marks
        yield from rows(connection, sql, *lot, whole=True)


def is_intact(connection: Connection, exchange: UUID) -> bool:
    """Whether what is packed of an exchange can be unpacked."""
    sql = "SELECT format, data FROM tapes WHERE exchange_id = ?"
    try:
        for form, data in execute(connection, sql, (exchange.bytes,)).fetchall():
            tapes.unpack(form, data)
    except tapes.BadTape:
        return False
    return True


def chunks(connection: Connection, exchange: UUID, side: int | None = None) -> Generator[ChunkRow]:
    """The chunks of an exchange, or of one side of it, by their sequence. Raises BadTape for a damaged tape."""
    tapes_of = execute(connection, "SELECT side FROM tapes WHERE exchange_id = ?", (exchange.bytes,))
    packed = [row[0] for row in tapes_of.fetchall() if side is None or row[0] == side]
    if packed:
        yield from heapq.merge(*(_unpacked(connection, exchange, each) for each in packed), key=lambda row: row.seq)
    values = (exchange.bytes,) if side is None else (exchange.bytes, int(side))
    with closing(rows(connection, _ALL if side is None else _SIDE, *values)) as found:
        for of, seq, at_us, data in found:
            yield ChunkRow(exchange, of, seq, at_us, data)


def _unpacked(connection: Connection, exchange: UUID, side: int) -> Iterator[ChunkRow]:
    sql = "SELECT format, data FROM tapes WHERE exchange_id = ? AND side = ?"
    row = execute(connection, sql, (exchange.bytes, side)).fetchone()
    if row is not None:
        for seq, at_us, data in tapes.unpack(row[0], row[1]):
            yield ChunkRow(exchange, side, seq, at_us, data)

"""Packing: the chunks of an exchange that ended long ago become one row of `tapes` for each side.

Read and compressed outside any transaction; written and deleted in a short one, all of an exchange or nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine

from proxy.store import tapes
from proxy.store.backend import marks
from proxy.store.bodies import packed_of
from proxy.store.engine import execute, insert_many, one, reading, rows, writing
from proxy.store.schema import tapes as tapes_table

MOST_BYTES = 256 << 20
"""An exchange with more stays as it is: its tape would be held in memory, by whoever reads it too."""

_AT_ONCE = 64  # exchanges of one step
_STEP_BYTES = 4 << 20
_LOOK = "SELECT exchange_id FROM chunks WHERE exchange_id > ? AND exchange_id < ? ORDER BY exchange_id LIMIT 1"
_ROWS = "SELECT side, seq, at_us, data FROM chunks WHERE exchange_id = ? ORDER BY seq"


class Packing(NamedTuple):
    """What a step did: exchanges and chunks packed, their bytes before and after; `last` is where to go on, None at the
    end."""

    exchanges: int
    chunks: int
    before: int
    after: int
    last: UUID | None


def pack_some(engine: Engine, before: UUID, after: UUID, seconds: float = 0.1) -> Packing:
    """Pack exchanges that are older than `before` and have ended and been read, from behind `after` on."""
    deadline = time.monotonic() + seconds
    made: dict[UUID, list[tuple[int, tapes.Packed]]] = {}
    size = 0
    with reading(engine) as connection:
        last: UUID | None = after
        while len(made) < _AT_ONCE and size < _STEP_BYTES and time.monotonic() < deadline:
            last = _next(connection, last, before)
            if last is None:
                break
            if _may(connection, last):
                made[last] = _packed(connection, last)
                size += sum(each.bytes for _, each in made[last])
    done = _write(engine, made) if made else []
    packed = [each for key in done for _, each in made[key]]
    totals = (sum(each.chunks for each in packed), sum(each.bytes for each in packed))
    return Packing(len(done), *totals, sum(len(each.data) for each in packed), last)


def _next(connection: Connection, after: UUID | None, before: UUID) -> UUID | None:
    if after is None:
        return None
    found = one(connection, _LOOK, after.bytes, before.bytes)
    return None if found is None else UUID(bytes=bytes(found))


def _may(connection: Connection, exchange: UUID) -> bool:
    """Whether an exchange will not change any more, and its tape is not too large."""
    sql = """SELECT 1 FROM exchanges WHERE id = ? AND outcome IS NOT NULL AND interpreter IS NOT NULL
        AND request_bytes + response_bytes <= ?"""
    return one(connection, sql, exchange.bytes, MOST_BYTES) is not None


def _packed(connection: Connection, exchange: UUID) -> list[tuple[int, tapes.Packed]]:
    sides: dict[int, list[tuple[int, int, bytes]]] = {}
    for side, seq, at_us, data in rows(connection, _ROWS, exchange.bytes, whole=True):
        sides.setdefault(side, []).append((seq, at_us, data))
    return [(side, tapes.pack(found)) for side, found in sides.items()]


def _write(engine: Engine, made: dict[UUID, list[tuple[int, tapes.Packed]]]) -> Sequence[UUID]:
    """Put tapes in the place of chunks; the exchanges of which that could be done, those that were not deleted."""
    keys = [each.bytes for each in made]
    with writing(engine) as connection:
        sql = f"SELECT id FROM exchanges WHERE id IN ({marks(keys)})"  # noqa: S608 - question marks
        there = {UUID(bytes=bytes(row[0])) for row in execute(connection, sql, keys).fetchall()}
        there -= {UUID(bytes=each) for each in packed_of(connection, keys)}
        done = [each for each in made if each in there and made[each]]
        if done:
            insert_many(
                connection,
                tapes_table,
                [(key.bytes, side, *each[:3], each.data) for key in done for side, each in made[key]],
            )
            gone = f"DELETE FROM chunks WHERE exchange_id IN ({marks(done)})"  # noqa: S608 - question marks
            execute(connection, gone, [key.bytes for key in done])
    return done

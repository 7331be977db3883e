"""What readers look exchanges up by: ids of `names`, and bounds of ranges of exchange ids. Must not write anything."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection

from proxy.store import clean
from proxy.store.backend import lots, marks
from proxy.store.engine import execute
from proxy.store.schema import NameKind


def first_id(at_us: int) -> UUID:
    """The lowest exchange id of a time in microseconds since 1970: a bound for ranges of ids."""
    ms, us = divmod(max(at_us, 0), 1000)
    return UUID(int=ms << 80 | 0x7 << 76 | (us * 4096 // 1000) << 64 | 0x2 << 62)


def named(*columns: str) -> tuple[str, str]:
    """SQL that shows columns of `exchanges e` that are ids of `names` as text: what to select, and the joins."""
    shown = ", ".join(f"n_{each}.value" for each in columns)
    return shown, " ".join(f"LEFT JOIN names n_{each} ON n_{each}.id = e.{each}" for each in columns)


def name_ids(connection: Connection, kind: NameKind, value: str) -> list[int]:
    """The ids in `names` of a value; with a `*` at its end of all values that begin so."""
    if value.endswith("*"):
        sql = "SELECT id FROM names WHERE kind = ? AND substr(value, 1, ?) = ?"
        beginning = clean.capped(value[:-1])
        return [row[0] for row in execute(connection, sql, (int(kind), len(beginning), beginning))]
    sql = "SELECT id FROM names WHERE kind = ? AND value = ?"
    return [row[0] for row in execute(connection, sql, (int(kind), clean.capped(value)))]


def name_texts(connection: Connection, ids: Iterable[int]) -> dict[int, str]:
    """What ids of `names` stand for."""
    found: dict[int, str] = {}
    for lot in lots(sorted(ids)):
        sql = f"SELECT id, value FROM names WHERE id IN ({marks(lot)})"  # noqa: S608 - question marks
        found.update({row[0]: row[1] for row in execute(connection, sql, tuple(lot))})
    return found

"""Reading what one exchange meant: the words, ratings, limits, and all that has no column.

Every function takes a connection of `engine.reading`. Must not write anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from proxy.store.engine import execute, one
from proxy.store.meanings import ANSWER, REASONING
from proxy.store.rows import RatingRow
from proxy.store.schema import NameKind


@dataclass(frozen=True, slots=True)
class Meant:
    """`data` is the JSON of `meanings`, empty where nothing was understood; `prompts` are (role, text) of messages that
    no earlier exchange of the session has; `limits` (kind, limit, remaining, reset in microseconds); `price` the JSON
    of the price that was used; `usage_raw` the provider's usage object."""

    data: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    reasoning: str | None = None
    prompts: tuple[tuple[str, str], ...] = ()
    ratings: tuple[RatingRow, ...] = ()
    limits: tuple[tuple[str, int | None, int | None, int | None], ...] = ()
    price: dict[str, Any] | None = None
    usage_raw: Any = None
    credential_name: str | None = None


def meant(connection: Connection, exchange: UUID) -> Meant:
    """What an exchange meant, as far as it is stored."""
    key = exchange.bytes
    data = one(connection, "SELECT data FROM meanings WHERE exchange_id = ?", key)
    price = one(connection, "SELECT p.data FROM prices p JOIN exchanges e ON e.price = p.id WHERE e.id = ?", key)
    raw = one(connection, "SELECT data FROM usage_raw WHERE exchange_id = ?", key)
    named = "SELECT c.name FROM credential_names c JOIN exchanges e ON e.credential = c.credential WHERE e.id = ?"
    texts = _texts(connection, key)
    return Meant(
        data=msgspec.json.decode(data, type=dict[str, Any]) if data is not None else {},
        text=texts.get(ANSWER),
        reasoning=texts.get(REASONING),
        prompts=_prompts(connection, key),
        ratings=_ratings(connection, key),
        limits=_limits(connection, key),
        price=None if price is None else msgspec.json.decode(price, type=dict[str, Any]),
        usage_raw=None if raw is None else msgspec.json.decode(raw),
        credential_name=one(connection, named, key),
    )


_ROLES = "FROM texts t LEFT JOIN names r ON r.id = t.role WHERE t.exchange_id = ?"


def _texts(connection: Connection, key: bytes) -> dict[str, str]:
    """The answers by role."""
    sql = f"SELECT r.value, t.data {_ROLES} AND t.seq < 0"
    return {row[0]: row[1] for row in execute(connection, sql, (key,))}


def _prompts(connection: Connection, key: bytes) -> tuple[tuple[str, str], ...]:
    sql = f"SELECT r.value, t.data {_ROLES} AND t.seq >= 0 ORDER BY t.seq"
    return tuple((row[0], row[1]) for row in execute(connection, sql, (key,)))


def _ratings(connection: Connection, key: bytes) -> tuple[RatingRow, ...]:
    sql = f"""SELECT s.side, c.value, l.value, s.score, s.blocked FROM safety s
        JOIN names c ON c.id = s.category AND c.kind = {int(NameKind.SAFETY)} LEFT JOIN names l ON l.id = s.level
        WHERE s.exchange_id = ? ORDER BY s.seq"""  # noqa: S608 - a number of ours
    rows = execute(connection, sql, (key,)).fetchall()
    return tuple(RatingRow(row[0], row[1], row[2], row[3], None if row[4] is None else bool(row[4])) for row in rows)


def _limits(connection: Connection, key: bytes) -> tuple[tuple[str, int | None, int | None, int | None], ...]:
    sql = """SELECT n.value, r.limit_count, r.remaining, r.reset_us FROM rate_limits r JOIN names n ON n.id = r.kind
        WHERE r.exchange_id = ? ORDER BY n.value"""
    return tuple((row[0], row[1], row[2], row[3]) for row in execute(connection, sql, (key,)))

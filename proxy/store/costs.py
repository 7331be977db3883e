"""Costs of interpreted exchanges, apart from their bodies: what they were computed from, and writing them anew.

Knows tables and rows; must not know prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from proxy.store import clean
from proxy.store.backend import lots, marks
from proxy.store.engine import execute, update_many
from proxy.store.intern import Interner
from proxy.store.meanings import Written
from proxy.store.names import named
from proxy.store.rollups import HIGHEST_PICO, Ledger
from proxy.store.schema import NameKind, exchanges
from proxy.store.schema_meaning import meanings

_NAMES, _JOINS = named(
    "upstream", "dialect", "operation", "model_asked", "model_served", "service_tier", "usage_state", "cost_status"
)


@dataclass(slots=True)
class Costed:
    """What an exchange's cost follows from, and the cost as it stands. `data` and `price` are JSON."""

    exchange: UUID
    upstream: str | None
    dialect: str | None
    operation: str | None
    model_asked: str | None
    model_served: str | None
    service_tier: str | None
    usage_state: str | None
    cost_status: str | None
    started_us: int
    cost_pico: int | None
    cost_reported_pico: int | None
    price: str | None
    data: str


def costed(connection: Connection, ids: Sequence[UUID]) -> list[Costed]:
    """Those of the exchanges that were understood, in the order of their ids."""
    found = []
    for lot in lots(sorted(each.bytes for each in ids)):
        sql = f"""SELECT e.id, {_NAMES}, e.started_us, e.cost_pico, e.cost_reported_pico, p.data, m.data
            FROM exchanges e JOIN meanings m ON m.exchange_id = e.id {_JOINS} LEFT JOIN prices p ON p.id = e.price
            WHERE e.id IN ({marks(lot)}) ORDER BY e.id"""  # noqa: S608 - columns of ours
        rows = execute(connection, sql, tuple(lot)).fetchall()
        found += [Costed(UUID(bytes=row[0]), *row[1:]) for row in rows]
    return found


def put_costs(connection: Connection, intern: Interner, rows: Sequence[Costed], zone: tzinfo) -> Written:
    """Write the costs of exchanges anew, and what spend has of them; those that are gone are left out."""
    there: set[bytes] = set()
    for lot in lots([row.exchange.bytes for row in rows]):
        sql = f"SELECT exchange_id FROM meanings WHERE exchange_id IN ({marks(lot)})"  # noqa: S608 - question marks
        there.update(bytes(row[0]) for row in execute(connection, sql, lot))
    rows = [row for row in rows if row.exchange.bytes in there]
    if not rows:
        return Written()
    keys = [row.exchange.bytes for row in rows]
    ledger = Ledger(connection, intern, zone)
    before = ledger.take_away(keys)
    values: list[tuple[Any, ...]] = []
    for row in rows:
        status = intern.name_id(connection, NameKind.COST_STATUS, row.cost_status)
        amounts = [clean.count(each, HIGHEST_PICO) for each in (row.cost_pico, row.cost_reported_pico)]
        values.append((*amounts, status, intern.price(connection, row.price), row.exchange.bytes))
    update_many(connection, exchanges, ("cost_pico", "cost_reported_pico", "cost_status", "price"), values)
    update_many(connection, meanings, ("data",), [(row.data, row.exchange.bytes) for row in rows])
    after = ledger.add(keys)
    ledger.write()
    return Written(len(rows), len(rows), before, after)

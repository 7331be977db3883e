"""Exchanges with a meaning, and what the rollups say of them, for the tests of counting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from proxy.exchange import Outcome
from proxy.store.engine import execute, hashes_responses, reading
from proxy.store.meanings import Written
from proxy.store.rollups import MODEL, spent_sql, sums_sql
from proxy.store.rows import MeaningRow
from proxy.store.schema_meaning import SPENT
from proxy.store.write import Writer
from tests.unit.store.support import exchange, sql

TABLES = ("spend_hours", "spend_keys", "spend_tags")


def meant(exchange_id: UUID, **fields: Any) -> MeaningRow:
    """What a completed generation of 10 + 5 tokens for a millionth of a dollar meant, unless told otherwise."""
    usual: dict[str, Any] = {
        "interpreter": 1,
        "outcome": Outcome.COMPLETED,
        "model_asked": "m",
        "model_served": "m-1",
        "usage_state": "complete",
        "input_tokens": 10,
        "output_tokens": 5,
        "cost_pico": 1_000_000,
        "cost_status": "exact",
        "data": "{}",
    }
    return MeaningRow(exchange_id, **(usual | fields))


def failed(exchange_id: UUID, **fields: Any) -> MeaningRow:
    """A generation that was refused by its upstream."""
    nothing = {"usage_state": "none", "input_tokens": None, "output_tokens": None, "cost_pico": None}
    return meant(exchange_id, **({"failed": True, "cost_status": None} | nothing | fields))


def silent(exchange_id: UUID, **fields: Any) -> MeaningRow:
    """A generation of which nobody told how many tokens it took."""
    nothing = {"usage_state": "missing", "input_tokens": None, "output_tokens": None, "cost_pico": None}
    return meant(exchange_id, **({"cost_status": None} | nothing | fields))


def understand(writer: Writer, *rows: MeaningRow, zone: tzinfo = UTC, again: bool = False) -> Written:
    """Write meanings in a transaction of their own."""
    with writer.transaction():
        return writer.put_meanings(rows, zone, again=again)


def record(writer: Writer, *ids: UUID, **columns: Any) -> None:
    """Store completed exchanges without a meaning."""
    with writer.transaction():
        writer.put_exchanges([exchange(each, **columns) for each in ids])


def spent(engine: Engine, table: str = "spend_hours") -> dict[str, int]:
    """What a rollup adds up to, without what is zero."""
    sums = ", ".join(f"CAST(coalesce(sum({each}), 0) AS bigint)" for each in SPENT)
    (row,) = sql(engine, f"SELECT {sums} FROM {table}")  # noqa: S608 - our columns
    return {name: amount for name, amount in zip(SPENT, row, strict=True) if amount}


def totals(engine: Engine) -> dict[str, int]:
    """The same, as spend_hours and spend_keys must have it, computed from the exchanges themselves."""
    with reading(engine) as connection:
        sums = sums_sql(spent_sql(connection).values())
    (row,) = sql(engine, f"SELECT {sums} FROM exchanges WHERE counted")  # noqa: S608 - our columns
    return {name: amount for name, amount in zip(SPENT, row, strict=True) if amount}


def agree(engine: Engine) -> dict[str, int]:
    """Assert that the rollups agree with the exchanges and with one another; what they say."""
    expected = totals(engine)
    assert spent(engine, "spend_hours") == expected
    assert spent(engine, "spend_keys") == expected
    for table in TABLES:
        assert sql(engine, f"SELECT * FROM {table} WHERE exchanges = 0") == []  # noqa: S608 - our tables
    return expected


def by_model(engine: Engine) -> dict[str, int]:
    """Model -> counted exchanges, from the rollup by hours."""
    found = sql(
        engine,
        "SELECT coalesce((SELECT value FROM names WHERE id = model), ''), sum(exchanges) FROM spend_hours GROUP BY 1",
    )
    expected = sql(
        engine,
        f"""SELECT coalesce((SELECT value FROM names WHERE id = {MODEL}), ''), count(*) FROM exchanges
        WHERE counted GROUP BY 1""",  # noqa: S608 - a column of ours
    )
    assert sorted(found) == sorted(expected)
    return dict(found)


def everything(engine: Engine) -> dict[str, Sequence[Any]]:
    """All that meaning wrote, as the driver gives it."""
    tables = (*TABLES, "billed", "exchanges", "meanings", "usage", "usage_raw", "rate_limits", "safety", "response_ids")
    with reading(engine) as connection:
        kept = tables if hashes_responses(connection) else tables[:-1]
        found = {each: sorted(execute(connection, f"SELECT * FROM {each}"), key=repr) for each in kept}  # noqa: S608 - our tables
        texts = "SELECT exchange_id, seq, role, session, hash, data FROM texts"
        found["texts"] = sorted(execute(connection, texts), key=repr)
    return {name: [tuple(row) for row in rows] for name, rows in found.items()}

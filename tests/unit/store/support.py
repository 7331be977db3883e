"""Exchanges, heads and databases for the tests of the store."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, event, func, select

from proxy.exchange import ExchangeIds, Outcome, Side, WireEnd, id_time_us
from proxy.store.engine import execute, is_shared, reading, reclaim
from proxy.store.rows import ChunkRow, ExchangeRow, HeadRow, JournalRow
from proxy.store.schema import metadata

BEGAN_US = 1_790_000_000_000_000
SECOND = 1_000_000
DAY = 86_400 * SECOND


def ids(start_us: int = BEGAN_US, step_us: int = SECOND) -> Callable[[], UUID]:
    """A maker of exchange ids on a clock of its own."""
    ticks = itertools.count(start_us, step_us)
    return ExchangeIds(lambda: next(ticks)).next


def exchange(exchange_id: UUID, **columns: Any) -> ExchangeRow:
    """A completed exchange, unless told otherwise."""
    usual: dict[str, Any] = {
        "journal": 1,
        "ordinal": 1,
        "started_us": id_time_us(exchange_id),
        "node": "here",
        "upstream": "openai",
        "dialect": "openai",
        "method": "POST",
        "target": "/v1/chat/completions",
        "http_version": "1.1",
        "status": 200,
        "reason": "OK",
        "wire_end": WireEnd.UPSTREAM_END,
        "outcome": Outcome.COMPLETED,
    }
    return ExchangeRow(id=exchange_id, **(usual | columns))


def opened(exchange_id: UUID, **columns: Any) -> ExchangeRow:
    """An exchange of which only the request head is known."""
    return exchange(exchange_id, **({"status": None, "reason": None, "wire_end": None, "outcome": None} | columns))


def chunk(exchange_id: UUID, seq: int, data: bytes = b"data", side: int = Side.RESPONSE) -> ChunkRow:
    return ChunkRow(exchange_id, int(side), seq, seq * 1000, data)


def head(exchange_id: UUID, headers: list[tuple[str, str]], seq: int = 0, side: int = Side.REQUEST) -> HeadRow:
    return HeadRow(exchange_id, int(side), seq, seq * 1000, None, None, headers)


def journal(worker: UUID, **columns: Any) -> JournalRow:
    usual: dict[str, Any] = {"worker": worker, "node": "here", "started_us": BEGAN_US}
    return JournalRow(**(usual | columns))


def sql(engine: Engine, statement: str, *values: Any) -> list[Any]:
    """The rows of a statement, as the driver gives them."""
    with reading(engine) as connection:
        return [tuple(row) for row in execute(connection, statement, values)]


def stored(engine: Engine, table: str) -> int:
    """How many rows a table has."""
    with reading(engine) as connection:
        return connection.scalar(select(func.count()).select_from(metadata.tables[table])) or 0


def file_bytes(engine: Engine, path: Path) -> bytes:
    """All that the database's files hold, once what was freed is given back and the log is empty."""
    reclaim(engine)
    engine.dispose()
    return b"".join(each.read_bytes() for each in path.parent.glob(path.name + "*"))


_PARENTS = """SELECT c.relname::text, p.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    JOIN pg_class p ON p.oid = i.inhparent WHERE c.relkind = 'i'"""


def plans(engine: Engine, work: Callable[[Connection], Any], of: str = "exchanges") -> list[str]:
    """How the engine runs what `work` asks of a table, indexes by the names that they have in the schema.

    Postgres is told to do without reading whole tables, which in one so small is the quickest.
    """
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if f"FROM {of}" in statement and "WHERE" in statement:
            asked.append((statement, parameters))

    explain = "EXPLAIN " if is_shared(engine) else "EXPLAIN QUERY PLAN "
    with reading(engine) as connection:
        if is_shared(engine):
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        event.listen(engine, "before_cursor_execute", note)
        work(connection)
        event.remove(engine, "before_cursor_execute", note)
        steps = [connection.exec_driver_sql(explain + each, values).all() for each, values in asked]
        found = connection.exec_driver_sql(_PARENTS).all() if is_shared(engine) else []
        parents: dict[str, str] = {row[0]: row[1] for row in found}
    assert steps
    told = [" / ".join(row[-1] for row in each) for each in steps]
    return [re.sub(r"\w+", lambda word: parents.get(word.group(), word.group()), each) for each in told]


def uses(plan: str, index: str) -> bool:
    """Whether a plan goes by an index."""
    return re.search(rf"(?:USING (?:COVERING )?INDEX|using) {index}\b", plan) is not None


def sorts(plan: str) -> bool:
    """Whether a plan sorts what it finds."""
    return "TEMP B-TREE" in plan or "Sort" in plan

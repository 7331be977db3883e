"""The partial indexes are used by the very queries that they were made for."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, text

from proxy.exchange import Outcome
from proxy.store.engine import reading
from proxy.store.names import first_id
from proxy.store.read import Filters, list_exchanges
from proxy.store.schema import COSTLY, SLOW, exchanges, literally
from proxy.store.unread import count_unread, not_understood, unread
from proxy.store.write import Writer
from tests.unit.store.support import BEGAN_US, DAY, exchange, ids, opened


def plans(engine: Engine, work: Any) -> list[str]:
    """How SQLite runs what `work` asks of `exchanges`."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM exchanges" in statement and "WHERE" in statement:
            asked.append((statement, parameters))

    with reading(engine) as connection:
        event.listen(engine, "before_cursor_execute", note)
        work(connection)
        event.remove(engine, "before_cursor_execute", note)
        steps = [connection.exec_driver_sql("EXPLAIN QUERY PLAN " + each, values).all() for each, values in asked]
    assert steps
    return [" / ".join(row[3] for row in each) for each in steps]


@pytest.fixture
def filled(engine: Engine, writer: Writer) -> Engine:
    new = ids(step_us=DAY // 100)
    with writer.transaction():
        writer.put_exchanges(
            exchange(
                new(),
                session=f"s{number % 10}",
                status=429 if number % 50 == 0 else 200,
                outcome=Outcome.UPSTREAM_FAILED if number % 70 == 0 else Outcome.COMPLETED,
            )
            for number in range(2000)
        )
        writer.put_exchanges([opened(new())])
    return engine


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(session="s3"), "exchanges_session"),
        (Filters(status=429), "exchanges_status"),
        (Filters(status="4xx"), "exchanges_failed"),
        (Filters(outcome=Outcome.UPSTREAM_FAILED), "exchanges_outcome"),
        (Filters(outcome="open"), "exchanges_outcome"),
    ],
)
def test_lists_use_their_index_without_sorting(filled: Engine, filters: Filters, index: str) -> None:
    seen = plans(filled, lambda connection: list_exchanges(connection, filters, 50))
    for plan in seen:
        assert f"USING INDEX {index} (" in plan
        assert "TEMP B-TREE" not in plan


def test_lists_without_a_filter_follow_the_ids(filled: Engine) -> None:
    before = first_id(BEGAN_US + 5 * DAY)
    for plan in plans(filled, lambda connection: list_exchanges(connection, Filters(upstream="openai"), 50, before)):
        assert plan.startswith("SEARCH exchanges USING PRIMARY KEY (id>? AND id<?)")


@pytest.mark.parametrize(("condition", "index"), [(COSTLY, "exchanges_costly"), (SLOW, "exchanges_slow")])
def test_the_other_conditions_use_theirs(filled: Engine, condition: str, index: str) -> None:
    query = select(exchanges).where(literally(condition)).order_by(exchanges.c.id.desc()).limit(50)
    (plan,) = plans(filled, lambda connection: connection.execute(query))
    assert index in plan


def test_what_was_not_understood_is_found_without_a_scan(filled: Engine) -> None:
    (plan,) = plans(filled, not_understood)
    assert "USING INDEX exchanges_not_understood" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("column", ["model_asked", "credential", "virtual_key", "session"])
def test_ids_of_names_use_theirs(filled: Engine, column: str) -> None:
    query = select(exchanges).where(exchanges.c[column] == 3).order_by(exchanges.c.id.desc()).limit(50)
    (plan,) = plans(filled, lambda connection: connection.execute(query))
    assert f"exchanges_{column}" in plan


def test_open_exchanges_are_found_without_a_scan(filled: Engine, writer: Writer) -> None:
    def take_up(_connection: Connection) -> None:
        with writer.transaction():
            assert len(writer.open_exchanges(1)) == 1

    (plan,) = plans(filled, take_up)
    assert "USING INDEX exchanges_outcome (" in plan


@pytest.mark.parametrize(
    ("table", "order"), [("chunks", "seq"), ("heads", "side, seq"), ("tags", "1"), ("headers", "1")]
)
def test_what_belongs_to_an_exchange_is_found_by_its_id(engine: Engine, table: str, order: str) -> None:
    query = select(text("*")).select_from(text(table)).where(text("exchange_id = x'00'")).order_by(text(order))
    with reading(engine) as connection:
        steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    scans = [step for step in steps if step.startswith("SCAN")]
    assert scans == (["SCAN item VIRTUAL TABLE INDEX 1:"] if table == "headers" else []), steps


def test_what_waits_to_be_interpreted_is_found_by_its_index(filled: Engine) -> None:
    (plan,) = plans(filled, lambda connection: unread(connection, 5))
    assert "exchanges_unread" in plan
    assert "TEMP B-TREE" not in plan
    with reading(filled) as connection:
        assert len(unread(connection, 5)) == 5
        assert count_unread(connection) == 2000
        assert count_unread(connection, 7) == 7

"""The partial indexes are used by the very queries that they were made for."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, select, text

from proxy.exchange import Outcome
from proxy.store.engine import is_shared, reading
from proxy.store.names import first_id
from proxy.store.read import Filters, list_exchanges
from proxy.store.schema import COSTLY, SLOW, exchanges, literally
from proxy.store.unread import count_unread, not_understood, unread
from proxy.store.write import Writer
from tests.unit.store.support import BEGAN_US, DAY, exchange, ids, opened, plans, sorts, uses


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
        assert uses(plan, index)
        # Postgres does not know that what IS NULL has one value only; what is open is little to sort.
        assert not sorts(plan) or (is_shared(filled) and filters.outcome == "open")


def test_lists_without_a_filter_follow_the_ids(filled: Engine) -> None:
    before = first_id(BEGAN_US + 5 * DAY)
    for plan in plans(filled, lambda connection: list_exchanges(connection, Filters(upstream="openai"), 50, before)):
        assert "SEARCH exchanges USING PRIMARY KEY (id>? AND id<?)" in plan or uses(plan, "exchanges_pkey")
        assert not sorts(plan)


@pytest.mark.parametrize(("condition", "index"), [(COSTLY, "exchanges_costly"), (SLOW, "exchanges_slow")])
def test_the_other_conditions_use_theirs(filled: Engine, condition: str, index: str) -> None:
    query = select(exchanges).where(literally(condition)).order_by(exchanges.c.id.desc()).limit(50)
    (plan,) = plans(filled, lambda connection: connection.execute(query))
    assert uses(plan, index)


def test_what_was_not_understood_is_found_without_a_scan(filled: Engine) -> None:
    (plan,) = plans(filled, not_understood)
    assert uses(plan, "exchanges_not_understood")
    assert not sorts(plan)


@pytest.mark.parametrize("column", ["model_asked", "credential", "virtual_key", "session"])
def test_ids_of_names_use_theirs(filled: Engine, column: str) -> None:
    query = select(exchanges).where(exchanges.c[column] == 3).order_by(exchanges.c.id.desc()).limit(50)
    (plan,) = plans(filled, lambda connection: connection.execute(query))
    assert uses(plan, f"exchanges_{column}")


def test_open_exchanges_are_found_without_a_scan(filled: Engine, writer: Writer) -> None:
    def take_up(_connection: Connection) -> None:
        with writer.transaction():
            assert len(writer.open_exchanges(1)) == 1

    (plan,) = plans(filled, take_up)
    assert uses(plan, "exchanges_outcome")


@pytest.mark.engines("sqlite")
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
    assert uses(plan, "exchanges_unread")
    assert not sorts(plan)
    with reading(filled) as connection:
        assert len(unread(connection, 5)) == 5
        assert count_unread(connection) == 2000
        assert count_unread(connection, 7) == 7

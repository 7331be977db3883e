"""Doing history again: in steps, from anywhere, beside ingest, and harmless however often."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from proxy.ingest import again
from proxy.ingest.again import AT_ONCE, Step, reinterpret, reprice
from proxy.ingest.complete import INTERPRETER
from proxy.interpret.price import Pricing
from proxy.store.engine import open_engine
from proxy.store.schema_meaning import SPENT
from tests.support.journals import House, exchange, exchange_id, merged

COUNT = AT_ONCE * 2 + 3
FIRST = UUID(int=0)


@pytest.fixture
def engine(house: House) -> Iterator[Engine]:
    found = open_engine(house.url, create=False)
    yield found
    found.dispose()


def everything(house: House) -> dict[str, list[Any]]:
    tables = ("exchanges", "meanings", "usage", "usage_raw", "billed", "spend_hours", "spend_keys", "spend_tags")
    return {each: sorted(house.query(f"SELECT * FROM {each}"), key=repr) for each in tables}  # noqa: S608 - our tables


def done(steps: Iterator[Step]) -> tuple[int, int, int]:
    """Exchanges written, changed, skipped."""
    all_steps = list(steps)
    return (
        sum(step.written.exchanges for step in all_steps),
        sum(step.written.changed for step in all_steps),
        sum(step.skipped for step in all_steps),
    )


def fill(house: House, count: int = COUNT, **head: Any) -> None:
    house.record(merged(*[exchange(number, tags=[("env", "ci")], **head) for number in range(1, count + 1)]))
    house.interpret()


def forget(house: House) -> None:
    """As if an older version had understood less."""
    house.execute("UPDATE exchanges SET model_served = NULL, cost_status = NULL; UPDATE meanings SET data = '{}'")


def test_reading_again_twice_changes_nothing(house: House, engine: Engine) -> None:
    fill(house)
    before = everything(house)
    assert done(reinterpret(engine, FIRST, None, UTC, Pricing())) == (COUNT, 0, 0)
    assert everything(house) == before


def test_what_changed_is_told(house: House, engine: Engine) -> None:
    fill(house)
    before = everything(house)
    forget(house)
    assert done(reinterpret(engine, FIRST, None, UTC, Pricing()))[:2] == (COUNT, COUNT)
    assert everything(house) == before
    assert done(reinterpret(engine, FIRST, None, UTC, Pricing()))[1] == 0


def test_a_stretch_of_time(house: House, engine: Engine) -> None:
    fill(house)
    forget(house)
    steps = list(reinterpret(engine, exchange_id(5), exchange_id(9), UTC, Pricing()))
    assert [step.last for step in steps] == [exchange_id(8)]
    assert sum(step.written.changed for step in steps) == 4


def test_it_can_be_interrupted_and_taken_up(house: House, engine: Engine) -> None:
    fill(house)
    before = everything(house)
    forget(house)
    first = next(reinterpret(engine, FIRST, None, UTC, Pricing()))
    assert (first.written.changed, first.last) == (AT_ONCE, exchange_id(AT_ONCE))
    assert done(reinterpret(engine, first.last, None, UTC, Pricing()))[1] == COUNT - AT_ONCE, "the last one is harmless"
    assert everything(house) == before


def test_steps_have_few_bytes(house: House, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(house, 5)
    monkeypatch.setattr(again, "_BYTES", 0)
    assert [step.last for step in reinterpret(engine, FIRST, None, UTC, Pricing())] == [
        exchange_id(n) for n in range(1, 6)
    ]


def test_what_is_not_stored_cannot_be_read_again(house: House, engine: Engine) -> None:
    house.record(merged(exchange(1, record="meta"), exchange(2), exchange(3)))
    house.interpret()
    house.execute("DELETE FROM chunks WHERE exchange_id = (SELECT id FROM exchanges WHERE ordinal = 2)")
    before = everything(house)
    assert done(reinterpret(engine, FIRST, None, UTC, Pricing())) == (1, 0, 2)
    assert everything(house) == before


def test_what_waits_is_read_on_the_way(house: House, engine: Engine) -> None:
    house.record(merged(exchange(1, record="meta"), exchange(2)))
    house.drain()
    assert done(reinterpret(engine, FIRST, None, UTC, Pricing()))[0] == 2
    assert house.body(1) == []
    house.interpret()
    assert house.one("SELECT count(*) FROM exchanges WHERE interpreter IS NULL") == 0


def test_an_error_that_is_mended_is_gone(house: House, engine: Engine) -> None:
    house.lens = lambda _: 1 / 0  # type: ignore[assignment,return-value]  # a lens that fails
    fill(house, 2)
    assert house.exchange(1)["interpretation_error"] is not None
    house.execute("UPDATE exchanges SET interpretation_error = 'the record at x could not be stored' WHERE ordinal = 2")
    assert done(reinterpret(engine, FIRST, None, UTC, Pricing()))[1] == 2
    errors = [row["interpretation_error"] for row in house.exchanges()]
    assert errors == [None, "the record at x could not be stored"], "what copying lost is still lost"
    assert house.exchange(1)["interpreter"] == INTERPRETER


def test_pricing_again(house: House, engine: Engine) -> None:
    fill(house)
    before = everything(house)
    assert done(reprice(engine, FIRST, None, UTC, Pricing())) == (COUNT, 0, 0)
    assert everything(house) == before
    house.execute("UPDATE exchanges SET cost_pico = 5, cost_status = (SELECT max(id) FROM names) WHERE ordinal = 1")
    house.execute("UPDATE spend_hours SET cost_pico = 5; UPDATE spend_keys SET cost_pico = 5")
    steps = list(reprice(engine, FIRST, None, UTC, Pricing()))
    assert sum(step.written.changed for step in steps) == 1
    cost = SPENT.index("cost_pico")
    assert sum(step.written.before[cost] for step in steps) == 5
    assert house.exchange(1)["cost_pico"] is None
    assert house.one("SELECT sum(cost_pico) FROM spend_keys") == 0


def test_what_was_never_understood_has_no_price(house: House, engine: Engine) -> None:
    house.lens = lambda _: 1 / 0  # type: ignore[assignment,return-value]  # a lens that fails
    fill(house, 2)
    assert done(reprice(engine, FIRST, None, UTC, Pricing())) == (0, 0, 2)

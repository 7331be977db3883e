"""What is written of a meaning: every column and row, cleaned and bounded, the same however often it is written."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from proxy.exchange import Outcome
from proxy.store import clean, responses
from proxy.store.costs import costed
from proxy.store.delete import delete_exchanges
from proxy.store.engine import execute, reading
from proxy.store.meanings import USAGE_RAW_BYTES
from proxy.store.read import get_exchange
from proxy.store.rows import MeaningRow, RatingRow, TextRow
from proxy.store.schema import MEANING
from proxy.store.write import Writer
from tests.unit.store.meaning import agree, everything, meant, record, spent, understand
from tests.unit.store.support import chunk, ids, plans, sql

FULL: dict[str, Any] = {
    "outcome": Outcome.COMPLETED,
    "failed": False,
    "operation": "chat",
    "retry_count": 2,
    "model_asked": "gpt-x",
    "model_served": "gpt-x-2026",
    "response_id": "resp_1",
    "request_id": "req_1",
    "billed_as": "batch.results:b1",
    "streaming": True,
    "finish_reason": "end_turn",
    "finish_reason_norm": "stop",
    "service_tier": "flex",
    "terminated": True,
    "first_event_us": 1,
    "first_reasoning_us": 2,
    "first_visible_us": 3,
    "terminal_event_us": 4,
    "input_tokens": 100,
    "output_tokens": 50,
    "total_tokens": 150,
    "cache_read_tokens": 60,
    "cache_write_tokens": 20,
    "reasoning_tokens": 30,
    "estimated_input_tokens": 90,
    "estimated_output_tokens": 45,
    "usage_state": "complete",
    "cost_pico": 123_000_000,
    "cost_reported_pico": 125_000_000,
    "cost_status": "exact",
    "interpretation_error": None,
}
ROWS: dict[str, Any] = {
    "price": '{"input":1}',
    "data": '{"events":3}',
    "usage_raw": '{"b": 1, "a":2}',
    "usage": {"input_audio_tokens": 7, "web_searches": 1},
    "rate_limits": [("requests", 100, 99, 6_000_000), ("tokens", None, None, None)],
    "ratings": [RatingRow(0, "HARM", "LOW", 0.25, False), RatingRow(1, "HARM", None, None, True)],
    "texts": [TextRow("system", "be brief"), TextRow("user", "hello"), TextRow("assistant", "hi", answer=True)],
}


def shown(engine: Engine, table: str, named: str, columns: str) -> list[Any]:
    """The rows of a table, with the text of a column that is an id first."""
    name = f"(SELECT value FROM names WHERE id = {table}.{named})"  # noqa: S608 - our tables
    return sql(engine, f"SELECT {name}, {columns} FROM {table} ORDER BY 1 NULLS FIRST, 2")  # noqa: S608 - our tables


def test_a_row_has_a_place_for_every_column_of_meaning() -> None:
    assert set(MEANING) <= set(MeaningRow.__dataclass_fields__)
    assert set(FULL) | {"price", "interpreter"} == set(MEANING)


def test_all_of_a_meaning(engine: Engine, writer: Writer) -> None:
    new = ids()()
    record(writer, new, session="s", outcome=Outcome.CLIENT_LEFT)
    assert understand(writer, MeaningRow(new, 7, **FULL, **ROWS)).exchanges == 1
    with reading(engine) as connection:
        found = get_exchange(connection, new)
    assert found is not None
    assert {name: getattr(found, name) for name in FULL} == FULL
    assert (found.interpreter, found.counted) == (7, True)
    assert decoded(engine, "SELECT data FROM prices WHERE id = ?", found.price) == [{"input": 1}]
    assert decoded(engine, "SELECT data FROM meanings") == [{"events": 3}]
    assert sql(engine, "SELECT data FROM usage_raw") == [('{"b": 1, "a":2}',)], "verbatim"
    assert shown(engine, "usage", "kind", "amount") == [("input_audio_tokens", 7), ("web_searches", 1)]
    limits = shown(engine, "rate_limits", "kind", "limit_count, remaining, reset_us")
    assert limits == [("requests", 100, 99, 6_000_000), ("tokens", None, None, None)]
    ratings = shown(engine, "safety", "category", "side, score, blocked")
    assert ratings == [("HARM", 0, 0.25, 0), ("HARM", 1, None, 1)]
    assert shown(engine, "safety", "level", "side") == [(None, 1), ("LOW", 0)]
    texts = shown(engine, "texts", "role", "data")
    assert texts == [("assistant", "hi"), ("system", "be brief"), ("user", "hello")]
    with reading(engine) as connection:
        assert responses.exchanges_of(connection, "resp_1", 5) == [new]
        assert responses.exchanges_of(connection, "resp_2", 5) == []


def test_writing_it_again_changes_nothing(engine: Engine, writer: Writer) -> None:
    new = ids()
    made = [new() for _ in range(5)]
    record(writer, *made, session="s", tags=(("env", "ci"),), credential="c")
    rows = [MeaningRow(each, 1, **FULL, **ROWS) for each in made]
    understand(writer, *rows)
    before = everything(engine)
    again = understand(writer, *rows, again=True)
    assert (again.exchanges, again.changed, again.before) == (5, 0, again.after)
    assert everything(engine) == before
    understand(writer, rows[3], again=True)
    assert everything(engine) == before
    assert agree(engine)["exchanges"] == 5


def test_reading_it_otherwise_replaces_all(engine: Engine, writer: Writer) -> None:
    new = ids()()
    record(writer, new)
    understand(writer, MeaningRow(new, 1, **FULL, **ROWS))
    told = understand(writer, meant(new, interpreter=2), again=True)
    assert (told.exchanges, told.changed) == (1, 1)
    assert (told.before[0], told.after[0]) == (1, 1)
    for table in ("usage", "usage_raw", "rate_limits", "safety", "texts"):
        assert sql(engine, f"SELECT * FROM {table}") == [], table  # noqa: S608 - our tables
    assert agree(engine) == {"exchanges": 1, "input_tokens": 10, "output_tokens": 5, "cost_pico": 1_000_000}


def test_what_another_has_read_is_left_alone(engine: Engine, writer: Writer) -> None:
    new = ids()()
    record(writer, new)
    understand(writer, meant(new))
    assert understand(writer, meant(new, input_tokens=99)).exchanges == 0
    assert agree(engine)["input_tokens"] == 10


def test_what_is_deleted_meanwhile_adds_nothing(engine: Engine, writer: Writer) -> None:
    assert understand(writer, meant(uuid4(), texts=ROWS["texts"])).exchanges == 0
    assert spent(engine) == {}
    assert sql(engine, "SELECT * FROM texts") == []


def test_bodies_go_with_the_meaning(engine: Engine, writer: Writer) -> None:
    new = ids()
    kept, dropped = new(), new()
    record(writer, kept, dropped)
    with writer.transaction():
        writer.put_chunks([chunk(each, 1) for each in (kept, dropped)])
    understand(writer, meant(kept), meant(dropped, bodiless=True))
    assert sql(engine, "SELECT exchange_id FROM chunks") == [(kept.bytes,)]


HOSTILE = "\ud800 nul \0 end " + "x" * 5000


def test_hostile_values(engine: Engine, writer: Writer) -> None:
    new = ids()()
    record(writer, new, session="s")
    words = ("operation", "model_asked", "model_served", "response_id", "request_id", "finish_reason", "service_tier")
    row = meant(
        new,
        **dict.fromkeys(words, HOSTILE),
        interpretation_error=HOSTILE,
        retry_count=10**30,
        first_event_us=-(10**30),
        input_tokens=10**30,
        output_tokens=-1,
        total_tokens=2**63,
        cost_pico=-5,
        cost_reported_pico=10**25,
        data=clean.json({"error": HOSTILE, "n": 10**30, "f": float("nan")}),
        usage_raw=HOSTILE,
        usage={HOSTILE: 10**30, HOSTILE + "y": 1, "b": -(10**30)},
        rate_limits=[(HOSTILE, 10**30, -(10**30), None), (HOSTILE, 1, 1, 1)],
        ratings=[RatingRow(0, HOSTILE, HOSTILE, float("inf"), None), RatingRow(1, "", None, float("nan"), None)],
        texts=[TextRow(HOSTILE, HOSTILE), TextRow("", ""), TextRow("assistant", HOSTILE, answer=True)],
    )
    understand(writer, row)
    understand(writer, row, again=True)
    with reading(engine) as connection:
        found = get_exchange(connection, new)
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (None, None, None)
    assert (found.cost_pico, found.cost_reported_pico, found.retry_count) == (None, None, None)
    assert found.model_served is not None
    assert len(found.model_served.encode()) <= clean.INDEXED_BYTES
    assert json.loads(sql(engine, "SELECT data FROM meanings")[0][0])["n"] == 2**63 - 1
    assert agree(engine) == {"exchanges": 1, "unpriced": 1}


def test_a_usage_object_of_any_size_is_kept_whole_or_not_at_all(engine: Engine, writer: Writer) -> None:
    new = ids()
    small, large = new(), new()
    record(writer, small, large)
    understand(writer, meant(small, usage_raw="{}"), meant(large, usage_raw='"' + "x" * USAGE_RAW_BYTES + '"'))
    assert sql(engine, "SELECT exchange_id FROM usage_raw") == [(small.bytes,)]


@pytest.mark.parametrize("session", ["s", None])
def test_a_session_keeps_each_message_once(engine: Engine, writer: Writer, session: str | None) -> None:
    new = ids()
    first, second, other = new(), new(), new()
    record(writer, first, second, session=session)
    record(writer, other, session="other")
    opening = [TextRow("system", "be brief"), TextRow("user", "one")]
    history = [*opening, TextRow("assistant", "1!"), TextRow("user", "two")]
    understand(
        writer,
        meant(first, texts=[*opening, TextRow("assistant", "1!", answer=True)]),
        meant(second, texts=[*history, TextRow("assistant", "1!", answer=True)]),
        meant(other, texts=opening),
    )
    ordered = "SELECT data FROM texts WHERE exchange_id = ? ORDER BY seq < 0, seq"
    found = [[row[0] for row in sql(engine, ordered, each.bytes)] for each in (first, second, other)]
    whole = ["be brief", "one", "1!", "two", "1!"]
    assert found == [["be brief", "one", "1!"], ["two", "1!"] if session else whole, ["be brief", "one"]]
    sought = "SELECT hash FROM texts WHERE session IS NOT NULL AND session = 1 AND hash = ?"
    (plan,) = plans(engine, lambda connection: execute(connection, sought, (b"2",)), of="texts")
    assert "texts_session" in plan


def decoded(engine: Engine, statement: str, *values: Any) -> list[Any]:
    """The JSON in the first column."""
    return [json.loads(row[0]) for row in sql(engine, statement, *values)]


def fail_after(_: object) -> None:
    raise KeyError


def test_nothing_is_written_in_a_transaction_that_fails(engine: Engine, writer: Writer) -> None:
    new = ids()()
    record(writer, new)
    before = everything(engine)
    with pytest.raises(KeyError), writer.transaction():
        fail_after(writer.put_meanings([MeaningRow(new, 1, **FULL, **ROWS)], UTC))
    assert everything(engine) == before
    understand(writer, MeaningRow(new, 1, **FULL, **ROWS))
    assert agree(engine)["exchanges"] == 1
    assert sql(engine, "SELECT count(*) FROM prices") == [(1,)]


def test_a_price_anew_for_what_is_deleted_meanwhile_is_left_out(engine: Engine, writer: Writer) -> None:
    new = ids()
    kept, gone = new(), new()
    record(writer, kept, gone)
    understand(writer, meant(kept), meant(gone))
    with reading(engine) as connection:
        rows = costed(connection, [kept, gone])
    delete_exchanges(engine, [gone])
    for each in rows:
        each.cost_pico = 7
    with writer.transaction():
        assert writer.put_costs(rows, UTC).exchanges == 1
    with reading(engine) as connection:
        assert [each.cost_pico for each in costed(connection, [kept, gone])] == [7]

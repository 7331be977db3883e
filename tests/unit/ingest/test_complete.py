"""What an end and a meaning become: pure mapping, field by field, of hostile values too."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from proxy.exchange import WireEnd
from proxy.ingest.complete import META, meaning_row, unread_row
from proxy.interpret.meaning import Failure, Meaning, Part, RateLimit, Rating, Text, ToolCall, Usage
from proxy.interpret.price import Cost, Line
from proxy.store.rows import RatingRow, TextRow
from proxy.store.unread import Recorded


def recorded(**fields: Any) -> Recorded:
    usual: dict[str, Any] = dict.fromkeys(name for name in Recorded.__dataclass_fields__)
    usual |= {"id": UUID(int=1), "method": "POST", "status": 200, "wire_end": WireEnd.UPSTREAM_END, "record": 0}
    usual |= {"size": 1, "chunks": 1, "unrecorded_bytes": 0, "lost_records": 0, "started_us": 0, "request_sent_us": 5}
    usual |= {"request_headers": (), "response_headers": (), "request": (), "response": ()}
    return Recorded(**(usual | fields))


FULL = Meaning(
    operation="chat",
    response_model="m-1",
    usage=Usage(10, 5, 15, cache_write_5m_tokens=0, input_audio_tokens=3, others={"searches": 2}),
    usage_state="complete",
    usage_raw='{"x": 1}',
    usage_conflict=True,
    parts=[Part("advisor", "m-2", Usage(1, 2))],
    rate_limits=[RateLimit("requests", 1, 2, 3)],
    ratings=[Rating("prompt", "HARM", "LOW", 0.5, False), Rating("completion", "HATE")],
    prompt_block_reason="SAFETY",
    text="said",
    reasoning="thought",
    tool_calls=[ToolCall("1", "f", '{"a":\ud800}')],
    prompts=[Text("user", "asked")],
    events=7,
    comment_lines=2,
    terminator="[DONE]",
    complete=True,
    problem="a part of it",
)
PRICED = Cost(
    pico=5, reported_pico=6, status="exact", lines=(Line("input", 5, "1", 5, "m"),), price={"a": 1}, reason="because"
)


def test_all_of_a_meaning() -> None:
    row = meaning_row(recorded(), FULL, PRICED)
    assert (row.model_served, row.input_tokens, row.output_tokens, row.total_tokens) == ("m-1", 11, 7, 15)
    assert row.usage == {"cache_write_5m_tokens": 0, "input_audio_tokens": 3, "searches": 2}
    assert (row.cost_pico, row.cost_reported_pico, row.cost_status, row.price) == (5, 6, "exact", '{"a":1}')
    assert row.rate_limits == [("requests", 1, 2, 3)]
    assert row.ratings == [RatingRow(0, "HARM", "LOW", 0.5, False), RatingRow(1, "HATE", None, None, None)]
    assert row.texts == [
        TextRow("user", "asked"),
        TextRow("reasoning", "thought", answer=True),
        TextRow("assistant", "said", answer=True),
    ]
    data = json.loads(row.data or "")
    assert (data["events"], data["comment_lines"], data["terminator"], data["complete"]) == (7, 2, "[DONE]", True)
    assert (data["usage_conflict"], data["problem"], data["prompt_block_reason"]) == (True, "a part of it", "SAFETY")
    assert data["usage"]["others"] == {"searches": 2}
    assert (data["usage"]["input_tokens"], data["usage"]["reasoning_tokens"]) == (10, None)
    assert data["parts"] == [{"kind": "advisor", "model": "m-2", "usage": {**data["parts"][0]["usage"]}, "size": None}]
    assert data["tool_calls"] == [{"id": "1", "name": "f", "arguments": '{"a":\ufffd}'}]
    assert data["cost"] == {
        "lines": [{"kind": "input", "amount": 5, "rate": "1", "pico": 5, "model": "m"}],
        "reason": "because",
    }
    assert (row.failed, row.retrieves, row.bodiless) == (False, False, False)


def test_without_bodies_no_text_is_kept() -> None:
    row = meaning_row(recorded(record=META), FULL, PRICED)
    assert (row.bodiless, row.texts, json.loads(row.data or "")["tool_calls"]) == (True, (), [])
    assert unread_row(recorded(record=META), "failed").bodiless


@pytest.mark.parametrize(
    ("fields", "error", "failed"),
    [
        ({}, None, False),
        ({"status": 399}, None, False),
        ({"status": 400}, None, True),
        ({"status": None, "wire_end": WireEnd.CLIENT_LEFT}, None, True),
        ({}, Failure(message="overloaded", midstream=True), True),
    ],
)
def test_what_failed(fields: dict[str, Any], error: Failure | None, failed: bool) -> None:
    assert meaning_row(recorded(**fields), Meaning(error=error), Cost()).failed is failed


@pytest.mark.parametrize(
    ("fields", "state"),
    [({}, "missing"), ({"status": 500}, "none"), ({"method": "GET"}, "none"), ({"status": None}, "none")],
)
def test_what_is_not_understood_has_unknown_tokens(fields: dict[str, Any], state: str) -> None:
    row = unread_row(recorded(**fields), "failed: ValueError")
    assert (row.usage_state, row.interpretation_error) == (state, "interpretation failed: ValueError")
    assert row.retrieves is (fields.get("method") == "GET")


@pytest.mark.parametrize(
    ("said", "kept"), [(None, None), ("interpretation failed: x", None), ("the record at 5 was lost", True)]
)
def test_only_what_copying_said_stays(said: str | None, kept: bool | None) -> None:
    row = meaning_row(recorded(interpretation_error=said), Meaning(), Cost())
    assert row.interpretation_error == (said if kept else None)


def test_what_is_too_much_is_cut() -> None:
    usage = Usage(others={f"kind {number}": number for number in range(1000)})
    meaning = Meaning(
        usage=usage,
        rate_limits=[RateLimit(f"{number}", 1, 1, 1) for number in range(1000)],
        ratings=[Rating("prompt", f"{number}") for number in range(1000)],
    )
    row = meaning_row(recorded(), meaning, Cost())
    assert (len(row.usage), len(row.rate_limits), len(row.ratings)) == (64, 64, 256)

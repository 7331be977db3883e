"""What is fetched with a GET and has tokens all the same: results of a batch count once, sessions each time."""

from __future__ import annotations

import json
from typing import Any

from tests.support.journals import Entry, House, exchange, merged
from tests.support.streams import streams
from tests.support.websocket import Frame, Op

RESULTS = streams()["anthropic-batch-results"].body
LINES = (("Content-Type", "application/x-jsonl"),)
SWITCHED = (("Upgrade", "websocket"),)


def fetched(number: int, batch: str, body: bytes = RESULTS) -> list[Entry]:
    target = f"/anthropic/v1/messages/batches/{batch}/results"
    more: dict[str, Any] = {"method": "GET", "target": target, "upstream": "anthropic", "dialect": "anthropic"}
    return exchange(number, chunks=[body], upload=(), answered=LINES, **more)


def live(number: int) -> list[Entry]:
    """A session whose answers have no id."""
    usage = {"promptTokenCount": 10, "responseTokenCount": 5, "totalTokenCount": 15}
    said = {"serverContent": {"turnComplete": True}, "usageMetadata": usage}
    frame = Frame(Op.BINARY, json.dumps(said).encode()).encode()
    target = "/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k"
    more: dict[str, Any] = {"method": "GET", "target": target, "upstream": "gemini", "dialect": "gemini"}
    return exchange(number, chunks=[frame], upload=(), answered=SWITCHED, status=101, **more)


def counted(house: House) -> list[tuple[Any, ...]]:
    return house.query("SELECT input_tokens, counted FROM exchanges ORDER BY id")


def spent(house: House) -> Any:
    return house.one("SELECT sum(input_tokens) FROM spend_hours")


def test_results_of_a_batch_count_once(house: House) -> None:
    house.record(merged(fetched(1, "b1"), fetched(2, "b1"), fetched(3, "b2")))
    house.interpret()
    assert counted(house) == [(10, 1), (10, 0), (10, 1)]
    assert spent(house) == 20
    assert house.query("SELECT n.value FROM exchanges e JOIN names n ON n.id = e.model_asked")[0] == (
        "claude-sonnet-4-5-20250929",
    )


def test_a_session_without_an_id_counts_each_time(house: House) -> None:
    house.record(merged(live(1), live(2)))
    house.interpret()
    assert counted(house) == [(10, 1), (10, 1)]
    assert spent(house) == 20

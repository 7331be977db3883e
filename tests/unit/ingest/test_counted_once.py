"""What is fetched with a GET and has tokens all the same: results of a batch count once, sessions each time."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any
from uuid import UUID

from proxy.ingest.again import reprice
from proxy.interpret.price import Pricing
from proxy.store.engine import open_engine
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


def test_shares_are_priced_again_from_what_is_stored(house: House) -> None:
    house.record(fetched(1, "b1"))
    house.interpret()
    before = house.query("SELECT cost_pico, cost_status FROM exchanges")
    stored = json.loads(house.one("SELECT data FROM meanings"))["shares"]
    assert [(share["model"], share["size"]) for share in stored] == [("claude-sonnet-4-5-20250929", 10)]
    engine = open_engine(house.url, create=False)
    try:
        steps = list(reprice(engine, UUID(int=0), None, UTC, Pricing()))
    finally:
        engine.dispose()
    assert [(step.written.exchanges, step.written.changed) for step in steps] == [(1, 0)]
    assert house.query("SELECT cost_pico, cost_status FROM exchanges") == before


def test_a_session_without_an_id_counts_each_time(house: House) -> None:
    house.record(merged(live(1), live(2)))
    house.interpret()
    assert counted(house) == [(10, 1), (10, 1)]
    assert spent(house) == 20


def test_what_others_did_beside_the_answer_is_summed_up(house: House) -> None:
    """A compaction is no part of the answer's usage, and paid for; the answer's own usage is told as it came."""
    usage = {
        "input_tokens": 220,
        "output_tokens": 5,
        "iterations": [{"type": "compaction", "input_tokens": 55_196, "output_tokens": 900}],
    }
    message = {"type": "message", "role": "assistant", "id": "m", "model": "claude-x", "content": [], "usage": usage}
    more: dict[str, Any] = {"target": "/anthropic/v1/messages", "upstream": "anthropic", "dialect": "anthropic"}
    body = json.dumps(message).encode()
    house.record(merged(exchange(1, chunks=[body], answered=(("Content-Type", "application/json"),), **more)))
    house.interpret()
    assert house.query("SELECT input_tokens, output_tokens, total_tokens FROM exchanges") == [(55_416, 905, 56_321)]
    assert house.one("SELECT sum(input_tokens) FROM spend_hours") == 55_416
    assert json.loads(house.one("SELECT data FROM meanings"))["usage"]["input_tokens"] == 220

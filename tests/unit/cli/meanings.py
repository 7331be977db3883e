"""What the recorded exchanges meant, hostile words among them, for the commands that tell it."""

from __future__ import annotations

from datetime import UTC
from typing import Any
from uuid import UUID

import msgspec

from proxy.exchange import Outcome
from proxy.store import clean
from proxy.store.engine import open_engine
from proxy.store.fulltext import index_some
from proxy.store.rows import MeaningRow, RatingRow, TextRow
from proxy.store.write import Writer
from tests.support.recordings import HOSTILE

LINES = [
    {"kind": "cache_read", "amount": 1280, "rate": "0.075", "pico": 96_000_000, "model": "gpt-4o-mini"},
    {"kind": "input", "amount": 84, "rate": "0.15", "pico": 12_600_000, "model": "gpt-4o-mini"},
    {"kind": "output", "amount": 40, "rate": "0.6", "pico": 24_000_000, "model": "gpt-4o-mini"},
]
PRICE = {"source": "genai-prices 0.2.3", "provider": "openai", "model": "gpt-4o-mini", "rates": {"input": "0.15"}}


def _data(**more: Any) -> str:
    usual: dict[str, Any] = {"events": 3, "comment_lines": 0, "terminator": "[DONE]", "complete": True, "error": None}
    usual |= {"tool_calls": [], "prompt_block_reason": None, "usage": None, "parts": [], "problem": None}
    return clean.json(usual | {"cost": {"lines": [], "reason": None}} | more)


def understand(url: str, ids: dict[str, UUID]) -> None:
    """Write what `stream`, `hostile`, `packed` and `lossy` meant, and fill the full-text index."""
    engine = open_engine(url, create=False)
    writer = Writer(engine)
    with writer.transaction():
        rows = [_stream(ids["stream"]), _hostile(ids["hostile"]), _packed(ids["packed"]), _lossy(ids["lossy"])]
        writer.put_meanings(rows, UTC)
    while index_some(engine):
        pass
    engine.dispose()


def _stream(key: UUID) -> MeaningRow:
    usage: dict[str, Any] = {"input_tokens": 1364, "output_tokens": 40, "cache_read_tokens": 1280}
    return MeaningRow(
        key,
        1,
        Outcome.COMPLETED,
        operation="chat",
        model_asked="gpt-4o-mini",
        model_served="gpt-4o-mini-2024-07-18",
        response_id="chatcmpl-1",
        finish_reason="stop",
        finish_reason_norm="stop",
        terminated=True,
        first_visible_us=200_000,
        total_tokens=1404,
        usage_state="complete",
        cost_pico=132_600_000,
        cost_status="exact",
        price=msgspec.json.encode(PRICE).decode(),
        data=_data(
            usage=usage,
            tool_calls=[{"id": "c", "name": "get_weather", "arguments": '{"city": "Paris"}'}],
            cost={"lines": LINES, "reason": None},
        ),
        usage_raw='{"prompt_tokens": 1364}',
        rate_limits=[("requests", 100, 99, 2000)],
        texts=[TextRow("user", "what is the weather in paris"), TextRow("assistant", "sunny today", answer=True)],
        **usage,
    )


def _hostile(key: UUID) -> MeaningRow:
    return MeaningRow(
        key,
        1,
        Outcome.UPSTREAM_FAILED,
        failed=True,
        model_served=f"=cmd({HOSTILE})",
        finish_reason=HOSTILE,
        usage_state="missing",
        estimated_input_tokens=40,
        estimated_output_tokens=7,
        interpretation_error=f"interpretation failed: {HOSTILE}",
        data=_data(
            error={"type": HOSTILE, "code": None, "message": HOSTILE, "status": 429},
            tool_calls=[{"id": None, "name": HOSTILE, "arguments": HOSTILE}],
            problem=HOSTILE,
            usage={"others": {HOSTILE: 3}},
            facts={"upstream_provider": HOSTILE, "results": {HOSTILE: 1}},
            media=[{"side": "response", "kind": HOSTILE, "first": 0, "last": 2, "size": 9}],
            cost={"lines": [], "reason": HOSTILE},
        ),
        ratings=[RatingRow(1, HOSTILE, HOSTILE, None, True)],
        rate_limits=[(HOSTILE, 1, 1, None)],
        texts=[TextRow(HOSTILE, HOSTILE), TextRow("assistant", HOSTILE, answer=True)],
    )


def _packed(key: UUID) -> MeaningRow:
    return MeaningRow(
        key,
        1,
        Outcome.COMPLETED,
        model_served="local",
        input_tokens=10,
        output_tokens=5,
        usage_state="complete",
        cost_status="unpriced",
        data=_data(cost={"lines": [], "reason": "no prices of the upstream local are known"}),
    )


def _lossy(key: UUID) -> MeaningRow:
    return MeaningRow(
        key,
        1,
        Outcome.COMPLETED,
        model_served="gpt-4o-mini-2024-07-18",
        input_tokens=1000,
        output_tokens=0,
        usage_state="complete",
        cost_pico=150_000_000,
        cost_reported_pico=2 * 10**11,
        cost_status="estimated",
        data=_data(
            usage={"input_tokens": 1000, "output_tokens": 0, "others": {"audio_ms": 9500, "web_searches": 2}},
            facts={"upstream_provider": "Groq", "timings_s": {"queue": 0.5}, "counted_input_tokens": 1400},
            media=[{"side": "request", "kind": "image/png", "first": 1, "last": 1, "size": 10}],
        ),
    )

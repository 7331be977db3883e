"""What an exchange's end means: the row that its meaning becomes. Pure.

Must not know tables or any provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.exchange import Outcome, outcome
from proxy.interpret.meaning import Meaning, Part, Usage
from proxy.interpret.price import Cost
from proxy.interpret.usage import summed
from proxy.store import clean
from proxy.store.meanings import ANSWER, REASONING
from proxy.store.rows import MeaningRow, RatingRow, TextRow
from proxy.store.unread import Recorded

INTERPRETER = 1
"""The version of what is understood, noted on each exchange; count it up when `reinterpret` would find more."""

SWITCHED = 101  # a WebSocket begins with a GET
META = 1  # Recorded.record: everything but bodies
FAILED = "interpretation "
"""How an `interpretation_error` begins that another reading may do without; others tell what was lost in copying."""

_IN_COLUMNS = frozenset(
    ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
)
_KINDS, _LIMITS, _RATINGS = 64, 64, 256  # so many of one exchange are kept
_AS_THEY_ARE = (
    "operation",
    "retry_count",
    "model_asked",
    "response_id",
    "request_id",
    "streaming",
    "finish_reason",
    "finish_reason_norm",
    "service_tier",
    "billed_as",
    "terminated",
    "first_event_us",
    "first_reasoning_us",
    "first_visible_us",
    "terminal_event_us",
)


def meaning_row(found: Recorded, meaning: Meaning, cost: Cost) -> MeaningRow:
    """The row of an exchange that was understood, as far as it was."""
    ended = outcome(found.wire_end, terminated=meaning.terminated)
    row = _row(found, ended)
    for name in _AS_THEY_ARE:
        setattr(row, name, getattr(meaning, name))
    row.model_served = meaning.response_model
    row.failed = row.failed or meaning.error is not None
    row.interpretation_error = _of_copying(found)
    usage = meaning.usage
    if usage is not None:
        # What is summed up is all that is paid for, also what others did beside the answer.
        paid = summed(usage, *(part.usage for part in meaning.parts))
        for name in _IN_COLUMNS:
            setattr(row, name, getattr(paid, name))
        row.usage = dict(list(_kinds(usage).items())[:_KINDS])
    if meaning.estimate is not None:
        row.estimated_input_tokens, row.estimated_output_tokens = meaning.estimate
    row.usage_state = meaning.usage_state
    row.usage_raw = meaning.usage_raw
    _price(row, cost)
    row.data = _data(found, meaning, cost)
    row.rate_limits = meaning.rate_limits[:_LIMITS]
    row.ratings = [
        RatingRow(int(each.side == "completion"), each.category, each.level, each.score, each.blocked)
        for each in meaning.ratings[:_RATINGS]
    ]
    if found.record != META:
        row.texts = [TextRow(role, text) for role, text in meaning.prompts]
        row.texts += [TextRow(REASONING, meaning.reasoning, answer=True), TextRow(ANSWER, meaning.text, answer=True)]
    return row


def unread_row(found: Recorded, why: str) -> MeaningRow:
    """The row of an exchange that could not be interpreted. If it was a generation, its tokens are unknown."""
    row = _row(found, outcome(found.wire_end))
    row.interpretation_error = f"{FAILED}{why}"
    answered = found.status is not None and found.status < 400
    row.usage_state = "missing" if answered and not row.retrieves else "none"
    return row


def _row(found: Recorded, ended: Outcome) -> MeaningRow:
    return MeaningRow(
        exchange=found.id,
        interpreter=INTERPRETER,
        outcome=ended,
        failed=ended is not Outcome.COMPLETED or (found.status is not None and found.status >= 400),
        retrieves=found.method != "POST" and found.status != SWITCHED,
        bodiless=found.record == META,
    )


def _of_copying(found: Recorded) -> str | None:
    """What copying said of the exchange; an earlier interpretation's failure is over."""
    said = found.interpretation_error
    return None if said is None or said.startswith(FAILED) else said


def _kinds(usage: Usage) -> dict[str, int]:
    """The kinds of usage that are known and have no column."""
    fields = {name: getattr(usage, name) for name in Usage.__dataclass_fields__ if name != "others"}
    kinds = {name: amount for name, amount in fields.items() if name not in _IN_COLUMNS and amount is not None}
    return kinds | usage.others


def _price(row: MeaningRow, cost: Cost) -> None:
    row.cost_pico, row.cost_reported_pico, row.cost_status = cost.pico, cost.reported_pico, cost.status
    row.price = price_json(cost)


def _data(found: Recorded, meaning: Meaning, cost: Cost) -> str:
    """What has no column, as the JSON of `meanings`."""
    calls = [] if found.record == META else [each._asdict() for each in meaning.tool_calls]
    said: dict[str, Any] = {
        "events": meaning.events,
        "comment_lines": meaning.comment_lines,
        "terminator": meaning.terminator,
        "complete": meaning.complete,
        "error": msgspec.to_builtins(meaning.error),
        "tool_calls": calls,
        "prompt_block_reason": meaning.prompt_block_reason,
        "usage": msgspec.to_builtins(meaning.usage),
        "usage_conflict": meaning.usage_conflict,
        "parts": _parts(meaning.parts),
        "shares": _parts(meaning.shares),
        "media": [each._asdict() for each in meaning.media],
        "facts": msgspec.to_builtins(meaning.facts),
        "problem": meaning.problem,
        "cost": cost_data(cost),
    }
    return clean.json(said)


def _parts(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [{**part._asdict(), "usage": msgspec.to_builtins(part.usage)} for part in parts]


def cost_data(cost: Cost) -> dict[str, Any]:
    """A cost's arithmetic as plain data, for the JSON of `meanings`."""
    lines = [each._asdict() if hasattr(each, "_asdict") else msgspec.to_builtins(each) for each in cost.lines]
    return {"lines": lines, "reason": cost.reason}


def price_json(cost: Cost) -> str | None:
    """The price that was used, as the JSON of `prices`."""
    return None if cost.price is None else clean.json(msgspec.to_builtins(cost.price))

"""The table of OpenTelemetry's names is whole, and says nothing of what is not there."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from proxy.interpret.dialects.registry import DIALECTS
from proxy.interpret.meaning import Meaning, Usage
from proxy.interpret.telemetry import ATTRIBUTES, OPERATIONS, PROVIDERS, attribute
from proxy.presets import PRESETS, TEMPLATES
from proxy.store.rows import Exchange

WITHOUT = {
    "usage", "finish_reason_norm", "request_id", "retry_count", "usage_state", "usage_raw", "usage_conflict", "parts",
    "shares", "estimate", "billed_as", "media", "facts", "cost_reported_pico", "rate_limits", "ratings", "reasoning",
    "prompt_block_reason", "tool_calls", "events", "comment_lines", "terminator", "terminated", "complete", "problem",
    "first_reasoning_us", "first_visible_us", "terminal_event_us", "total_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "tool_prompt_tokens", "others",
}  # fmt: skip
"""Fields that the conventions have no word for."""


def test_every_field_is_named_or_known_to_have_no_name() -> None:
    drawn_out = {each.name for each in (*fields(Meaning), *fields(Usage))}
    assert drawn_out == {name for name in ATTRIBUTES if name not in {"upstream", "session"}} | WITHOUT
    assert not WITHOUT & set(ATTRIBUTES)
    assert {"upstream", "session"} <= {each.name for each in fields(Exchange)}


def test_names_are_theirs_or_ours() -> None:
    names = [attribute(name) for name in (*ATTRIBUTES, *WITHOUT)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"(gen_ai|openai|error|wiretape)(\.[a-z_0-9]+)+", name) for name in names)


def test_operations_and_providers_are_ours() -> None:
    known = {route.operation for dialect in DIALECTS for route in dialect.ROUTES} | {
        each.OPERATION for each in DIALECTS
    }
    assert set(OPERATIONS) <= known
    assert set(PROVIDERS) <= set(PRESETS) | set(TEMPLATES)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("cache_write_tokens", "gen_ai.usage.cache_write.input_tokens"),
        ("reasoning_tokens", "gen_ai.usage.reasoning.output_tokens"),
        ("finish_reason_norm", "wiretape.finish_reason_norm"),
    ],
)
def test_some_by_hand(ours: str, theirs: str) -> None:
    assert attribute(ours) == theirs

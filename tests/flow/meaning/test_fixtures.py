"""Sent through the proxy over sockets, each recorded stream is shown with the meaning that is expected of it."""

from __future__ import annotations

import pytest

from tests.flow.meaning.conftest import Sent
from tests.support.streams import differences, names, streams


@pytest.mark.parametrize("name", names())
def test_shows_what_is_expected(sent: Sent, name: str) -> None:
    assert differences(sent.shown(name), streams()[name].expected) == {}


def test_all_are_there(sent: Sent) -> None:
    assert len(sent.ids) == len(names()) == 55


def test_marks_are_in_the_order_of_time(sent: Sent) -> None:
    for name in sent.ids:
        shown = sent.shown(name)
        marks = [shown[each] for each in ("head_us", "first_event_us", "first_visible_us", "end_us")]
        known = [mark for mark in marks if mark is not None]
        assert known == sorted(known), name
        if shown["terminated"]:
            assert shown["first_event_us"] <= shown["terminal_event_us"] <= shown["end_us"]


def test_rate_limits_and_request_ids(sent: Sent) -> None:
    chat = sent.shown("openai-chat-basic-usage")
    assert chat["request_id"] == "req_synth0001"
    limits = {each["kind"]: each for each in chat["rate_limits"]}
    assert limits["requests"] == {"kind": "requests", "limit": 30000, "remaining": 29999, "reset_us": 2000}
    assert limits["tokens"]["limit"] == 150_000_000
    messages = sent.shown("anthropic-thinking-tool-cache")
    assert messages["request_id"] == "req_011SYNTH"
    kinds = {each["kind"]: each["remaining"] for each in messages["rate_limits"]}
    assert kinds == {"requests": 3999, "tokens": 399_000, "input-tokens": 80_000, "output-tokens": 16_000}


def test_the_usage_object_is_kept_as_it_came(sent: Sent) -> None:
    assert sent.shown("openai-chat-basic-usage")["usage_raw"]["total_tokens"] == 16
    first, last = sent.shown("anthropic-thinking-tool-cache")["usage_raw"]
    assert first["cache_creation"] == {"ephemeral_5m_input_tokens": 120, "ephemeral_1h_input_tokens": 400}
    assert last["output_tokens"] == 97

"""What of a stored exchange the lens is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from proxy.exchange import WireEnd
from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Pairs, Pieces
from proxy.interpret.recorded import recording, upstream_target


@dataclass
class Stored:
    dialect: str | None = None
    method: str | None = "POST"
    target: str | None = "/openai/v1/chat/completions"
    target_long: str | None = None
    status: int | None = 200
    wire_end: WireEnd | None = WireEnd.UPSTREAM_END
    unrecorded_bytes: int = 0
    lost_records: int = 0
    request_sent_us: int | None = 5
    request_headers: Pairs = ()
    response_headers: Pairs = ()
    request: Pieces = ()
    response: Pieces = ()


@pytest.mark.parametrize(
    ("recorded_target", "expected"),
    [
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/models?limit=5&x=a/b", "/v1/models?limit=5&x=a/b"),
        ("/~project=search,env=ci/openai/v1/x", "/v1/x"),
        ("/openai", "/"),
        ("/openai?x=/1", "/?x=/1"),
        ("/~a=b", "/"),
        ("/", "/"),
        ("", "/"),
        ("/gemini//v1beta/models/x:generateContent", "//v1beta/models/x:generateContent"),
    ],
)
def test_the_target_at_the_upstream(recorded_target: str, expected: str) -> None:
    assert upstream_target(recorded_target) == expected


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"status": None, "request_sent_us": None, "wire_end": WireEnd.REFUSED}, False),
        ({"status": None, "request_sent_us": None, "wire_end": WireEnd.UPSTREAM_ERROR}, False),
        ({"status": None, "request_sent_us": None, "wire_end": WireEnd.WORKER_DIED}, True),
        ({"status": None, "wire_end": WireEnd.CLIENT_LEFT}, True),
    ],
)
def test_what_never_reached_the_upstream_was_not_counted_there(fields: dict[str, Any], sent: bool) -> None:
    shown = recording(Stored(**fields))
    assert shown.sent is sent
    assert interpret(shown).usage_state == ("missing" if sent else "none")


@pytest.mark.parametrize(
    ("fields", "whole"),
    [
        ({}, True),
        ({"wire_end": WireEnd.CLIENT_LEFT}, False),
        ({"wire_end": None}, False),
        ({"unrecorded_bytes": 1}, False),
        ({"lost_records": 1}, False),
    ],
)
def test_whole_is_what_came_to_its_end_and_was_all_recorded(fields: dict[str, Any], whole: bool) -> None:
    assert recording(Stored(**fields)).whole is whole


def test_a_target_that_was_too_long_for_its_column() -> None:
    assert recording(Stored(target="/openai/v1/x", target_long="/openai/v1/xyz")).target == "/v1/xyz"

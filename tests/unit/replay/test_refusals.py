"""Refusals in each provider's own form: our own lens, and the recorded ones, know them for what they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.interpret.failures import failure_of_status
from proxy.presets import DIALECTS
from proxy.replay.answer import Head
from proxy.replay.fault_words import parse
from proxy.replay.faults import faulty
from proxy.replay.refusals import refusal
from tests.support.streams import streams
from tests.unit.replay.faultless import events

RECORDED = [
    ("content-type", "text/event-stream"),
    ("Transfer-Encoding", "chunked"),
    ("request-id", "req_1"),
    ("Retry-After", "99"),
    ("Set-Cookie", "a=b"),
]


def shape(value: Any) -> Any:
    """What of JSON is the same in every error: names, and the words that programs look at."""
    if isinstance(value, dict):
        free = {"message", "request_id", "details"}
        return {name: "…" if name in free else shape(each) for name, each in value.items()}
    return value


@pytest.mark.parametrize(
    ("name", "status"), [("openai-error-429", 429), ("anthropic-error-529", 529), ("gemini-error-429", 429)]
)
def test_they_are_like_the_recorded_ones(name: str, status: int) -> None:
    stream = streams()[name]
    made = refusal(stream.dialect, status, 39.0, stream.headers)
    assert shape(json.loads(made.body)) == shape(json.loads(stream.body))
    again = dict(stream.headers).get("x-should-retry")
    assert dict(made.headers).get("x-should-retry") == again


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 503, 529])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_is_an_error_with_a_message(dialect: str, status: int) -> None:
    made = refusal(dialect, status, 3.0 if status == 429 else None, RECORDED)
    failure = failure_of_status(json.loads(made.body), status)
    assert failure.message
    headers = dict(made.headers)
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(made.body))
    assert headers.get("retry-after") == ("3" if status == 429 else None)
    assert (headers["request-id"], headers["Set-Cookie"]) == ("req_1", "a=b")
    assert not {"Transfer-Encoding", "Retry-After"} & set(headers)


@pytest.mark.parametrize(
    ("dialect", "status", "kind"),
    [
        ("anthropic", 429, "rate_limit_error"),
        ("anthropic", 500, "api_error"),
        ("anthropic", 529, "overloaded_error"),
        ("openai", 500, "server_error"),
        ("mistral", 429, "rate_limited"),
    ],
)
def test_the_words_that_programs_look_at(dialect: str, status: int, kind: str) -> None:
    assert failure_of_status(json.loads(refusal(dialect, status, None, ()).body), status).type == kind


def test_where_the_delay_stands() -> None:
    body = json.loads(refusal("gemini", 429, 2.5, ()).body)
    assert failure_of_status(body, 429).retry_after_s == 2.5
    assert json.loads(refusal("openai", 429, None, ()).body)["error"]["code"] == "rate_limit_exceeded"
    assert dict(refusal("bedrock", 429, None, ()).headers)["x-amzn-errortype"] == "ThrottlingException"


def test_it_stands_in_the_place_of_the_answer() -> None:
    answer = events(b"data: a\n\n", b"data: b\n\n", dialect="anthropic", broken=True, sent=((1, b"x"),))
    refused = faulty(answer, parse("status=529 retry-after=0.5"))
    assert [(head.at_us, head.status, head.reason) for head in refused.heads] == [(5_000, 529, "")]
    assert ("retry-after", "0.5") in refused.heads[0].headers
    assert json.loads(refused.chunks[0][1])["error"]["type"] == "overloaded_error"
    assert (refused.broken, refused.trailers, refused.sent, refused.end_us) == (False, (), (), 5_000)
    assert faulty(answer, parse("status=529"), bodiless=True).chunks == ()
    nothing = faulty(events(heads=(), broken=True), parse("status=429"))
    assert nothing.heads[0].reason == "Too Many Requests"
    assert isinstance(nothing.heads[0], Head)

"""Our own errors: for each dialect the shape that its SDK reads, always with a type and a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.forward import answers
from proxy.forward.answers import Answer
from proxy.presets import DIALECTS
from proxy.wire.interface import RequestError

ANSWERS = {
    "bad request": (answers.bad_request("odd"), 400, "bad_request"),
    "too large": (answers.too_large(10), 413, "request_too_large"),
    "cannot record": (answers.cannot_record("disk full"), 503, "cannot_record"),
    "response lost": (answers.response_lost("disk full"), 503, "cannot_record"),
    "connect": (answers.upstream_failed("connect", "x"), 502, "upstream_unreachable"),
    "tls": (answers.upstream_failed("tls", "x"), 502, "upstream_unreachable"),
    "proxy": (answers.upstream_failed("proxy", "x"), 502, "upstream_proxy_failed"),
    "closed": (answers.upstream_failed("closed", "x"), 502, "upstream_broken"),
    "malformed": (answers.upstream_failed("malformed", "x"), 502, "upstream_broken"),
    "incomplete": (answers.upstream_failed("incomplete", "x"), 502, "upstream_broken"),
    "timeout": (answers.upstream_failed("timeout", "x"), 504, "upstream_timeout"),
    "connect timeout": (answers.upstream_failed("connect_timeout", "x"), 504, "upstream_timeout"),
    "refused by the wire": (answers.refused(RequestError(431, "head_too_large", "odd")), 431, "head_too_large"),
    "method": (answers.no_method("TRACE"), 501, "method_refused"),
    "internal": (answers.internal("relay.py:1"), 500, "internal_error"),
}


@pytest.mark.parametrize("dialect", [*DIALECTS, "", "unheard of"])
@pytest.mark.parametrize(("answer", "status", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_every_shape_has_type_and_message(answer: Answer, status: int, kind: str, dialect: str) -> None:
    body = answer.body(dialect)
    document = json.loads(body)
    assert answer.status == status
    assert document["error"]["type"] == f"wiretape_{kind}"
    assert document["error"]["message"] == answer.message != ""
    assert answer.head(body)[:2] == [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]


def shape(dialect: str, status: int = 502) -> Any:
    return json.loads(Answer(status, "kind", 'a "sentence" of ünïcode').body(dialect))


def test_openai() -> None:
    assert shape("openai")["error"].keys() == {"type", "message", "param", "code"}


def test_anthropic() -> None:
    document = shape("anthropic")
    assert (document["type"], document.keys()) == ("error", {"type", "error"})
    assert document["error"] == {"type": "wiretape_kind", "message": 'a "sentence" of ünïcode'}


@pytest.mark.parametrize(
    ("status", "name"), [(400, "INVALID_ARGUMENT"), (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED"), (418, "UNKNOWN")]
)
def test_gemini(status: int, name: str) -> None:
    error = shape("gemini", status)["error"]
    assert (error["code"], error["status"]) == (status, name)


def test_cohere_and_bedrock_read_the_sentence_from_the_top() -> None:
    assert shape("cohere")["message"] == 'a "sentence" of ünïcode'
    assert shape("bedrock")["message"] == 'a "sentence" of ünïcode'
    assert shape("bedrock")["__type"] == "wiretape_kind"


def test_a_lost_response_is_not_asked_for_again() -> None:
    """openai and anthropic repeat a 503 unless told not to; this request was answered, and is billed."""
    headers = dict(answers.response_lost("x").head(b""))
    assert headers[b"x-should-retry"] == b"false"
    assert b"retry-after" not in headers


def test_when_to_come_back_and_when_to_close() -> None:
    headers = dict(answers.cannot_record("x").head(b""))
    assert headers[b"retry-after"].isdigit()
    assert b"connection" not in headers
    for answer in (
        answers.bad_request("x"),
        answers.refused(RequestError(408, "x", "y")),
        answers.no_method("CONNECT"),
    ):
        assert (b"connection", b"close") in answer.head(b"")


def test_limits_and_methods_are_named() -> None:
    assert "max_request_body (10 bytes)" in answers.too_large(10).message
    assert "TRACE" in answers.no_method("TRACE").message

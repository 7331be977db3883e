"""Errors as providers write them: `{"error": {...}}` in all its shapes, and what else stands in their place. Pure."""

from __future__ import annotations

from typing import Any

from proxy.interpret.meaning import Failure
from proxy.interpret.values import listed, mapping, number, string

MAX_MESSAGE = 4096


def failure_of(body: Any) -> Failure | None:
    """The error that a body or an event holds, None if it holds none.

    OpenAI and what is like it (`error`: type, code, message), Anthropic, Google (code, status, details; also as the
    only element of an array), plain strings, Mistral and Cohere (`message` beside `object: error` or `id`), `detail`.
    """
    if type(body) is list and body:
        body = body[0]
    if type(body) is not dict:
        return None
    found = body.get("error")
    if type(found) is dict and found:
        return _from_object(found)
    if type(found) is str and found:
        return Failure(message=found[:MAX_MESSAGE], type=string(body.get("error_type")))
    if body.get("object") == "error" or body.get("type") == "error":
        return _from_object(body)
    return None


def failure_of_status(body: Any, status: int) -> Failure:
    """The error of a response whose status says that it is one."""
    failure = failure_of(body)
    if failure is None:
        detail = mapping(body)
        message = detail.get("message") or detail.get("detail") or detail.get("Message")
        if type(message) is list:  # what a validation found: FastAPI's, and so Mistral's and many local servers'
            said = (mapping(each).get("msg") for each in message[:8])
            message = "; ".join(each for each in said if type(each) is str)
        failure = Failure(type=string(detail.get("type")), code=_code(detail.get("code")))
        failure.message = message[:MAX_MESSAGE] if type(message) is str and message else None
    if failure.status is None:
        failure.status = status
    return failure


def _from_object(error: dict[str, Any]) -> Failure:
    message = error.get("message")
    return Failure(
        type=string(error.get("type")),
        code=_code(error.get("code")),
        message=message[:MAX_MESSAGE] if type(message) is str else None,
        status=_code(error.get("status")),
        retry_after_s=_retry_delay(error.get("details")),
    )


def _code(value: Any) -> str | int | None:
    if type(value) is int:
        return value if abs(value) < 2**53 else None
    return value[:512] if type(value) is str and value else None


def _retry_delay(details: Any) -> float | None:
    """Google's RetryInfo: `"retryDelay": "39s"`."""
    for detail in listed(details):
        delay = mapping(detail).get("retryDelay")
        if type(delay) is str and delay.endswith("s"):
            try:
                return number(float(delay[:-1]))
            except ValueError:
                return None
    return None

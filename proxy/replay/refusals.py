"""How each provider says that it will not, or cannot, answer: status, headers and body in its own form. Pure.

The forms are those of recorded answers; ids and words are made up. Must not know when one is played.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from proxy.interpret.headers import request_id
from proxy.interpret.meaning import Pairs

_RATE, _OVERLOADED, _SERVER = 429, 529, 500
_AGAIN = frozenset((408, 409, 429))  # and all from 500 on: worth trying again
# Of the recorded head: what is about a body, or about another protocol, is not the refusal's.
_OF_BODIES = ("content-", "transfer-encoding", "trailer", "retry-after", "connection", "upgrade", "sec-websocket-")


class Refusal(NamedTuple):
    """A whole answer; 529 and other statuses that no standard has get no reason."""

    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class _Said(NamedTuple):
    status: int
    message: str
    retry_after: float | None
    request: str | None  # its id


def refusal(dialect: str, status: int, retry_after: float | None, recorded: Pairs) -> Refusal:
    """A refusal by a provider of a dialect, with those of the `recorded` headers that any answer has."""
    said = _Said(status, _message(status, retry_after), retry_after, request_id(recorded))
    found, own = _FORMS.get(dialect, _openai)(said)
    body = msgspec.json.encode(found)
    kept = [(name, value) for name, value in recorded if not name.lower().startswith(_OF_BODIES)]
    kept = [(name, value) for name, value in kept if name.lower() not in dict(own)]
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *kept, *own]
    if retry_after is not None:
        headers.append(("retry-after", f"{retry_after:g}"))
    return Refusal(_reason(status), headers, body)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _message(status: int, retry_after: float | None) -> str:
    if status == _RATE:
        wait = "" if retry_after is None else f" Please try again in {retry_after:g}s."
        return f"Rate limit reached.{wait}"
    if status == _OVERLOADED:
        return "Overloaded"
    if status >= _SERVER:
        return "The server had an error while processing the request."
    return "The request was refused."


Own = Sequence[tuple[str, str]]
"""Headers that only this provider's refusals have."""


def _openai(said: _Said) -> tuple[Any, Own]:
    kind, code = _OPENAI.get(said.status, ("server_error" if said.status >= _SERVER else "invalid_request_error", None))
    return {"error": {"message": said.message, "type": kind, "param": None, "code": code}}, ()


_OPENAI = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("tokens", "rate_limit_exceeded"),
}


def _anthropic(said: _Said) -> tuple[Any, Own]:
    kind = _ANTHROPIC.get(said.status, "api_error" if said.status >= _SERVER else "invalid_request_error")
    body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": said.message}}
    if said.request is not None:
        body["request_id"] = said.request
    again = said.status in _AGAIN or said.status >= _SERVER
    return body, (("x-should-retry", "true" if again else "false"),)


_ANTHROPIC = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _gemini(said: _Said) -> tuple[Any, Own]:
    error: dict[str, Any] = {
        "code": said.status,
        "message": said.message,
        "status": _GEMINI.get(said.status, "UNAVAILABLE" if said.status >= _SERVER else "FAILED_PRECONDITION"),
    }
    if said.retry_after is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error["details"] = [{"@type": kind, "retryDelay": f"{said.retry_after:g}s"}]
    return {"error": error}, ()


_GEMINI = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    504: "DEADLINE_EXCEEDED",
}


def _mistral(said: _Said) -> tuple[Any, Own]:
    kind = {429: "rate_limited"}.get(
        said.status, "internal_server_error" if said.status >= _SERVER else "invalid_request_error"
    )
    return {"object": "error", "message": said.message, "type": kind, "param": None, "code": None}, ()


def _cohere(said: _Said) -> tuple[Any, Own]:
    return {"id": said.request or "00000000-0000-4000-8000-000000000000", "message": said.message}, ()


def _ollama(said: _Said) -> tuple[Any, Own]:
    return {"error": said.message}, ()


def _bedrock(said: _Said) -> tuple[Any, Own]:
    usual = "InternalServerException" if said.status == _SERVER else "ServiceUnavailableException"
    kind = _BEDROCK.get(said.status, usual if said.status >= _SERVER else "ValidationException")
    return {"message": said.message}, (("x-amzn-errortype", kind),)


_BEDROCK = {
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
}

_FORMS = {
    "anthropic": _anthropic,
    "bedrock": _bedrock,
    "cohere": _cohere,
    "gemini": _gemini,
    "mistral": _mistral,
    "ollama": _ollama,
    "openai": _openai,
}

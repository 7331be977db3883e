"""Our own error responses: always JSON with `error.type` (`wiretape_…`) and `error.message`, in the outer shape that
the upstream's SDK understands, so that a caller sees our sentence and not a parse error. Must not know sockets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from proxy.wire.interface import ClientSide, RawHeaders, RequestError, UpstreamResponse

NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Answer:
    """An error of ours: `kind` without the `wiretape_` prefix; the text names what to do."""

    status: int
    kind: str
    message: str
    headers: RawHeaders = field(default_factory=list)

    @property
    def reason(self) -> bytes:
        return HTTPStatus(self.status).phrase.encode()

    def body(self, dialect: str) -> bytes:
        if self.status == NO_CONTENT:
            return b""
        error = {"type": f"wiretape_{self.kind}", "message": self.message}
        return msgspec.json.encode(_SHAPES.get(dialect, _openai)(self.status, error))

    def head(self, body: bytes) -> RawHeaders:
        if self.status == NO_CONTENT:
            return self.headers
        return [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *self.headers,
        ]


def _openai(_status: int, error: dict[str, str]) -> object:
    return {"error": {**error, "param": None, "code": error["type"]}}


def _anthropic(_status: int, error: dict[str, str]) -> object:
    return {"type": "error", "error": error}


def _gemini(status: int, error: dict[str, str]) -> object:
    return {"error": {"code": status, "status": _GOOGLE_STATUS.get(status, "UNKNOWN"), **error}}


def _cohere(_status: int, error: dict[str, str]) -> object:
    return {"message": error["message"], "error": error}


def _bedrock(_status: int, error: dict[str, str]) -> object:
    return {"__type": error["type"], "message": error["message"], "error": error}


_SHAPES = {
    "anthropic": _anthropic,
    "bedrock": _bedrock,
    "cohere": _cohere,
    "gemini": _gemini,
    "openai": _openai,
}
_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


# What we did not understand may have meant something else by what follows it.
_CLOSE: RawHeaders = [(b"connection", b"close")]


def bad_request(message: str) -> Answer:
    return Answer(400, "bad_request", message, _CLOSE)


def refused(error: RequestError) -> Answer:
    """Of what the wire could not take."""
    return Answer(error.status, error.kind, str(error), _CLOSE)


def no_method(method: str) -> Answer:
    return Answer(501, "method_refused", f"{method} is not relayed", _CLOSE)


def no_pass() -> Answer:
    return Answer(403, "bad_pass", "the pass was used already, is too old, or is none: only playback makes them")


def only_played(name: str) -> Answer:
    return Answer(403, "only_played", f"nothing is asked of {name}: its mode would have to be playback_else_record")


def foreign_host() -> Answer:
    text = "a key that is held here is for who asks by localhost, or by a name in forward.hosts: the Host is neither"
    return Answer(403, "host_refused", text)


def foreign_page() -> Answer:
    return Answer(403, "origin_refused", "pages of this origin may not ask here: forward.cors_origins does not name it")


def too_large(limit: int, name: str = "max_request_body") -> Answer:
    return Answer(413, "request_too_large", f"the request body is over {name} ({limit} bytes)")


def cannot_record(reason: str) -> Answer:
    return Answer(
        503,
        "cannot_record",
        f"not sent to the upstream, because it could not be recorded: {reason}",
        [(b"retry-after", b"5")],
    )


def response_lost(reason: str) -> Answer:
    """As `cannot_record`, but the upstream has the request: an SDK must not send, and pay for, another by itself."""
    return Answer(
        503,
        "cannot_record",
        f"the upstream was asked, but its response could not be recorded and is not passed on: {reason}",
        [(b"x-should-retry", b"false")],
    )


def upstream_failed(code: str, message: str) -> Answer:
    if code in ("timeout", "connect_timeout"):
        return Answer(504, "upstream_timeout", message)
    if code == "credentials":
        return Answer(502, "upstream_credentials_failed", message)
    if code == "proxy":
        return Answer(502, "upstream_proxy_failed", message)
    kind = "upstream_unreachable" if code in ("connect", "tls") else "upstream_broken"
    return Answer(502, kind, message)


def internal(place: str) -> Answer:
    return Answer(500, "internal_error", f"wiretape failed while relaying this request ({place}); please report it")


def send(client: ClientSide, answer: Answer, body: bytes, *more: tuple[bytes, bytes]) -> None:
    """Answer a request ourselves."""
    bodiless = client.request.method == b"HEAD" or answer.status == NO_CONTENT
    client.start(UpstreamResponse(answer.status, answer.reason, [*answer.head(body), *more], bodiless=bodiless))
    if not bodiless:
        client.write(body)
    client.end([])
    client.flush()

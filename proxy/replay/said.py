"""What playback says itself: errors, misses, reports; always JSON."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from proxy.replay.library import Miss
from proxy.replay.session import Session
from proxy.wire.interface import ClientSide, RawHeaders, UpstreamResponse

JSON = b"application/json"


def missed(miss: Miss) -> bytes:
    """Why nothing answers a request."""
    more: dict[str, Any] = {}
    if miss.nearest is not None:
        more = {
            "nearest": str(miss.nearest.id),
            "rule": miss.rule,
            "differences": _differences(miss),
        }
    return error("no_recording", miss.sentence, **more)


class Reply(NamedTuple):
    """An answer of ours."""

    status: int
    body: bytes
    content_type: bytes = JSON


def report(session: Session, name: str) -> bytes:
    """What became of the recordings and requests of a session; `name` is that of who asks."""
    library = session.stock.library
    found = library.report(name)
    said = {
        "mode": session.mode,
        "recordings": len(library),
        "unused": [{"id": str(each.id), "request": each.title} for each in found.unused],
        "unmatched": [
            {"request": each.title, "problem": each.sentence, "differences": _differences(each)}
            for each in found.unmatched
        ],
        "recorded": [str(each) for each in session.recorded],
        "equal": [[str(each.id) for each in shelf] for shelf in found.equal],
    }
    return msgspec.json.encode(said)


def _differences(miss: Miss) -> list[dict[str, str | None]]:
    return [each._asdict() for each in miss.differences]


def error(kind: str, message: str, **more: Any) -> bytes:
    """In a form that the SDKs of all providers find their message in."""
    said = {"type": f"wiretape_{kind}", "message": message, **more}
    return msgspec.json.encode({"type": "error", "error": said, "message": message})


def json_headers(body: bytes, content_type: bytes = JSON) -> RawHeaders:
    """Of JSON or another text, for who would try again without being told not to."""
    return [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"x-should-retry", b"false"),
    ]


def send(client: ClientSide, reply: Reply) -> None:
    """Answer a request ourselves."""
    status, body, content_type = reply
    reason = HTTPStatus(status).phrase.encode()
    head = client.request.method == b"HEAD"
    client.start(UpstreamResponse(status, reason, json_headers(body, content_type), bodiless=head))
    if not head:
        client.write(body)
    client.end([])
    client.flush()

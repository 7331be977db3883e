"""What of a stored exchange the lens is shown. Pure; must not know tables."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from proxy.exchange import WireEnd
from proxy.interpret.meaning import Pairs, Pieces, Recording

_SAID_NOTHING = (WireEnd.WORKER_DIED, WireEnd.JOURNAL_ERROR)  # of when the request was sent


class Stored(Protocol):
    """An ended exchange as it is stored; `target` as the data port was asked, `target_long` where it was cut."""

    dialect: str | None
    method: str | None
    target: str | None
    target_long: str | None
    status: int | None
    wire_end: WireEnd | None
    unrecorded_bytes: int
    lost_records: int
    request_sent_us: int | None
    request_headers: Pairs
    response_headers: Pairs
    request: Pieces
    response: Pieces


def recording(found: Stored) -> Recording:
    """What the lens is shown of an exchange."""
    lost = found.unrecorded_bytes or found.lost_records
    return Recording(
        dialect=found.dialect or "",
        method=found.method or "",
        target=upstream_target(found.target_long or found.target or ""),
        request_headers=found.request_headers,
        status=found.status,
        response_headers=found.response_headers,
        request=found.request,
        response=found.response,
        whole=found.wire_end is WireEnd.UPSTREAM_END and not lost,
        sent=not _never_sent(found),
    )


class Place(NamedTuple):
    """A target of the data port in its parts: tags (`a=b,c=d`, as they are written), the upstream's name, and the
    target there, path and query."""

    tags: str
    upstream: str
    target: str


def place_of(target: str) -> Place:
    """`/~a=b/openai/v1/x?y` is of the tags `a=b`, the upstream `openai`, and `/v1/x?y` there."""
    path, question, query = target.partition("?")
    segments = path.split("/")[1:]
    tags = segments.pop(0)[1:] if segments and segments[0].startswith("~") else ""
    return Place(tags, segments[0] if segments else "", "/" + "/".join(segments[1:]) + question + query)


def upstream_target(target: str) -> str:
    """A target of the data port without tags and the upstream's name: `/~a=b/openai/v1/x?y` becomes `/v1/x?y`."""
    return place_of(target).target


def _never_sent(found: Stored) -> bool:
    """Whether nothing of it can have been counted anywhere: it did not get as far as the upstream."""
    return found.status is None and found.request_sent_us is None and found.wire_end not in _SAID_NOTHING

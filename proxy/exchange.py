"""The nouns that every part shares: sides, wire ends, outcomes, origins, exchange ids.

Knows nothing of HTTP, files or databases. The numbers are stored: never renumber, only add.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable
from enum import IntEnum
from uuid import UUID

import msgspec

REDACTED = "redacted:"
"""What stands, with a fingerprint behind it, where a credential was."""


class Side(IntEnum):
    """Which part of an exchange a byte or a header belongs to."""

    REQUEST = 0
    RESPONSE = 1
    RESPONSE_TRAILERS = 2
    REQUEST_TRAILERS = 3


class WireEnd(IntEnum):
    """How carrying ended, as forward saw it (`WORKER_DIED` is ingest's, for a worker that could not say)."""

    UPSTREAM_END = 0
    CLIENT_LEFT = 1
    UPSTREAM_ERROR = 2
    JOURNAL_ERROR = 3
    WORKER_DIED = 4
    REFUSED = 5


class Outcome(IntEnum):
    """What became of an exchange, as ingest concludes; it speaks of carriage only (an HTTP 429 is `COMPLETED`)."""

    COMPLETED = 0
    CLIENT_LEFT = 1
    UPSTREAM_FAILED = 2
    REFUSED = 3
    INTERRUPTED = 4


_OUTCOMES = {
    WireEnd.UPSTREAM_END: Outcome.COMPLETED,
    WireEnd.CLIENT_LEFT: Outcome.CLIENT_LEFT,
    WireEnd.UPSTREAM_ERROR: Outcome.UPSTREAM_FAILED,
    WireEnd.JOURNAL_ERROR: Outcome.INTERRUPTED,
    WireEnd.WORKER_DIED: Outcome.INTERRUPTED,
    WireEnd.REFUSED: Outcome.REFUSED,
}


def outcome(wire_end: WireEnd | None, *, terminated: bool = False) -> Outcome:
    """The one outcome of an ended exchange; it speaks of carriage only, an HTTP 429 that came through is completed.

    `terminated`: the terminal event came through, so that a client which then leaves has all it asked for.
    """
    assert wire_end is not None, "only ended exchanges have an outcome"
    found = _OUTCOMES[wire_end]
    return Outcome.COMPLETED if terminated and found is Outcome.CLIENT_LEFT else found


class Origin(IntEnum):
    """Where an exchange comes from; spend counts `LIVE` and `RESEND`."""

    LIVE = 0
    RESEND = 1
    PLAYBACK = 2
    DEMO = 3
    IMPORT = 4


class ExchangeIds:
    """UUIDv7 ids (RFC 9562, 5.7) that never go backwards within one worker, whatever the clock does.

    The 12 bits after the milliseconds hold the sub-millisecond fraction (method 3 of 6.2); equal or earlier clock
    readings continue from the last value.
    """

    def __init__(self, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._now_us = now_us
        self._last = 0
        # Unique, not secret: seeding from the system once is enough, and asking it for each id costs 5 % of a request.
        self._random = random.Random(os.urandom(32))  # noqa: S311 - nothing is guarded by an id being hard to guess

    def next(self) -> UUID:
        return UUID(int=self.next_number())

    def next_number(self) -> int:
        """The next id as a number: to make a UUID of it costs more than the number."""
        ms, us = divmod(self._now_us(), 1000)
        stamp = (ms << 12) | (us * 4096 // 1000)
        self._last = stamp = max(stamp, self._last + 1)
        noise = self._random.getrandbits(62)
        return (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0x2 << 62 | noise


def id_time_us(exchange: UUID) -> int:
    """Microseconds since 1970 at which the id was made (millisecond accuracy is all that other makers promise)."""
    stamp = (exchange.int >> 80) * 1000
    return stamp + ((exchange.int >> 64) & 0xFFF) * 1000 // 4096


# What records carry: the payloads of a journal's request heads, response heads, trailers, changes, gaps and ends.
# Header names and values are latin-1 text, credentials are redacted already. Times are microseconds since the
# exchange began. A field may be added with a default; none may change its meaning.

HeaderList = list[tuple[str, str]]


class RequestHead(msgspec.Struct, omit_defaults=True):
    """`ordinal` counts the journal's exchanges from 1 without holes; `started_us` is since 1970; `replay_of` is the id
    of the exchange that is sent again."""

    ordinal: int
    started_us: int
    upstream: str
    dialect: str
    method: str
    target: str
    http_version: str
    headers: HeaderList
    client: str = ""
    credential: str | None = None
    session: str | None = None
    tags: HeaderList = []
    record: str = "all"
    origin: int = Origin.LIVE
    replay_of: str | None = None


class ResponseHead(msgspec.Struct, omit_defaults=True):
    """A final (or, later, interim) response head as the upstream sent it."""

    status: int
    headers: HeaderList
    reason: str = ""


class Trailers(msgspec.Struct):
    side: int
    headers: HeaderList


KEPT_ALIVE = "keep_alive"


class Change(msgspec.Struct, omit_defaults=True):
    """What of the bytes was changed on the way.

    `kind` is `request_header_added`, `response_header_added` or `response_header_removed` (`headers` are those, added
    ones behind all others); `own_response`, all of which are `headers`, `status` and `body`; `own_interim`, a 1xx of
    ours; of a transformation (forward/transform.py): `usage_asked`, `usage_withheld`, `usage_refused`;
    `upload_url_rewritten` (upload_urls.py), whose `headers` stand in the places of those of their names, in order; or
    `keep_alive`, a comment of ours in a silent stream.

    `removed` are the names, in lower case, of those that were taken off before; `target` is the client's as it was sent
    on, where something was taken out of its query.

    With a `side` its body was changed: `taken` bytes of it, from byte `at` of what came on, gave place to `put`; and
    `headers` stand where those of their names stood, or at the end. `usage_refused` takes back what was changed of the
    request before: `status`, `headers` and `body` answered that, and it was sent again as it came.
    """

    kind: str
    headers: HeaderList
    status: int | None = None
    body: str | None = None
    removed: list[str] = []
    target: str | None = None
    side: int | None = None
    at: int = 0
    taken: int = 0
    put: str = ""


def as_passed(pieces: Iterable[bytes], changes: Iterable[Change], side: Side) -> list[bytes]:
    """What of each piece of a side's body was passed on, from all that came and the exchange's changes in order; what
    was put behind all that came goes with the last piece, or is one where none came. What was never passed on, because
    the exchange was given up or its client had left, is not told by them."""
    edits: list[Change] = []
    for change in changes:
        if change.side == side:
            edits.append(change)
        elif change.kind == "usage_refused" and side == Side.REQUEST:
            edits.clear()
    edits.sort(key=lambda edit: edit.at)
    edits.reverse()  # the first is taken off the end
    passed = []
    end = gone = 0
    for data in pieces:
        begin, end = end, end + len(data)
        kept = b""
        at = max(begin, gone)
        while edits and edits[-1].at < end:
            edit = edits.pop()
            kept += data[at - begin : max(edit.at - begin, 0)] + edit.put.encode()
            at = gone = max(at, edit.at + edit.taken)
        passed.append(kept + data[at - begin :])
    behind = b"".join(edit.put.encode() for edit in reversed(edits) if edit.at == end)
    if behind:
        passed[-1:] = [b"".join([*passed[-1:], behind])]
    return passed


class Gap(msgspec.Struct, omit_defaults=True):
    """`size` body bytes of a side that crossed the wire and are not in the journal; `reason` is `journal` or `cap`."""

    side: int
    size: int
    reason: str


class End(msgspec.Struct, omit_defaults=True):
    """How an exchange ended: counts of what crossed the wire (recorded or not), and SHA-256 of the bodies, as hex.

    The in-hashes are over what came in, the out-hashes over what was passed on (None: the same).
    """

    wire_end: int
    error: str | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    request_chunks: int = 0
    response_chunks: int = 0
    request_sent_us: int | None = None
    head_us: int | None = None
    first_byte_us: int | None = None
    last_byte_us: int | None = None
    overhead_us: int = 0
    masked: bool = False
    request_hash: str = ""
    request_out_hash: str | None = None
    response_hash: str = ""
    response_out_hash: str | None = None

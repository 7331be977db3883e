"""What a recorded exchange answered, as the wire had it: heads, chunks, trailers, and how it ended.

Must not know how it is played.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from proxy.exchange import KEPT_ALIVE, Change, Side, WireEnd, as_passed
from proxy.store import Connection, Engine, read
from proxy.store.engine import reading
from proxy.store.rows import Exchange, Pairs


@dataclass(frozen=True, slots=True)
class Head:
    """A response head, interim (1xx) or final. Times are microseconds since the exchange began."""

    at_us: int
    status: int
    reason: str
    headers: Pairs


@dataclass(frozen=True, slots=True)
class Answer:
    """`heads` are in order, the last is final unless there was none. `chunks` are (time, bytes) of the response, `sent`
    those of the client behind a switch of protocols. `broken`: it ended without being complete."""

    heads: tuple[Head, ...]
    chunks: tuple[tuple[int, bytes], ...]
    trailers: Pairs
    broken: bool
    end_us: int
    sent: tuple[tuple[int, bytes], ...] = ()
    dialect: str = ""
    reset: bool = False
    waits: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return 1000 + sum(len(data) + 100 for _, data in (*self.chunks, *self.sent))


def is_playable(exchange: Exchange) -> bool:
    """Whether all of the answer is recorded: its bodies too, to an end that was the upstream's."""
    if exchange.outcome is None or exchange.record or exchange.unrecorded_bytes or exchange.lost_records:
        return False
    if exchange.wire_end is WireEnd.CLIENT_LEFT:
        return bool(exchange.terminated)
    return exchange.wire_end in {WireEnd.UPSTREAM_END, WireEnd.UPSTREAM_ERROR}


@dataclass(frozen=True, slots=True)
class Heard:
    """What of a recorded response its client got, by what was changed of it: no more is played to another, and no
    comments that we put in while it was silent."""

    changes: Sequence[Change] = ()

    def headers(self, pairs: Pairs) -> Pairs:
        removed = [each.headers for each in self.changes if each.kind == "response_header_removed"]
        names = {name.lower() for headers in removed for name, _ in headers}
        return [(name, value) for name, value in pairs if name.lower() not in names]

    def chunks(self, chunks: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        changes = [each for each in self.changes if each.kind != KEPT_ALIVE]
        got = as_passed([data for _, data in chunks], changes, Side.RESPONSE)
        # Of an import, which may be anybody's, something may be put where nothing came.
        return [(at_us, data) for (at_us, _), data in zip(chunks, got, strict=False) if data]


def heard(connection: Connection, exchange: Exchange) -> Heard:
    if exchange.response_out_hash is None:
        return Heard()
    return Heard([_change(row.data) for row in read.changes(connection, exchange.id)])


def _change(data: str) -> Change:
    try:
        return msgspec.json.decode(data, type=Change)
    except msgspec.DecodeError:
        return Change("unknown", [])  # of an import, which may be anybody's


def load(engine: Engine, exchange: UUID) -> Answer | None:
    """The answer of an exchange; None if it is not there, or not at its end."""
    with reading(engine) as connection:
        found = read.get_exchange(connection, exchange)
        return None if found is None or found.outcome is None else _answer(connection, found)


def _answer(connection: Connection, exchange: Exchange) -> Answer:
    rows = read.headers(connection, exchange.id)
    got = heard(connection, exchange)
    heads = [
        Head(row.at_us, row.status, row.reason or "", got.headers(row.headers))
        for row in rows
        if row.side == Side.RESPONSE and row.status is not None
    ]
    trailers = [pair for row in rows if row.side == Side.RESPONSE_TRAILERS for pair in row.headers]
    chunks: dict[int, list[tuple[int, bytes]]] = {Side.REQUEST: [], Side.RESPONSE: []}
    for chunk in read.chunks(connection, exchange.id):
        chunks.setdefault(chunk.side, []).append((chunk.at_us, chunk.data))
    switched = bool(heads) and heads[-1].status == 101
    return Answer(
        heads=tuple(heads),
        chunks=tuple(got.chunks(chunks[Side.RESPONSE])),
        trailers=trailers,
        broken=exchange.wire_end is WireEnd.UPSTREAM_ERROR,
        end_us=exchange.end_us or 0,
        sent=tuple(chunks[Side.REQUEST]) if switched else (),
        dialect=exchange.dialect or "",
    )

"""What a recorded exchange answered, as the wire had it: heads, chunks, trailers, and how it ended.

Must not know how it is played.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import msgspec

from proxy.exchange import Change, Side, WireEnd
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


class Heard(NamedTuple):
    """What of a recorded response its client got, where that is not all."""

    withheld: list[tuple[int, int]]  # where pieces of the body begin and end
    removed: frozenset[str]  # headers, in small letters

    def headers(self, pairs: Pairs) -> Pairs:
        return [(name, value) for name, value in pairs if name.lower() not in self.removed]

    def chunks(self, chunks: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        if not self.withheld:
            return list(chunks)
        found = []
        end = 0
        for at_us, data in chunks:
            begin, end = end, end + len(data)
            kept, at = b"", begin
            for first, behind in self.withheld:
                if at < behind and first < end:
                    kept += data[at - begin : max(first, at) - begin]
                    at = min(behind, end)
            kept += data[at - begin :]
            if kept:
                found.append((at_us, kept))
        return found


def heard(connection: Connection, exchange: Exchange) -> Heard:
    """What a client is to be played is what a client got: it asked for no more."""
    if exchange.response_out_hash is None:
        return Heard([], frozenset())
    changes = [_change(row.data) for row in read.changes(connection, exchange.id)]
    withheld = sorted((each.at, each.at + each.taken) for each in changes if each.side == Side.RESPONSE)
    removed = [name for each in changes if each.kind == "response_header_removed" for name, _ in each.headers]
    return Heard(withheld, frozenset(map(str.lower, removed)))


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

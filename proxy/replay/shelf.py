"""Files and the store: exchanges become tracks of a cassette; what files hold becomes exchanges of the origin `import`.

A track is also played without a store. Must not know how a file is read.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from proxy.errors import UsageError
from proxy.exchange import Origin, Side, WireEnd, outcome
from proxy.replay.answer import Answer, Head, heard, is_playable
from proxy.replay.cassette import Track
from proxy.store import Connection, Engine, read
from proxy.store.engine import reading
from proxy.store.rows import ChangeRow, ChunkRow, Exchange, ExchangeRow, GapRow, HeadRow
from proxy.store.write import Writer

_LOT = 50  # exchanges of one transaction
_LOT_BYTES = 4 * 2**20  # of bodies, from which on a lot is large enough


def track_of(connection: Connection, exchange: Exchange) -> Track | None:
    """A recorded exchange for a cassette; None where not all of it is recorded that another could play."""
    if not is_playable(exchange):
        return None
    assert exchange.wire_end is not None
    track = Track(
        exchange.id,
        exchange.upstream or "",
        exchange.dialect or "",
        exchange.method or "",
        exchange.target or "",
        exchange.http_version or "",
        exchange.started_us,
        exchange.end_us or 0,
        exchange.wire_end,
        exchange.error,
        exchange.session,
        list(exchange.tags),
    )
    got = heard(connection, exchange)
    for row in read.headers(connection, exchange.id):
        pairs = [(name, value) for name, value in row.headers]
        if row.side == Side.RESPONSE and row.status is not None:
            track.heads.append(Head(row.at_us, row.status, row.reason or "", got.headers(pairs)))
        elif row.side == Side.REQUEST:
            track.headers = pairs
        else:
            (track.request_trailers if row.side == Side.REQUEST_TRAILERS else track.trailers).extend(pairs)
    for chunk in read.chunks(connection, exchange.id):
        (track.request if chunk.side == Side.REQUEST else track.response).append((chunk.at_us, chunk.data))
    track.response = got.chunks(track.response)
    return track


@dataclass(slots=True)
class Shelved:
    """An exchange with all its rows, as it is put into a store. `credential_name`: what its credential is called;
    `lost`: what could not be copied of it, when it was recorded."""

    row: ExchangeRow
    heads: Sequence[HeadRow]
    chunks: Sequence[ChunkRow]
    changes: Sequence[ChangeRow] = ()
    gaps: Sequence[GapRow] = ()
    credential_name: str | None = None
    lost: str | None = None


class Put(NamedTuple):
    """The exchanges that were put into a store, and how many were there already."""

    added: tuple[UUID, ...]
    known: int


def put(engine: Engine, found: Iterable[Shelved]) -> Iterator[Put]:
    """Put exchanges into a store, those that are not there yet; tells of each transaction. What they meant is to be
    found by whoever reads them.

    Raises DatabaseAway, ValueRefused, and what `found` raises; what was put before stays, also what `found` gave before
    it raised UsageError. Memory does not grow with the number of exchanges.
    """
    writer = Writer(engine)
    for lot in _lots(found):
        with reading(engine) as connection:
            there = read.among(connection, [each.row.id for each in lot])
        fresh: dict[UUID, Shelved] = {}
        for each in lot:
            if each.row.id not in there:
                fresh.setdefault(each.row.id, each)
        if fresh:
            with writer.transaction(durable=True):
                _put(writer, list(fresh.values()))
        yield Put(tuple(fresh), len(lot) - len(fresh))


def _lots(found: Iterable[Shelved]) -> Iterator[list[Shelved]]:
    """As many as make a transaction; what came before an error comes before it here too."""
    lot: list[Shelved] = []
    size, problem = 0, None
    try:
        for each in found:
            lot.append(each)
            size += sum(len(chunk.data) for chunk in each.chunks)
            if len(lot) >= _LOT or size >= _LOT_BYTES:
                yield lot
                lot, size = [], 0
    except UsageError as error:
        problem = error
    if lot:
        yield lot
    if problem is not None:
        raise problem


def _put(writer: Writer, lot: Sequence[Shelved]) -> None:
    writer.put_exchanges([each.row for each in lot])
    for each in lot:
        writer.put_heads(each.heads)
        writer.put_chunks(each.chunks)
        writer.put_changes(each.changes)
        writer.put_gaps(each.gaps)
        if each.lost is not None:
            writer.note_interpretation_error(each.row.id, each.lost)
        if each.row.credential is not None and each.credential_name:
            writer.name_credential(each.row.credential, each.credential_name)


def shelved(track: Track) -> Shelved:
    """A track as it is put into a store."""
    return Shelved(_row(track), *_rows(track))


def _row(track: Track) -> ExchangeRow:
    row = ExchangeRow(track.id, None, track.started_us, origin=Origin.IMPORT)
    row.upstream, row.dialect, row.method, row.target = track.upstream, track.dialect, track.method, track.target
    row.http_version, row.session, row.tags = track.version, track.session, sorted(set(track.tags))
    row.wire_end, row.error, row.end_us = track.wire_end, track.error, track.end_us
    row.outcome = outcome(track.wire_end)
    for name, chunks in (("request", track.request), ("response", track.response)):
        whole = hashlib.sha256()
        for _, data in chunks:
            whole.update(data)
        setattr(row, f"{name}_bytes", sum(len(data) for _, data in chunks))
        setattr(row, f"{name}_chunks", len(chunks))
        setattr(row, f"{name}_hash", whole.digest())
    row.request_sent_us = track.request[-1][0] if track.request else 0
    if track.heads:
        row.status, row.reason, row.head_us = track.heads[-1].status, track.heads[-1].reason, track.heads[-1].at_us
    if track.response:
        row.first_byte_us, row.last_byte_us = track.response[0][0], track.response[-1][0]
    return row


def _rows(track: Track) -> tuple[list[HeadRow], list[ChunkRow]]:
    """Heads and chunks, numbered in the order of time; a head before what came with it, trailers behind all."""
    key = track.id
    rows: list[HeadRow | ChunkRow] = [HeadRow(key, Side.REQUEST, 0, 0, None, None, track.headers)]
    rows += heapq.merge(
        (ChunkRow(key, Side.REQUEST, 0, at_us, data) for at_us, data in track.request),
        (HeadRow(key, Side.RESPONSE, 0, each.at_us, each.status, each.reason, each.headers) for each in track.heads),
        (ChunkRow(key, Side.RESPONSE, 0, at_us, data) for at_us, data in track.response),
        key=attrgetter("at_us"),
    )
    for side, pairs in ((Side.REQUEST_TRAILERS, track.request_trailers), (Side.RESPONSE_TRAILERS, track.trailers)):
        if pairs:
            rows.append(HeadRow(key, side, 0, track.end_us, None, None, pairs))
    numbered = [row._replace(seq=seq) for seq, row in enumerate(rows)]
    heads = [row for row in numbered if isinstance(row, HeadRow)]
    return heads, [row for row in numbered if isinstance(row, ChunkRow)]


# Played without a store


def answer_of(track: Track) -> Answer:
    """How a track is played."""
    return Answer(
        heads=tuple(track.heads),
        chunks=tuple(track.response),
        trailers=track.trailers,
        broken=track.wire_end is WireEnd.UPSTREAM_ERROR,
        end_us=track.end_us,
        sent=tuple(track.request) if is_switched(track) else (),
        dialect=track.dialect,
    )


def is_switched(track: Track) -> bool:
    """Whether another protocol was spoken."""
    return bool(track.heads) and track.heads[-1].status == 101


def exported(engine: Engine, ids: Iterable[UUID]) -> Iterator[Track | None]:
    """The tracks of exchanges, one after another; None for one that cannot be played, or is gone."""
    for each in ids:
        with reading(engine) as connection:
            exchange = read.get_exchange(connection, each)
            yield None if exchange is None else track_of(connection, exchange)

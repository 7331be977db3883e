"""Records become rows, unparsed: what a payload's bytes mean is left to interpretation at the exchange's end.

Pure bookkeeping: no files, no database.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from proxy.exchange import (
    Change,
    End,
    Gap,
    Origin,
    RequestHead,
    ResponseHead,
    Side,
    Trailers,
    WireEnd,
    id_time_us,
    outcome,
)
from proxy.ingest.complete import META
from proxy.journal import record
from proxy.journal.record import Record
from proxy.store.rows import ChangeRow, ChunkRow, ExchangeRow, GapRow, HeadRow, JournalRow

_log = logging.getLogger("ingest")

_request_head = msgspec.json.Decoder(RequestHead)
_response_head = msgspec.json.Decoder(ResponseHead)
_trailers = msgspec.json.Decoder(Trailers)
_change = msgspec.json.Decoder(Change)
_gap = msgspec.json.Decoder(Gap)
_end = msgspec.json.Decoder(End)


@dataclass(slots=True)
class Batch:
    """Rows of one transaction."""

    exchanges: dict[UUID, ExchangeRow] = field(default_factory=dict)
    heads: list[HeadRow] = field(default_factory=list)
    chunks: list[ChunkRow] = field(default_factory=list)
    changes: list[ChangeRow] = field(default_factory=list)
    gaps: list[GapRow] = field(default_factory=list)
    notes: dict[UUID, str] = field(default_factory=dict)  # what of an exchange could not be stored


class _Lane:
    """An exchange that is open: its row, and the sequence that its next record should have (None: not known)."""

    __slots__ = ("id", "next", "row")

    def __init__(self, row: ExchangeRow, following: int | None) -> None:
        self.id = row.id
        self.row = row
        self.next = following


class Copier:
    """One journal's records, in order. `journal` and `open` are as of the last record taken.

    Exchanges go by their ids as records have them, 32 hex digits: hashing a UUID takes longer than all else of a chunk.
    """

    def __init__(self, journal: JournalRow, still_open: Iterable[ExchangeRow]) -> None:
        self.journal = journal
        self.batch = Batch()
        self._lanes = {row.id.hex.encode(): _Lane(row, None) for row in still_open}

    @property
    def open(self) -> list[ExchangeRow]:
        """The exchanges that have not ended."""
        return [lane.row for lane in self._lanes.values()]

    def take(self, item: Record) -> bool:
        """Copy a record into the batch; False where its payload is not what its kind says."""
        kind, exchange, seq, at_us, payload, _, _ = item
        lane = self._lanes.get(exchange)
        if lane is not None and kind == record.RESPONSE_CHUNK and lane.next == seq:
            row = lane.row
            row.response_bytes += len(payload)
            row.response_chunks += 1
            lane.next = seq + 1
            self.batch.chunks.append(ChunkRow(lane.id, 1, seq, at_us, payload))
            return True
        if exchange == record.NIL:
            return True
        try:
            known = self._copy(item)
        except (ValueError, RecursionError):  # every DecodeError is a ValueError
            known = False
        if known:
            self._note_hole(exchange, seq)
        else:
            self._lose(exchange, seq)
        return known

    def lose(self, exchange: bytes, seq: int) -> None:
        """One record of an exchange is damaged."""
        if exchange != record.NIL:
            self._lose(exchange, seq)

    def pass_over(self, item: Record, why: str) -> None:
        """Leave one record out because the database cannot take it; the exchange says so."""
        self.lose(item.exchange, item.seq)
        if item.exchange != record.NIL:
            self.batch.notes[UUID(item.exchange.decode())] = why

    def die(self) -> None:
        """The worker is dead: end what it left open."""
        for exchange, lane in list(self._lanes.items()):
            lane.row.wire_end = WireEnd.WORKER_DIED
            lane.row.error = "the worker died before the exchange ended"
            self._close(exchange, lane.row)

    def _copy(self, item: Record) -> bool:
        """False for a kind that this program does not know. Raises ValueError and RecursionError for its payload."""
        kind, exchange, seq, at_us, payload, _, _ = item
        if kind == record.RESPONSE_CHUNK:
            row = self._known(exchange)
            row.response_bytes += len(payload)
            row.response_chunks += 1
            self.batch.chunks.append(ChunkRow(row.id, Side.RESPONSE, seq, at_us, payload))
        elif kind == record.REQUEST_CHUNK:
            row = self._known(exchange)
            row.request_bytes += len(payload)
            row.request_chunks += 1
            self.batch.chunks.append(ChunkRow(row.id, Side.REQUEST, seq, at_us, payload))
        elif kind == record.REQUEST_HEAD:
            self._begin(item, _request_head.decode(payload))
        elif kind == record.RESPONSE_HEAD:
            self._answered(item, _response_head.decode(payload))
        elif kind == record.END:
            self._finish(item, _end.decode(payload))
        elif kind == record.TRAILERS:
            trailers = _trailers.decode(payload)
            row = self._row(exchange)
            self.batch.heads.append(HeadRow(row.id, trailers.side, seq, at_us, None, None, trailers.headers))
        elif kind == record.CHANGE:
            _change.decode(payload)
            text = payload.decode()
            self.batch.changes.append(ChangeRow(self._known(exchange).id, seq, at_us, text))
        elif kind == record.GAP:
            gap = _gap.decode(payload)
            row = self._row(exchange)
            row.unrecorded_bytes += gap.size
            self.batch.gaps.append(GapRow(row.id, seq, at_us, gap.side, gap.size, gap.reason))
        else:
            return False
        return True

    def _begin(self, item: Record, head: RequestHead) -> None:
        origin = Origin(head.origin)
        replay_of = None if head.replay_of is None else UUID(head.replay_of)
        journal = self.journal
        journal.stored += 1
        journal.highest_ordinal = max(journal.highest_ordinal, head.ordinal)
        row = self._row(item.exchange)
        row.ordinal = head.ordinal
        row.started_us = head.started_us
        row.origin = origin
        row.replay_of = replay_of
        row.upstream = head.upstream
        row.dialect = head.dialect
        row.method = head.method
        row.target = head.target
        row.http_version = head.http_version
        row.client = head.client or None
        row.client_kind = _client_kind(head)
        row.credential = head.credential
        row.session = head.session
        row.tags = sorted(set(head.tags))
        row.record = META if head.record == "meta" else 0
        self.batch.heads.append(HeadRow(row.id, Side.REQUEST, item.seq, item.at_us, None, None, head.headers))

    def _answered(self, item: Record, head: ResponseHead) -> None:
        row = self._row(item.exchange)
        if head.status >= 200 or head.status == 101:  # the other 1xx are interim
            row.status = head.status
            row.reason = head.reason or None
            row.head_us = item.at_us
        self.batch.heads.append(
            HeadRow(row.id, Side.RESPONSE, item.seq, item.at_us, head.status, head.reason, head.headers)
        )

    def _finish(self, item: Record, end: End) -> None:
        wire_end = WireEnd(end.wire_end)
        hashes = [_hash(each) for each in (end.request_hash, end.response_hash)]
        out_hashes = [_hash(each) for each in (end.request_out_hash, end.response_out_hash)]
        row = self._row(item.exchange)
        self._note_hole(item.exchange, item.seq)
        row.wire_end = wire_end
        row.error = end.error
        row.end_us = item.at_us
        row.request_bytes, row.response_bytes = end.request_bytes, end.response_bytes
        row.request_chunks, row.response_chunks = end.request_chunks, end.response_chunks
        row.request_sent_us, row.head_us = end.request_sent_us, end.head_us
        row.first_byte_us, row.last_byte_us = end.first_byte_us, end.last_byte_us
        row.overhead_us = end.overhead_us
        row.masked = int(end.masked)
        row.request_hash, row.response_hash = hashes
        row.request_out_hash, row.response_out_hash = out_hashes
        self._close(item.exchange, row)

    def _close(self, exchange: bytes, row: ExchangeRow) -> None:
        row.outcome = outcome(row.wire_end)
        self._row(exchange)
        self._lanes.pop(exchange, None)

    def _known(self, exchange: bytes) -> ExchangeRow:
        """The exchange's row, which need not be written because of this record."""
        lane = self._lanes.get(exchange)
        return self._row(exchange) if lane is None else lane.row

    def _row(self, exchange: bytes) -> ExchangeRow:
        """The exchange's row, to be written with this batch. One whose head was lost begins with what came instead."""
        lane = self._lanes.get(exchange)
        if lane is None:
            key = UUID(exchange.decode())
            row = ExchangeRow(id=key, journal=self.journal.id, started_us=id_time_us(key), node=self.journal.node)
            lane = self._lanes[exchange] = _Lane(row, 0)
        self.batch.exchanges[lane.id] = lane.row
        return lane.row

    def _lose(self, exchange: bytes, seq: int) -> None:
        self._row(exchange).lost_records += 1
        if self._lanes[exchange].next is not None:
            self._note_hole(exchange, seq)

    def _note_hole(self, exchange: bytes, seq: int) -> None:
        """Count the records of an exchange that are missing before this one. What was last before this ingest took the
        journal up is not known."""
        lane = self._lanes.get(exchange)
        if lane is None:
            return
        expected = seq if lane.next is None else lane.next
        if seq > expected:
            self._row(exchange).lost_records += seq - expected
        lane.next = max(expected, seq + 1)


def _client_kind(head: RequestHead) -> str | None:
    """The User-Agent, such as `OpenAI/Python 2.54.0`."""
    for name, value in head.headers:
        if name.lower() == "user-agent":
            return value[:64] or None
    return None


def _hash(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text else None

"""Follows one journal through its segments and knows when its worker is dead.

Reading moves the state on; if the rows cannot be committed, throw the Tail away and begin again from the database.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from uuid import UUID

from proxy.ingest.copy import Batch, Copier
from proxy.journal.reader import Segment, journals
from proxy.journal.record import Damage, Record, UnknownVersion
from proxy.journal.writer import segment_name
from proxy.log import safe
from proxy.store.rows import ExchangeRow, JournalRow

_log = logging.getLogger("ingest")

MAX_RECORDS = 5000
MAX_BYTES = 8 * 1024 * 1024
READ_SECONDS = 0.1


class Tail:
    """One journal. `journal` is its row, with the position behind the last record that was read."""

    def __init__(
        self, folder: Path, worker: UUID, row: JournalRow | None, still_open: list[ExchangeRow], first_segment: int
    ) -> None:
        self.worker = worker
        self.journal = row or JournalRow(worker, "", time.time_ns() // 1000, segment=first_segment)
        self.finished: list[int] = []  # segments that are read to their end
        self.damage = 0
        self.blocked: str | None = None  # why this journal cannot be read
        self.caught_up_at: float | None = None  # when all there was had been read, in time.monotonic()
        self._folder = folder
        self._copier = Copier(self.journal, still_open)
        self._segment: Segment | None = None

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def take(self, limit: int = MAX_RECORDS, *, skip: bool = False) -> tuple[Batch, int]:
        """The rows of at most `limit` records, and how many records that were. With `skip` the first is not copied."""
        self._copier.batch = Batch()
        count = size = 0
        deadline = time.monotonic() + READ_SECONDS
        try:
            while not self.journal.ended:
                segment = self._open_segment()
                if segment is None:
                    break
                for item in segment.read(self.journal.offset):
                    self._copy(segment, item, skip=skip and count == 0)
                    self.journal.offset = item.end
                    count += 1
                    size += item.end - item.offset
                    if count >= limit or size >= MAX_BYTES or (not count % 32 and time.monotonic() > deadline):
                        return self._copier.batch, count
                if not self._move_on(segment):
                    self.caught_up_at = time.monotonic()
                    break
        except OSError as error:
            self.close()
            self._block(f"{segment_name(self.worker, self.journal.segment)} cannot be read: {error.strerror or error}")
        return self._copier.batch, count

    def exchanges(self, batch: Batch) -> list[ExchangeRow]:
        """All exchanges of the journal that a batch has to do with: those under way, and those it ended."""
        return [*self._copier.open, *batch.exchanges.values()]

    def remove_finished(self) -> None:
        """Delete the segments that are stored; only after a durable commit of the position behind them."""
        for number in self.finished:
            (self._folder / segment_name(self.worker, number)).unlink(missing_ok=True)
        self.finished.clear()
        if self.journal.ended:
            for draft in self._folder.glob(f"{self.worker}-*.new"):
                draft.unlink(missing_ok=True)  # a segment that its worker did not live to use

    def _open_segment(self) -> Segment | None:
        if self._segment is not None:
            return self._segment
        path = self._folder / segment_name(self.worker, self.journal.segment)
        try:
            segment = Segment(path)
        except FileNotFoundError:
            later = [number for number in journals(self._folder).get(self.worker, []) if number > self.journal.segment]
            if later:
                self._lost(f"segment {path.name} is missing; going on with {later[0]}")
                self.journal.segment, self.journal.offset = later[0], 0
                return self._open_segment()
            self._end()
            return None
        except UnknownVersion as error:
            self._block(f"{path.name}: {error}; it stays where it is until a newer wiretape stores it")
            return None
        self.blocked = None
        if segment.preamble is not None:
            self.journal.node = segment.preamble.node
            if self.journal.id is None and self.journal.offset == 0:
                self.journal.started_us = segment.preamble.started_us
        self._segment = segment
        return segment

    def _copy(self, segment: Segment, item: Record | Damage, *, skip: bool) -> None:
        if isinstance(item, Damage):
            self._damaged(segment, item)
            if item.exchange is not None:
                self._copier.lose(item.exchange, item.seq)
        elif skip:
            why = f"the record at {segment.path.name} offset {item.offset} could not be stored"
            self._lost(why)
            self._copier.pass_over(item, why)
        elif not self._copier.take(item):
            self._lost(f"{segment.path.name} offset {item.offset}: a record ({item.kind.decode()}) is not understood")

    def _move_on(self, segment: Segment) -> bool:
        """At the end of what can be read: whether there is, or may be, more to read at once."""
        written = segment.is_written()
        later = [number for number in journals(self._folder).get(self.worker, []) if number > self.journal.segment]
        if written and not later:
            return False
        # Nobody writes here any more: what was written before we asked must still be read.
        if next(segment.read(self.journal.offset), None) is not None:
            return True
        torn = segment.tail(self.journal.offset)
        if torn is not None:
            self._damaged(segment, torn)
        self.finished.append(self.journal.segment)
        self.close()
        if later:
            self.journal.segment, self.journal.offset = later[0], 0
            return True
        self._end()
        return False

    def _end(self) -> None:
        self._copier.die()
        self.journal.ended = True

    def _block(self, why: str) -> None:
        if why != self.blocked:
            _log.error("journal: %s", safe(why))
        self.blocked = why

    def _damaged(self, segment: Segment, damage: Damage) -> None:
        size = damage.end - damage.offset
        self._lost(f"{segment.path.name} offset {damage.offset}: {damage.reason} ({size} bytes)")

    def _lost(self, what: str) -> None:
        self.damage += 1
        self.journal.lost_records += 1
        _log.warning("journal: %s", safe(what))

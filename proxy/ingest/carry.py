"""Stores journals batch by batch: rows and the position behind them in one transaction.

A batch that the database refuses is cut down until the culprit stands alone; the culprit is left out and named. What
the previous ingest died at is stored record by record, and one record that it fails at twice is left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from proxy.ingest.attempt import DEATHS, FAULTS, Attempts, Place
from proxy.ingest.copy import Batch
from proxy.ingest.seat import Claims
from proxy.ingest.tail import MAX_RECORDS, Tail
from proxy.journal.reader import journals
from proxy.journal.writer import segment_name
from proxy.log import safe
from proxy.store.errors import DatabaseAway, ValueRefused
from proxy.store.partitions import Room
from proxy.store.rows import ExchangeRow, JournalRow
from proxy.store.write import Writer

_log = logging.getLogger("ingest")

AIM = 0.1  # seconds that a transaction should take: nobody else can write meanwhile
FIRST_RECORDS = 500  # of a batch, while nothing is known of what they cost: a head may cost 50 times what a chunk does
LEAST_RECORDS = 50  # however slow the disk is


@dataclass(slots=True)
class _Pace:
    """How carefully a journal is stored: at most `limit` records at once, the next `singles` one by one, the very next
    not at all if `skip`. `deaths` and `faults` are those of the very next, as a Place counts them."""

    limit: int = FIRST_RECORDS
    singles: int = 0
    deaths: int = 0
    faults: int = 0
    skip: bool = False
    stuck: bool = False  # the database refuses this journal for no reason that lies in a record


class Carrier:
    """All journals of a folder on their way into one database. Everything it knows can be read again from there.

    `committed` has the rows of all journals as they stand in the database. Methods raise DatabaseAway; then make a new
    Carrier. `own` are the journals that it has, or had, to store: what belongs to them nobody else writes meanwhile.
    """

    def __init__(
        self,
        folder: Path,
        writer: Writer,
        attempts: Attempts,
        claims: Claims | None = None,
        clock: Callable[[], float] = time.monotonic,
        room: Room | None = None,
    ) -> None:
        self.damage = 0
        self.own: set[UUID] = set()
        self.others: set[UUID] = set()  # whose journals another ingest stores
        self.tails: dict[UUID, Tail] = {}
        self._folder = folder
        self._writer = writer
        self._attempts = attempts
        self._clock = clock
        self._room = room
        self._claims = claims or Claims(folder.parent, alone=True)
        self._paces: dict[UUID, _Pace] = {}
        self._leftovers: list[Path] = []  # segments that an earlier ingest stored and did not come to remove
        self.committed: dict[UUID, JournalRow] = {}
        self._stands: dict[UUID, tuple[int, int]] = {}  # where the database says that journals are stored to
        with writer.transaction():
            for row in writer.journals():
                self._know(row)
        if claims is None:
            self.own.update(self.committed)

    def close(self) -> None:
        for tail in self.tails.values():
            tail.close()
        self.tails.clear()
        self._claims.close()

    @property
    def stuck(self) -> set[UUID]:
        """The workers whose journals cannot be stored, however long one waits."""
        refused = {worker for worker, pace in self._paces.items() if pace.stuck}
        return refused | {worker for worker, tail in self.tails.items() if tail.blocked is not None}

    def pass_once(self) -> tuple[bool, list[UUID]]:
        """Store what there is, a batch of each journal at most; whether more waits, and the workers that are done."""
        self._discover()
        busy = False
        for worker in list(self.tails):
            busy = self._store(worker) or busy
        return busy, self._remove_stored()

    def _discover(self) -> None:
        found = journals(self._folder)
        self.others &= found.keys()
        for worker, segments in found.items():
            if worker in self.tails:
                continue
            if not self._claim(worker):
                continue
            row = self.committed.get(worker)
            if row is None or not self._is_done(row, segments):
                self._follow(worker, segments[0])

    def _claim(self, worker: UUID) -> bool:
        """Whether a journal is ours to store; then what is known of it is what the database says now."""
        if not self._claims.claim(worker):
            self.others.add(worker)
            return False
        if worker in self.others or worker not in self.own:
            self.others.discard(worker)
            self.own.add(worker)
            with self._writer.transaction():
                row = self._writer.journal(worker)
            if row is not None:
                self._know(row)
        return True

    def _know(self, row: JournalRow) -> None:
        self.committed[row.worker] = replace(row)
        self._stands[row.worker] = (row.segment, row.offset)

    def _is_done(self, row: JournalRow, segments: list[int]) -> bool:
        """Whether nothing of a journal is left to store. Notes what a death left between a commit and the removal."""
        first = row.segment + row.ended
        stored = (number for number in segments if number < first)
        self._leftovers += [self._folder / segment_name(row.worker, number) for number in stored]
        later = [number for number in segments if number >= first]
        if later and row.ended:
            # A living worker's, whose file somebody removed.
            row.ended, row.segment, row.offset = False, later[0], 0
        return row.ended

    def _follow(self, worker: UUID, first: int) -> Tail:
        """Take a journal up from what is committed."""
        row = self.committed.get(worker)
        still_open: list[ExchangeRow] = []
        if row is not None and row.id is not None:
            with self._writer.transaction():
                still_open.extend(self._writer.open_exchanges(row.id))
                for exchange in still_open:
                    self._count(exchange)
        tail = Tail(self._folder, worker, None if row is None else replace(row), still_open, first)
        self.tails[worker] = tail
        return tail

    def _count(self, exchange: ExchangeRow) -> None:
        """An open exchange's counts are in its chunks; its row is written only when it begins and ends."""
        totals = self._writer.chunk_totals(exchange.id)
        exchange.request_chunks, exchange.request_bytes = totals.get(0, (0, 0))
        exchange.response_chunks, exchange.response_bytes = totals.get(1, (0, 0))

    def _store(self, worker: UUID) -> bool:
        """Store one batch of a journal; whether more of it waits."""
        tail = self.tails[worker]
        row = tail.journal
        pace = self._paces.setdefault(worker, _Pace())
        if pace.stuck:
            return False
        self._be_careful(pace, tail)
        before = (row.segment, row.offset, row.ended)
        limit = 1 if pace.singles or pace.skip else pace.limit
        place = Place(worker, row.segment, row.offset, limit, pace.deaths, pace.faults)
        self._attempts.begin(place)
        batch, count = tail.take(limit, skip=pace.skip)
        self._attempts.done()
        if (row.segment, row.offset, row.ended) == before:
            return False
        try:
            seconds = self._commit(tail, batch, place)
        except ValueRefused as error:
            self._attempts.done()
            self._slow_down(pace, tail, count, before[0], str(error))
            return True
        except DatabaseAway:
            self._attempts.done()
            raise
        self._attempts.done()
        pace.skip = False
        pace.deaths = pace.faults = 0
        pace.singles = max(0, pace.singles - count)
        if seconds > AIM:
            pace.limit = min(pace.limit, max(LEAST_RECORDS, int(count * AIM / seconds)))
        elif count >= pace.limit:
            pace.limit = min(MAX_RECORDS, pace.limit * 2)
        self.damage += tail.damage
        tail.damage = 0
        return not row.ended and count > 0

    def _be_careful(self, pace: _Pace, tail: Tail) -> None:
        died = self._attempts.died_at
        if not isinstance(died, Place) or died.worker != tail.worker:
            return
        if (died.segment, died.offset) == (tail.journal.segment, tail.journal.offset):
            if died.limit > 1:
                pace.singles = died.limit
            else:
                # Whoever kills an ingest that stores one by one always hits some record, maybe the same one twice.
                pace.singles, pace.deaths = 1, died.deaths + 1
                pace.faults = died.faults + self._attempts.own_fault
                pace.skip = pace.faults >= FAULTS or pace.deaths >= DEATHS
            _log.warning("the previous ingest died while it stored from offset %d; going on with care", died.offset)
        self._attempts.died_at = None

    def _slow_down(self, pace: _Pace, tail: Tail, count: int, first: int, why: str) -> None:
        _log.warning("the database refused a batch of %d records: %s", count, safe(why))
        if pace.skip:
            # Even without the record: the fault is not in what was recorded, and must not stop the other journals.
            pace.stuck = True
            _log.error("journal: %s waits for the next start: the database refuses it", tail.worker)
        pace.skip = count <= 1
        pace.limit = max(1, count // 2)
        tail.close()
        del self.tails[tail.worker]
        self._follow(tail.worker, first)

    def _commit(self, tail: Tail, batch: Batch, place: Place) -> float:
        """The seconds for which the database was ours."""
        writer, row = self._writer, tail.journal
        if self._room is not None:
            self._room.make_for(batch.exchanges)
        with writer.transaction():
            began = self._clock()
            # Only now that the database is ours: to be killed while waiting for it says nothing of these records.
            self._attempts.begin(place)
            is_new = row.id is None
            writer.move_journal(row, self._stands.get(tail.worker))
            if is_new:
                for exchange in tail.exchanges(batch):
                    exchange.journal = row.id
            writer.put_exchanges(batch.exchanges.values())
            writer.put_heads(batch.heads)
            writer.put_chunks(batch.chunks)
            writer.put_changes(batch.changes)
            writer.put_gaps(batch.gaps)
            for exchange_id, why in batch.notes.items():
                writer.note_interpretation_error(exchange_id, why)
        self._know(row)
        return self._clock() - began

    def _remove_stored(self) -> list[UUID]:
        """Delete segments whose rows are committed, once that commit cannot be lost any more."""
        done = [tail for tail in self.tails.values() if tail.finished or tail.journal.ended]
        if not done and not self._leftovers:
            return []
        with self._writer.transaction(durable=True):
            for tail in done:
                self._writer.put_journal(tail.journal)
        for path in self._leftovers:
            path.unlink(missing_ok=True)
        self._leftovers.clear()
        ended = []
        for tail in done:
            tail.remove_finished()
            if tail.journal.ended:
                tail.close()
                del self.tails[tail.worker]
                self._paces.pop(tail.worker, None)
                self._claims.done(tail.worker)
                ended.append(tail.worker)
        return ended

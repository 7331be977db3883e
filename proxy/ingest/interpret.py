"""The pass that understands: ended exchanges are read back from the store, interpreted, and their meaning is written.

It follows copying and never holds it up: the lens runs outside any write transaction, and whatever fails, or kills
ingest, in one exchange is noted there. Knows store and lens; must not know journals.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import tzinfo
from uuid import UUID

from proxy.ingest.attempt import DEATHS, FAULTS, Attempts, Reading
from proxy.ingest.complete import meaning_row, unread_row
from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Meaning, Recording
from proxy.interpret.price import Cost, Pricing
from proxy.interpret.recorded import recording
from proxy.log import safe
from proxy.store import Engine
from proxy.store.engine import reading
from proxy.store.errors import DatabaseAway, ValueRefused
from proxy.store.names import first_id
from proxy.store.rows import MeaningRow
from proxy.store.unread import Of, Recorded, count_unread, left_unread, recorded, unread
from proxy.store.write import Writer

_log = logging.getLogger("ingest")

READ_SECONDS = 0.1  # that a pass interprets; the last exchange comes on top
WRITE_AIM = 0.1  # seconds that a transaction should take: nobody else can write meanwhile
FIRST, MOST = 64, 256  # exchanges of one transaction
LEFT_US = 10_000_000  # microseconds after which an exchange that nobody has interpreted is anybody's

Lens = Callable[[Recording], Meaning]


class Interpreter:
    """Understands what waits, the oldest first. Methods raise DatabaseAway; then make a
    new one."""

    def __init__(
        self,
        engine: Engine,
        writer: Writer,
        attempts: Attempts,
        zone: tzinfo,
        pricing: Pricing = Pricing(),  # noqa: B008 - it is frozen
        lens: Lens = interpret,
        own: Callable[[], Of] = lambda: None,
    ) -> None:
        self._engine = engine
        self._own = own
        self._writer = writer
        self._attempts = attempts
        self._zone = zone
        self._reader = Reader(pricing, lens)
        self._limit = FIRST
        self._careful: dict[UUID, Reading] = {}  # to be read alone, and what ingest has died of them
        self._hopeless: set[UUID] = set()  # of which the database takes not even that they failed
        self._be_careful()

    def _be_careful(self) -> None:
        died = self._attempts.died_at
        if not isinstance(died, Reading):
            return
        self._attempts.died_at = None
        if len(died.exchanges) == 1:
            deaths, faults = died.deaths + 1, died.faults + self._attempts.own_fault
            self._careful = {each: Reading([each], deaths, faults) for each in died.exchanges}
        else:
            self._careful = {each: Reading([each]) for each in died.exchanges}
        _log.warning(
            "the previous ingest died while it interpreted %d exchanges; going on with care", len(self._careful)
        )

    def pass_once(self, seconds: float = READ_SECONDS) -> bool:
        """Interpret some exchanges and write what they mean in one transaction; whether more wait."""
        try:
            rows, more = self._read(seconds)
            if rows:
                self._write(rows)
        except DatabaseAway:
            self._attempts.done()
            raise
        self._attempts.done()
        return more

    def waiting(self) -> int:
        """How many exchanges wait to be interpreted, but for those that the database does not take; 10,000 are many."""
        with reading(self._engine) as connection:
            return max(0, count_unread(connection, of=self._own()) - len(self._hopeless))

    def pass_over_others(self) -> bool:
        """Interpret what another ingest copied and has not come to for long: it may have ended, and its node be gone.

        Alone, since it may be about to come to it; whether there may be more.
        """
        own = self._own()
        if own is None:
            return False
        before = first_id(time.time_ns() // 1000 - LEFT_US)
        with reading(self._engine) as connection:
            left = left_unread(connection, FIRST, own, before)
            rows = [self._reader.row(exchange) for exchange in recorded(connection, left)]
        if rows:
            _log.info("%d exchanges that another ingest left are interpreted here", len(rows))
            with self._writer.transaction(alone=True):
                self._writer.put_meanings(rows, self._zone)
        return len(rows) == FIRST

    def _read(self, seconds: float) -> tuple[list[MeaningRow], bool]:
        deadline = time.monotonic() + seconds
        rows: list[MeaningRow] = []
        with reading(self._engine) as connection:
            found = unread(connection, self._limit + len(self._hopeless), self._own())
            waiting = self._batch([each for each in found if each not in self._hopeless])
            if not waiting:
                return [], False
            note = self._careful.get(waiting[0]) or Reading(waiting)
            self._attempts.begin(note)
            for exchange in recorded(connection, waiting):
                if note.deaths >= DEATHS or note.faults >= FAULTS:
                    _log.warning("%s is left uninterpreted: ingest died of it again and again", exchange.id)
                    rows.append(unread_row(exchange, "is left out: it ended ingest again and again"))
                else:
                    rows.append(self._reader.row(exchange))
                if time.monotonic() > deadline:
                    break
        return rows, True

    def _batch(self, waiting: list[UUID]) -> list[UUID]:
        """The first of those that wait, or all up to the first that wants care."""
        for place, each in enumerate(waiting):
            if each in self._careful:
                return waiting[: max(place, 1)]
        return waiting

    def _write(self, rows: Sequence[MeaningRow]) -> None:
        try:
            with self._writer.transaction():
                began = time.monotonic()
                self._writer.put_meanings(rows, self._zone)
                taken = time.monotonic() - began
        except ValueRefused as error:
            self._write_singly(rows, error)
            return
        for row in rows:
            self._careful.pop(row.exchange, None)
        if taken > WRITE_AIM:
            self._limit = max(1, int(len(rows) * WRITE_AIM / taken))
        elif len(rows) >= self._limit:
            self._limit = min(MOST, self._limit * 2)

    def _write_singly(self, rows: Sequence[MeaningRow], refused: ValueRefused) -> None:
        """Find the one whose meaning the database refuses, and say so in its place."""
        if len(rows) > 1:
            for row in rows:
                self._write([row])
            return
        (row,) = rows
        _log.warning("the database refused the meaning of %s: %s", row.exchange, safe(str(refused)))
        bare = bare_row(row, f"is refused by the database: {refused}")
        try:
            with self._writer.transaction():
                self._writer.put_meanings([bare], self._zone)
        except ValueRefused:
            _log.error("%s waits for the next start: the database refuses it", row.exchange)
            self._hopeless.add(row.exchange)


class Reader:
    """Makes rows of recorded exchanges; whatever goes wrong in one becomes its `interpretation_error`."""

    def __init__(self, pricing: Pricing, lens: Lens = interpret) -> None:
        self._pricing = pricing
        self._lens = lens

    def row(self, found: Recorded) -> MeaningRow:
        """What an exchange meant."""
        try:
            meaning = self._lens(recording(found))
            return meaning_row(found, meaning, self.price(found, meaning))
        except DatabaseAway:  # while a body was read
            raise
        except Exception as error:  # noqa: BLE001 - the edge of ingest's loop: no recorded byte may stop it
            _log.warning("%s cannot be interpreted: %s: %s", found.id, type(error).__name__, safe(str(error)))
            return unread_row(found, f"failed: {type(error).__name__}: {error}")

    def price(self, found: Recorded, meaning: Meaning) -> Cost:
        """What it cost. Raises what pricing raises."""
        return self._pricing.cost(meaning, found.upstream, found.started_us)


def bare_row(row: MeaningRow, why: str) -> MeaningRow:
    """A row's place taken by the reason why it cannot be written."""
    bare = MeaningRow(row.exchange, row.interpreter, row.outcome, failed=row.failed)
    bare.retrieves, bare.bodiless, bare.usage_state = row.retrieves, row.bodiless, "missing"
    bare.interpretation_error = f"interpretation {why}"
    return bare

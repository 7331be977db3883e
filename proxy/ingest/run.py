"""The role `ingest`: the loop that reads what journals hold, stores it, and removes what is stored.

Rows and the position they reach commit in one transaction, so that whatever dies, no row is there twice and none is
missing. A database that is away stops nothing but this loop; everything waits in the journal.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from pathlib import Path
from types import FrameType
from uuid import UUID

from proxy.errors import UsageError
from proxy.ingest.attempt import Attempts
from proxy.ingest.carry import Carrier
from proxy.ingest.interpret import READ_SECONDS, Interpreter
from proxy.ingest.seat import Claims, Seat, seat
from proxy.ingest.upkeep import Plan, Upkeep
from proxy.interpret.price import Address, Pricing
from proxy.interpret.rates import OwnPrice, OwnPrices
from proxy.journal.reader import journals
from proxy.journal.writer import segment_name
from proxy.log import safe
from proxy.status import StatusFile, forget, read_all
from proxy.store import Engine
from proxy.store.engine import check_version, is_shared, let_go, open_engine, require_same, shares
from proxy.store.errors import DatabaseAway, DatabaseTooNew, DatabaseTooOld
from proxy.store.fulltext import index_some
from proxy.store.partitions import Room
from proxy.store.rows import JournalRow
from proxy.store.write import Writer
from proxy.store.zone import zone_differs, zone_named

_log = logging.getLogger("ingest")

IDLE_WAIT = 0.1  # seconds between looks at the journals; with reading and committing it stays below 200 ms
AWAY_WAIT = 1.0
INDEX_WAIT = 0.5  # seconds between two steps of the full-text index while there is more urgent work
UPKEEP_WAIT = 5.0  # seconds between two steps of upkeep while there is more urgent work
LEFT_LOOK = 5.0  # seconds between two looks for what other ingests left uninterpreted
LOCK_WAIT = 1.0  # seconds for another's lock, in which no status is written and no signal heard


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """Plain values out of the configuration. `fingerprint_id` tells which key the fingerprints are made with.

    `time_zone` is the reporting time zone that was asked for, `search` whether texts get into the full-text index.
    `plan` says what is packed and how long what is kept. `prices` are the user's own, `addresses` tell who answers
    under an upstream's name. `upgrade` brings a database to this version's revision; few starts need it, and what it
    takes is slow to load.
    `create`: a database file that is missing at the start is made, later it is waited for. `lifeline` is a
    descriptor whose end-of-file means: drain and stop. `patient`: while another ingest holds the home, wait until it
    lets go, or until there is nothing more to wait for. `drain_timeout` is in seconds.
    """

    home: Path
    database: str
    fingerprint_id: str
    upgrade: Callable[[Engine], None]
    time_zone: str | None = None
    search: bool = True
    plan: Plan = field(default_factory=Plan)
    prices: Sequence[OwnPrice] = ()
    addresses: Mapping[str, Address] = field(default_factory=dict)
    create: bool = True
    lifeline: int | None = None
    patient: bool = False
    drain_timeout: float = 60.0


def run(options: IngestOptions) -> None:
    """Store until told to stop, then drain. Raises UsageError where only a person can help."""
    lifeline = options.lifeline if options.patient else None
    with seat(options.home, lifeline, shared=shares(options.database)) as taken:
        if taken is None:
            return
        ingest = Ingest(options, taken.attempt)
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, ingest.on_signal)
        ingest.watch()
        try:
            store(ingest, taken)
        finally:
            ingest.close()


def store(ingest: Ingest, taken: Seat) -> None:
    """Run the loop until all is stored, also what comes while the place in the home is let go of."""
    ingest.loop()
    while ingest.drained and _was_left_more(taken, ingest):
        ingest.loop()


def _was_left_more(taken: Seat, ingest: Ingest) -> bool:
    """Let go of the home, and look whether a patient one, which was told to stop while we still held it, has relied on
    us for what it came for: only a look after letting go can tell. Then the home is ours again."""
    ingest.disconnect()
    taken.leave()
    return ingest.has_more() and taken.retake()


class Ingest:
    """The loop. All it knows of journals and rows is the Carrier's, which is made anew when the database was away.

    `drained`: the loop ended, and all that could be stored was.
    """

    def __init__(self, options: IngestOptions, attempt: Path | None = None) -> None:
        self._options = options
        self._folder = options.home / "journal"
        self._status = StatusFile(options.home, "ingest")
        self._attempts = Attempts(attempt or options.home / "ingest.attempt")
        self._close_database: Callable[[], None] = lambda: None
        self._check_database: Callable[[], None] = lambda: None
        self._carrier: Carrier | None = None
        self._understand: Callable[[bool], bool] = lambda _busy: False
        self._zone: str | None = None
        self._indexed = 0.0
        self._unread = 0  # exchanges that wait to be interpreted, as far as is known
        self._counted = 0.0
        self._looked = 0.0
        self._kept_up = 0.0
        self._committed: dict[UUID, JournalRow] = {}
        self._stored: Collection[UUID] = ()  # those of them that this home's ingest stores, or did
        self._problem: str | None = None
        self._create = options.create
        self._stopping = False
        self.drained = False
        self._stuck: frozenset[UUID] = frozenset()  # journals that could not be read on when the loop ended
        self._damage = 0
        self._told = 0.0
        self._current = time.monotonic()  # when nothing waited
        self._tried = 0.0
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def watch(self) -> None:
        """Let a crash be known to the next ingest. For a process that does nothing else."""
        self._attempts.watch()

    def on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._stopping = True
        with suppress(OSError):  # full, or closed already at the very end
            os.write(self._wake_out, b"!")

    def loop(self) -> None:
        give_up_at: float | None = None
        while True:
            busy = self._pass()
            self._tell()
            if self._stopping:
                give_up_at = give_up_at or time.monotonic() + self._options.drain_timeout
                if self._carrier is None or time.monotonic() > give_up_at:
                    break
                if not busy and not self.lag(besides=self._carrier.stuck):
                    self.drained, self._stuck = True, frozenset(self._carrier.stuck)
                    break
            self._wait(0.0 if busy else IDLE_WAIT)
        self._tell(now=True)
        left = self.lag()
        if left:
            _log.warning("%d bytes stay in the journal and will be stored at the next start", left)
        if self._unread:
            _log.warning("%d stored exchanges wait to be interpreted at the next start", self._unread)

    def has_more(self) -> bool:
        """Whether, after the loop, something waits that it would have stored."""
        return bool(self.lag(besides=self._stuck))

    def close(self) -> None:
        self.disconnect()
        self._attempts.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _pass(self) -> bool:
        """Store what is there; whether there may be more at once."""
        try:
            carrier = self._carrier or self._connect()
            if carrier is None:
                return False
            self._check_database()
            busy, _ = carrier.pass_once()
            busy = self._understand(busy) or busy
        except (DatabaseAway, DatabaseTooNew, DatabaseTooOld) as error:
            # Somebody may yet put the right program, or database, in place.
            self._note_problem(str(error))
            self.disconnect()
            self._tried = time.monotonic()
            return False
        return busy

    # The database

    def _connect(self) -> Carrier | None:
        """Raises DatabaseAway and DatabaseTooNew; None while the next try is not due."""
        if self._problem is not None and time.monotonic() - self._tried < AWAY_WAIT and not self._stopping:
            return None
        engine = open_engine(self._options.database, create=self._create, busy_timeout=LOCK_WAIT)
        self._close_database = partial(let_go, engine)
        # From here on a missing file is one that somebody moved away, and making a new one would hide that.
        self._create = False
        try:
            check_version(engine)
        except DatabaseTooOld:
            self._options.upgrade(engine)

        def check() -> None:
            """Again and again: the file may be moved while nothing is to be stored, and a newer program upgrade it."""
            require_same(engine)
            check_version(engine)

        self._check_database = check
        writer = Writer(engine, beside=True)
        claim_fingerprints(writer, self._options.fingerprint_id)
        pricing = Pricing(OwnPrices(tuple(self._options.prices)), self._options.addresses)
        shared = is_shared(engine)
        own = self._own_journals if shared else lambda: None
        interpreter = Interpreter(engine, writer, self._attempts, self._claim_zone(writer), pricing, own=own)
        room = Room(engine, self._options.plan.retention.units())
        upkeep = Upkeep(engine, room, self._options.plan)
        self._understand = partial(self._follow, interpreter, engine, upkeep)
        claims = Claims(self._options.home) if shared else None
        self._carrier = Carrier(self._folder, writer, self._attempts, claims, room=room)
        # Both go on growing, also in a pass that fails later.
        self._committed, self._stored = self._carrier.committed, self._carrier.own
        if self._problem is not None:
            _log.info("the database is back")
        self._problem = None
        return self._carrier

    def _own_journals(self) -> list[int]:
        """The ids of the journals whose exchanges nobody else interprets."""
        carrier = self._carrier
        if carrier is None:
            return []
        return [row.id for worker, row in carrier.committed.items() if worker in carrier.own and row.id is not None]

    def _claim_zone(self, writer: Writer) -> tzinfo:
        """The database's reporting time zone. Raises UsageError if it is not known here."""
        with writer.transaction():
            zone = writer.claim_zone(self._options.time_zone)
        if zone != self._zone:
            self._zone = zone
            differs = zone_differs(self._options.time_zone, zone)
            if differs is not None:
                _log.warning("%s", safe(differs))
        return zone_named(zone)

    def _follow(self, interpreter: Interpreter, engine: Engine, upkeep: Upkeep, busy: bool) -> bool:
        """What follows copying, and takes less time while there is much to copy; whether there may be more at once."""
        more = interpreter.pass_once(READ_SECONDS / 2 if busy else READ_SECONDS)
        if not more or time.monotonic() - self._counted > 1.0:
            self._unread = interpreter.waiting() if more else 0
            self._counted = time.monotonic()
        waited = time.monotonic() - self._indexed
        if not (busy or more) and time.monotonic() - self._looked > LEFT_LOOK:
            more = interpreter.pass_over_others()
            self._looked = time.monotonic()
        if self._options.search and (waited > INDEX_WAIT or not (busy or more)):
            more = index_some(engine) or more
            self._indexed = time.monotonic()
        if not self._stopping and (not (busy or more) or time.monotonic() - self._kept_up > UPKEEP_WAIT):
            more = upkeep.step() or more
            self._kept_up = time.monotonic()
        return more

    def disconnect(self) -> None:
        """Let go of the database; the next pass comes back to it."""
        if self._carrier is not None:
            self._damage += self._carrier.damage
            self._carrier.close()
            self._carrier = None
        self._close_database()
        self._close_database = lambda: None
        self._check_database = lambda: None
        self._understand = lambda _busy: False

    def _note_problem(self, why: str) -> None:
        if why != self._problem:
            _log.warning("%s; everything waits in the journal", safe(why))
        self._problem = why

    # What others may know

    def _over(self, ended: list[JournalRow]) -> list[str]:
        """The workers of complete journals that still have a status file; those of the dead are removed."""
        complete = {str(row.worker) for row in ended}
        over = []
        for status in read_all(self._options.home):
            worker = status.facts.get("worker")
            if status.role == "forward" and worker in complete:
                if status.alive:
                    over.append(worker)
                else:
                    forget(self._options.home, status)
        return over

    def lag(self, besides: Collection[UUID] = ()) -> int:
        """Bytes that wait in journals, but for those of the workers `besides`; whether the database is there or not."""
        total = 0
        others = () if self._carrier is None else self._carrier.others
        for worker, segments in journals(self._folder).items():
            if worker in besides or worker in others:
                continue
            row = self._committed.get(worker)
            for number in segments:
                try:
                    size = (self._folder / segment_name(worker, number)).stat().st_size
                except FileNotFoundError:
                    continue
                if row is not None and (row.ended or number <= row.segment):
                    size = max(0, size - row.offset) if number == row.segment and not row.ended else 0
                total += size
        return total

    def _tell(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._told < 1.0:
            return
        self._told = time.monotonic()
        lag = self.lag()
        if not lag:
            self._current = self._told
        known = [row for worker, row in self._committed.items() if worker in self._stored]
        ended = [row for row in known if row.ended]
        running = [row for row in known if not row.ended]
        self._status.write(
            {
                "database": self._problem or "ok",
                "ended": {
                    "stored": sum(row.stored for row in ended),
                    "highest": sum(row.highest_ordinal for row in ended),
                },
                "journals": {
                    str(row.worker): {"stored": row.stored, "highest": row.highest_ordinal} for row in running
                },
                "over": self._over([row for row in self._committed.values() if row.ended]),
                "lag_bytes": lag,
                "lag_seconds": round(self._behind(), 3) if lag else 0.0,
                "unread": self._unread,
                "damage": self._damage + (self._carrier.damage if self._carrier is not None else 0),
                "stopping": self._stopping,
            }
        )

    def _behind(self) -> float:
        """Seconds since all that was written was stored."""
        if self._carrier is not None:
            times = [tail.caught_up_at for tail in self._carrier.tails.values()]
            self._current = max(self._current, min((each or 0.0 for each in times), default=0.0))
        return time.monotonic() - self._current

    def _wait(self, seconds: float) -> None:
        watched = [self._wake_in]
        if self._options.lifeline is not None and not self._stopping:
            watched.append(self._options.lifeline)
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._wake_in in ready:
            os.read(self._wake_in, 4096)
        if self._options.lifeline in ready and not os.read(self._options.lifeline, 4096):
            self._stopping = True


def claim_fingerprints(writer: Writer, key_id: str) -> None:
    """Make the database one of this fingerprint key. Raises UsageError if it is another's: credentials would no longer
    be told apart by their fingerprints."""
    with writer.transaction():
        known = writer.meta("fingerprint_key_id")
        if known is None:
            writer.set_meta("fingerprint_key_id", key_id)
    if known not in (None, key_id):
        raise UsageError(
            "the database holds fingerprints of another key;"
            " set WIRETAPE_FINGERPRINT_KEY to the key of that database's other nodes, or name another database"
        )

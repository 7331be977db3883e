"""Ingest is killed while it stores a backlog, often in the midst of a transaction: nothing twice, nothing missing.

The backlog is known record by record, so that the database can be compared with what the journals held.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Protocol
from uuid import UUID

import psycopg

from proxy import log
from proxy.exchange import WireEnd
from proxy.ingest.run import IngestOptions, run
from proxy.journal import record
from proxy.journal.writer import JournalWriter
from proxy.store.migrate import upgrade
from proxy.store.postgres import LOCK
from tests.chaos.ledger import RESPONSE, Ledger
from tests.chaos.metered import check_sums
from tests.chaos.sites import PostgresSite
from tests.support import journals
from tests.support.databases import Site, SqliteDatabase
from tests.support.forked import forkserver
from tests.support.rawhttp import until
from tests.support.running import wait_for

EXCHANGES = 160  # of a journal
CHUNKS = 12  # of an exchange
SEGMENT = 128 * 1024  # small, so that segments are removed all the time
WAITING = 12  # segments, before a life begins
PATIENCE = 120.0


@dataclass(slots=True)
class Figures:
    """`inside` were killed while, seen from outside, the database's write lock was held; all of them stood still then.

    `storing` were killed after they had stored something.
    """

    kills: int = 0
    inside: int = 0
    storing: int = 0
    records: int = 0


def store(home: Path, database: str) -> None:
    """What `wiretape ingest` comes to, in a process that has its modules already."""
    with (home / "ingest.err").open("ab") as err:
        os.dup2(err.fileno(), 2)
    log.set_up("ingest")
    os.setpgid(0, 0)
    run(IngestOptions(home, database, "key", upgrade))


class Backlog:
    """Journals of dead workers, more on demand; `kept` has a second link to each segment. They are stored into `site`,
    by default a file of the home."""

    def __init__(self, home: Path, site: Site | None = None) -> None:
        self.home = home
        self.site = site or SqliteDatabase(home / "wiretape.db")
        self.folder = home / "journal"
        self.kept = home / "kept"
        self.kept.mkdir(parents=True)
        self._workers = 0

    def add(self) -> None:
        """A journal with several exchanges under way at any time, and some that its worker left open."""
        self._workers += 1
        first = self._workers * 1_000_000
        writer = JournalWriter(
            self.folder,
            node="node",
            worker=journals.worker(self._workers),
            segment_bytes=SEGMENT,
            fsync_every=None,
        )
        for begin in range(0, EXCHANGES, 8):
            side_by_side = [self._tape(first + number, number + 1) for number in range(begin, begin + 8)]
            journals.append(writer, journals.merged(*side_by_side))
        writer.close()
        for path in self.folder.glob(f"{writer.worker}-*"):
            os.link(path, self.kept / path.name)

    def _tape(self, number: int, ordinal: int) -> list[journals.Entry]:
        noise = random.Random(number)
        return journals.exchange(
            number,
            ordinal=ordinal,
            chunks=[noise.randbytes(noise.randint(1, 300)) for _ in range(CHUNKS)],
            wire_end=None if number % 16 == 7 else WireEnd.UPSTREAM_END,
        )

    @property
    def waiting(self) -> int:
        """Segments that are not removed yet."""
        return sum(1 for _ in self.folder.glob("*.journal"))

    def records(self) -> Iterator[record.Record]:
        """All that the journals held."""
        for path in sorted(self.kept.iterdir()):
            for item in journals.read_file(path):
                assert isinstance(item, record.Record)
                yield item


class Doctor(Protocol):
    """Asks the database from outside."""

    def close(self) -> None: ...

    def is_written(self) -> bool:
        """Whether somebody is in the midst of writing."""
        ...

    def position(self) -> list[tuple[object, ...]]:
        """How far every journal is stored; nothing while there are no tables."""
        ...


_POSITION = 'SELECT worker, segment, "offset", ended FROM journals'


class SqliteDoctor:
    """To be closed before a kill: the last to close a database tidies it up."""

    def __init__(self, home: Path) -> None:
        self._path = home / "wiretape.db"
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def is_written(self) -> bool:
        """Whether somebody holds the write lock."""
        try:
            self._ask("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        self._ask("ROLLBACK")
        return False

    def position(self) -> list[tuple[object, ...]]:
        """How far every journal is stored; nothing while there are no tables."""
        try:
            return self._ask(_POSITION)
        except sqlite3.OperationalError:
            return []

    def _ask(self, sql: str) -> list[tuple[object, ...]]:
        if self._connection is None:
            self._connection = sqlite3.connect(f"file:{self._path}?mode=rw", uri=True, timeout=0, isolation_level=None)
        return self._connection.execute(sql).fetchall()


class PostgresDoctor:
    """Sees the lock that a transaction which writes recorded rows holds to its end."""

    def __init__(self, site: PostgresSite) -> None:
        self._connection = psycopg.connect(site.server.conninfo(site.name), autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def is_written(self) -> bool:
        sql = """SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s AND objsubid = 1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        return bool(self._connection.execute(sql, (LOCK,)).fetchall())

    def position(self) -> list[tuple[object, ...]]:
        try:
            return sorted(self._connection.execute(_POSITION).fetchall())
        except psycopg.errors.UndefinedTable:
            return []


def doctor_of(backlog: Backlog) -> Doctor:
    site = backlog.site
    return PostgresDoctor(site) if isinstance(site, PostgresSite) else SqliteDoctor(backlog.home)


def campaign(home: Path, *, kills: int, inside: int, seed: int = 1, site: Site | None = None) -> Figures:
    """Kill ingest `kills` times and until `inside` of them were in a transaction; then let it finish, and judge."""
    figures = Figures()
    chance = random.Random(seed)
    backlog = Backlog(home, site)
    context = forkserver(__name__)
    while figures.kills < kills or figures.inside < inside:
        while backlog.waiting < WAITING:
            backlog.add()
        _one_life(context, backlog, chance, figures)
    finish(context, backlog)
    figures.records = judge(backlog)
    return figures


def stubborn_campaign(home: Path, *, kills: int, site: Site | None = None) -> Figures:
    """Kill ingest in its first batch each time, so that it is always at the same records that it dies; then judge."""
    figures = Figures()
    backlog = Backlog(home, site)
    backlog.add()
    context = forkserver(__name__)
    finish(context, backlog)  # a first one, so that there is a database
    _add_some(backlog)
    faster = 0
    while figures.kills < kills:
        if _one_stubborn_life(context, backlog):
            figures.kills += 1
        else:  # it had stored all before it was caught: the row of deaths begins anew
            faster, figures.kills = faster + 1, 0
            assert faster < 5, "ingest stores faster than anybody could kill it"
            _add_some(backlog)
    figures.inside = figures.kills
    finish(context, backlog)
    figures.records = judge(backlog)
    return figures


def _add_some(backlog: Backlog) -> None:
    """As much as takes ingest a moment, in which it can be caught."""
    for _ in range(3):
        backlog.add()


def _one_stubborn_life(context: ForkServerContext, backlog: Backlog) -> bool:
    """Die in the transaction of the first batch: what ingest notes of it tells that it has come so far. False: it was
    faster than that, and nothing is left to store."""
    attempt = backlog.home / "ingest.attempt"
    before = attempt.stat().st_mtime_ns
    with ingesting(context, backlog) as process, closing(doctor_of(backlog)) as doctor:
        pid = process.pid or 0
        until(lambda: attempt.stat().st_mtime_ns != before, "a batch", PATIENCE)
        inside = _catch(pid, doctor, backlog)
        doctor.close()
        os.kill(pid, signal.SIGKILL)
        process.join()
        return inside


def finish(context: ForkServerContext, backlog: Backlog) -> None:
    """Let an ingest store all that waits, and stop it as one does."""
    with ingesting(context, backlog) as process:
        wait_for(lambda: not backlog.waiting, "the backlog to be stored", PATIENCE)
        os.kill(process.pid or 0, signal.SIGTERM)
        process.join(PATIENCE)
        assert process.exitcode == 0


@contextmanager
def ingesting(context: ForkServerContext, backlog: Backlog) -> Iterator[ForkServerProcess]:
    process = context.Process(target=store, args=(backlog.home, backlog.site.url))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


def _one_life(context: ForkServerContext, backlog: Backlog, chance: random.Random, figures: Figures) -> None:
    """Begin to store, and die: at any moment, or, half of the times, when a transaction is open."""
    with ingesting(context, backlog) as process, closing(doctor_of(backlog)) as doctor:
        pid = process.pid or 0
        before = doctor.position()
        if chance.random() < 0.6:
            until(lambda: doctor.position() != before or not backlog.waiting, "progress", PATIENCE)
        if chance.random() < 0.5:
            process.join(chance.uniform(0.0, 0.2))  # any moment will do
            inside = _halt(pid, doctor)
        else:
            inside = _catch(pid, doctor, backlog)
        assert process.exitcode is None, "ingest ended by itself"
        figures.storing += doctor.position() != before
        doctor.close()
        os.kill(pid, signal.SIGKILL)
        process.join()
        figures.kills += 1
        figures.inside += inside


def _halt(pid: int, doctor: Doctor) -> bool:
    """Let it stand still; whether it does so in a transaction."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it to stand still")
    return doctor.is_written()


def _catch(pid: int, doctor: Doctor, backlog: Backlog) -> bool:
    """Let it stand still in a transaction; False where it was faster and nothing is left to store."""
    inside = False

    def caught() -> bool:
        nonlocal inside
        inside = doctor.is_written() and _halt(pid, doctor)
        if not inside:
            os.kill(pid, signal.SIGCONT)
        return inside or not backlog.waiting

    until(caught, "a transaction", PATIENCE)
    return inside


def judge(backlog: Backlog) -> int:
    """The database holds what the journals held, each record once; how many that are."""
    ledger = Ledger(backlog.home, backlog.site)
    ledger.check()
    assert ledger.query("SELECT worker FROM journals WHERE NOT ended OR lost_records > 0") == []
    chunks = {
        (exchange, seq): (side, at_us, data)
        for exchange, side, seq, at_us, data in ledger.query("SELECT exchange_id, side, seq, at_us, data FROM chunks")
    }
    heads = records = 0
    for item in backlog.records():
        records += 1
        heads += item.kind == record.REQUEST_HEAD
        if item.kind in (record.REQUEST_CHUNK, record.RESPONSE_CHUNK):
            side = RESPONSE if item.kind == record.RESPONSE_CHUNK else 0
            found = chunks.pop((UUID(item.exchange.decode()).bytes, item.seq))
            assert found == (side, item.at_us, item.payload)
    assert not chunks
    assert heads == ledger.count()
    check_sums(ledger)
    return records

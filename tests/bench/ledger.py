"""A ledger of millions of exchanges, and how long what is asked of it takes.

`python -m tests.bench.ledger --engine sqlite|postgres`: fills a database with rows as ingest would have left them,
then asks (questions.py). Rows are written whole, by COPY or executemany; the rollups are summed in SQL, lot by lot.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from proxy.errors import WiretapeError
from proxy.exchange import Side
from proxy.store import clean
from proxy.store.billing import response_key
from proxy.store.engine import execute, hashes_responses, insert_columns, insert_many, is_shared, open_engine, writing
from proxy.store.intern import content_hash
from proxy.store.migrate import upgrade
from proxy.store.partitions import Unit, partition_of
from proxy.store.rollups import MODEL, spent_sql, sums_sql
from proxy.store.rows import ChunkRow, HeadRow, JournalRow
from proxy.store.schema import NameKind, exchanges, names, response_ids
from proxy.store.schema_meaning import SPENT, billed, meanings, spend_hours, spend_keys, spend_tags, texts, usage_raw
from proxy.store.schema_postgres import PARTITIONED
from proxy.store.write import Writer
from tests.bench.ledger_rows import ENVIRONMENTS, NODES, PROJECTS, VARIETY, Rows, Words
from tests.bench.questions import ask, bytes_each, table
from tests.support.postgres import Server, programs

DAYS = 400
DAY_US = 86_400_000_000
ROWS = 10_000_000

_LOT = 25_000  # rows of one transaction, which holds whole days
_SORTED = 500_000  # keys in no order that are written at once, sorted: a tenth of the time
_SESSIONS = 4096  # names made at once
_SAMPLED = 1000  # one in so many has bodies

_HEADERS = [("content-type", "application/json"), ("user-agent", "agent/1.0"), ("accept", "*/*")]
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" a few more words"}}]}\n\n'


class Filler:
    """Fills a database at this version's revision that has no rows; `until_us` is when the newest exchange began."""

    def __init__(self, engine: Engine, until_us: int, variety: int = VARIETY) -> None:
        self._engine = engine
        self._until_us = until_us
        self._since_us = until_us - DAYS * DAY_US
        self._writer = Writer(engine)
        self._sessions: list[int] = []
        self._named = 0
        self._billed: list[tuple[bytes, int, bytes, bool]] = []
        self._hashes: list[tuple[int, bytes]] = []
        with self._writer.transaction():
            self._writer.claim_zone("UTC")
            self._journals = [JournalRow(UUID(int=at), node, self._since_us) for at, node in enumerate(NODES)]
            words = Words(
                self._writer.name_id,
                lambda tags: self._writer.tag_set_id(tags)[0],
                lambda data: self._writer._intern.price(self._writer._connection, data),
                [self._writer.put_journal(each) for each in self._journals],
            )
            for tag in ("env", "project", *ENVIRONMENTS, *PROJECTS):
                self._writer.name_id(NameKind.TAG, tag)
            self._rows = Rows(words, self._session, variety)
        at = self._rows.columns.index
        self._response, self._upstream, self._usage = at("response_id"), at("upstream"), at("input_tokens")
        self._journal, self._in_session = at("journal"), at("session")

    def fill(self, number: int) -> None:
        """Write so many exchanges, and what belongs to them."""
        if is_shared(self._engine):
            self._make_partitions()
        else:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA cache_size = -400000")  # of the one connection that fills
        days = max(_LOT * DAYS // number, 1)
        rows = self._rows(number, self._until_us, DAYS * DAY_US)
        lots = groupby(rows, lambda row: row[2] // DAY_US // days)
        more = True
        while more:
            with self._writer.transaction():  # sessions are named while rows are drawn
                _, lot = next(lots, (0, iter(())))
                drawn = list(lot)
                more = bool(drawn)
                self._write(drawn, last=not more)
        if is_shared(self._engine):
            with writing(self._engine) as connection:
                connection.exec_driver_sql("ANALYZE")

    def _make_partitions(self) -> None:
        """One of each month, for each table that has them; whatever the clock says."""
        at, until = (datetime.fromtimestamp(each / 1e6, UTC) for each in (self._since_us, self._until_us))
        with writing(self._engine) as connection:
            while at <= until:
                for name in PARTITIONED:
                    part = partition_of(name, at, Unit.MONTH)
                    limits = f"FROM ('{part.low}') TO ('{part.high}')"
                    execute(connection, f"CREATE TABLE {part.name} PARTITION OF {name} FOR VALUES {limits}")
                at = Unit.MONTH.next(Unit.MONTH.start(at))

    # Inside the writer's transaction

    def _session(self) -> int:
        """The id of a new session's name."""
        if not self._sessions:
            connection = self._writer._connection
            numbers = range(self._named, self._named + _SESSIONS)
            self._named += _SESSIONS
            made = [(int(NameKind.SESSION), f"session-{each:07}") for each in numbers]
            insert_columns(connection, names, ("kind", "value"), made)
            sql = "SELECT id FROM names WHERE kind = ? AND value >= ? ORDER BY value DESC"
            self._sessions = [row[0] for row in execute(connection, sql, made[0]).fetchall()]
        return self._sessions.pop()

    def _write(self, rows: list[tuple[Any, ...]], *, last: bool) -> None:
        connection = self._writer._connection
        insert_columns(connection, exchanges, self._rows.columns, rows)
        for row in rows:
            response = row[self._response]
            if response is not None:
                self._hashes.append((clean.short_hash(response), row[0]))
                if row[self._usage] is not None:
                    key = response_key(response, row[self._upstream])
                    assert key is not None
                    self._billed.append((*key, row[0], False))
        if last or len(self._hashes) >= _SORTED:
            insert_many(connection, billed, sorted(self._billed))
            if hashes_responses(connection):
                insert_many(connection, response_ids, sorted(self._hashes))
            self._billed, self._hashes = [], []
        if rows:
            _sum_up(connection, rows[0][0], rows[-1][0])
            self._put_bodies([row for row in rows if row[1] % _SAMPLED == 0])
            self._move_on(rows)

    def _move_on(self, rows: list[tuple[Any, ...]]) -> None:
        """Journals are stored as far as the rows go."""
        for journal in self._journals:
            of_it = [row[1] for row in rows if row[self._journal] == journal.id]
            journal.stored += len(of_it)
            journal.highest_ordinal = journal.stored
            self._writer.put_journal(journal)

    def _put_bodies(self, rows: list[tuple[Any, ...]]) -> None:
        connection = self._writer._connection
        role = self._writer.name_id(NameKind.ROLE, "assistant")
        answer = "a few more words " * 20
        for row in rows:
            exchange = UUID(bytes=row[0])
            self._writer.put_heads(
                [
                    HeadRow(exchange, int(Side.REQUEST), 0, 0, None, None, _HEADERS),
                    HeadRow(
                        exchange, int(Side.RESPONSE), 2, 250_000, 200, "OK", [("content-type", "text/event-stream")]
                    ),
                ]
            )
            self._writer.put_chunks([ChunkRow(exchange, int(Side.REQUEST), 1, 100, b'{"stream":true}' + b" " * 3000)])
            self._writer.put_chunks(
                ChunkRow(exchange, int(Side.RESPONSE), 3 + at, 250_000 + at * 9000, _EVENT) for at in range(40)
            )
            insert_many(connection, meanings, [(row[0], '{"events":41,"complete":true}')])
            insert_many(connection, usage_raw, [(row[0], '{"prompt_tokens":9,"completion_tokens":2}')])
            session = row[self._in_session]
            hashed = None if session is None else content_hash(answer)
            columns = ("exchange_id", "seq", "role", "session", "hash", "data")
            insert_columns(connection, texts, columns, [(row[0], -1, role, session, hashed, answer)])


_HOURS = """SELECT started_us / 3600000000, upstream, {model}, cost_status, node, {sums} FROM exchanges
    WHERE id >= ? AND id <= ? AND counted GROUP BY 1, 2, 3, 4, 5"""
_KEYS = """SELECT started_us / 86400000000, {model}, credential, coalesce(virtual_key, 0), node, {sums} FROM exchanges
    WHERE id >= ? AND id <= ? AND counted GROUP BY 1, 2, 3, 4, 5"""
_TAGS = """SELECT lot.day, n.id, v.id, lot.model, lot.writer, {again} FROM (
    SELECT started_us / 86400000000 AS day, tag_set, {model} AS model, node AS writer, {named} FROM exchanges
    WHERE id >= ? AND id <= ? AND counted AND tag_set IS NOT NULL GROUP BY 1, 2, 3, 4) lot
    JOIN tag_set_items i ON i.set_id = lot.tag_set JOIN names n ON n.kind = {kind} AND n.value = i.name
    JOIN names v ON v.kind = {kind} AND v.value = i.value GROUP BY 1, 2, 3, 4, 5"""


def _sum_up(connection: Connection, first: bytes, last: bytes) -> None:
    """Put the exchanges from one id to another, which fill whole days, into the rollups."""
    amounts = spent_sql(connection)
    assert tuple(amounts) == SPENT
    sums = [sums_sql([each]) for each in amounts.values()]
    parts = {
        "model": MODEL,
        "kind": int(NameKind.TAG),
        "sums": ", ".join(sums),
        "named": ", ".join(f"{each} AS {name}" for each, name in zip(sums, SPENT, strict=True)),
        "again": sums_sql(f"lot.{name}" for name in SPENT),
    }
    for rollup, sql in ((spend_hours, _HOURS), (spend_keys, _KEYS), (spend_tags, _TAGS)):
        found = execute(connection, sql.format(**parts), (first, last)).fetchall()
        insert_many(connection, rollup, [tuple(row) for row in found])


# --- the command line ---


class KeptServer(Server):
    """A Postgres whose data stays in a folder, for the next time."""

    def __init__(self, folder: Path, **settings: str) -> None:
        noted = folder / "postgres"
        if noted.exists():
            self.version, self.port, self._process = 18, 0, None
            self.folder = Path(noted.read_text(encoding="utf-8"))
            self._settings = settings
            self.data = self.folder / "data"
            self.bin = programs(18)
            return
        folder.chmod(0o755)  # it may run as another user
        tempfile.tempdir = str(folder)  # where a server makes its own
        super().__init__(18, **settings)
        noted.write_text(str(self.folder), encoding="utf-8")


_SETTINGS = {
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",
    "shared_buffers": "512MB",
    "max_connections": "20",
    "max_locks_per_transaction": "1024",
    "max_wal_size": "8GB",
    "autovacuum": "off",
}


@contextmanager
def _a_url(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """The database of the options: of an earlier run, if it kept one of so many rows."""
    if options.engine == "sqlite":
        yield f"sqlite:///{folder / f'ledger-{options.rows}.db'}"
        return
    server = KeptServer(folder, **_SETTINGS).start()
    try:
        name = f"ledger_{options.rows}"
        if not server.query("postgres", "SELECT 1 FROM pg_database WHERE datname = %s", name):
            server.query("postgres", f"CREATE DATABASE {name}")
        yield server.url(name)
    finally:
        if options.keep is None:
            server.remove()
        else:
            server.stop()


def _run(options: argparse.Namespace, folder: Path) -> int:
    with _a_url(options, folder) as url:
        engine = open_engine(url, create=True)
        upgrade(engine)
        if not _rows(engine):
            began, used = time.monotonic(), time.process_time()
            Filler(engine, time.time_ns() // 1000).fill(options.rows)
            wall = (time.monotonic() - began) / options.rows * 1e6
            cpu = (time.process_time() - used) / options.rows * 1e6
            print(
                f"{options.rows} exchanges written: {wall:.1f} us each, {cpu:.1f} us of this process' CPU", flush=True
            )
        engine.dispose()
        engine = open_engine(url, create=False)  # without what was set to fill it
        answers = ask(engine)
        print(table(options.engine, answers))
        print(f"exchanges with its indexes: {bytes_each(engine):.0f} bytes each")
        engine.dispose()
        return 1 if any(each.missed for each in answers) else 0


def _rows(engine: Engine) -> bool:
    with engine.connect() as connection:
        return execute(connection, "SELECT 1 FROM exchanges LIMIT 1").fetchone() is not None


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit code is 1 where an answer takes too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ledger", description="Ask a large ledger.")
    parser.add_argument("--engine", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"exchanges ({ROWS})")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave the data there, and ask what an earlier run left"
    )
    options = parser.parse_args(argv)
    if options.rows < 1:
        parser.error("--rows: at least 1")
    try:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            return _run(options, options.keep)
        with tempfile.TemporaryDirectory(prefix="wiretape-ledger-") as folder:
            return _run(options, Path(folder))
    except WiretapeError as error:
        print(f"ledger: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

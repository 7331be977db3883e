"""Builds journals of exchanges, and a home in which ingest's parts are driven by hand.

Everything it makes is the same on every run: ids, times and seeds are counted, never drawn.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import UUID

import msgspec
from sqlalchemy import Engine

from proxy.exchange import Change, End, Gap, RequestHead, ResponseHead, Side, Trailers, WireEnd
from proxy.ingest.attempt import Attempts
from proxy.ingest.carry import Carrier
from proxy.ingest.interpret import Interpreter, Lens
from proxy.interpret.exchange import interpret
from proxy.journal import record
from proxy.journal.reader import Segment, journals
from proxy.journal.record import Damage, Record
from proxy.journal.writer import JournalWriter, segment_name
from proxy.store.engine import open_engine
from proxy.store.write import Writer
from tests.support.databases import PostgresDatabase, SqliteDatabase, a_database

STARTED_US = 1_790_000_000_000_000
SEED = 0x0123456789ABCDEF
DEADLINE = 30.0  # seconds for what should come about at once
WORKER = UUID("01990000-0000-7000-8000-000000000001")


def worker(number: int) -> UUID:
    """The id of another worker; later numbers started later."""
    return UUID(int=WORKER.int + (number << 80))


class Entry(NamedTuple):
    """What one record is made of."""

    kind: bytes
    exchange: bytes
    seq: int
    at_us: int
    payload: bytes


def exchange_id(number: int) -> UUID:
    """A UUIDv7, a millisecond after the one before."""
    return UUID(int=(STARTED_US // 1000 + number) << 80 | 0x7 << 76 | 0x2 << 62 | number)


def json(value: object) -> bytes:
    return msgspec.json.encode(value)


def exchange(
    number: int,
    *,
    chunks: Sequence[bytes] = (b"data: one\n\n", b"data: two\n\n"),
    upload: Sequence[bytes] = (b'{"model": "m"}',),
    ordinal: int | None = None,
    wire_end: WireEnd | None = WireEnd.UPSTREAM_END,
    status: int = 200,
    extras: bool = False,
    answered: Sequence[tuple[str, str]] = (("Content-Type", "text/event-stream"),),
    **head: Any,
) -> list[Entry]:
    """The records of one exchange, in order; other arguments replace fields of its request head.

    `wire_end` None: it stays open. `extras`: an interim head, trailers and a gap too. `answered`: the response's
    headers.
    """
    fields: dict[str, Any] = {
        "ordinal": number if ordinal is None else ordinal,
        "started_us": STARTED_US + number,
        "upstream": "openai",
        "dialect": "openai",
        "method": "POST",
        "target": f"/v1/chat/completions?n={number}",
        "http_version": "1.1",
        "headers": [("Host", "api.example"), ("User-Agent", "OpenAI/Python 2.0"), ("X-Request-Id", f"r{number}")],
        "client": "127.0.0.1",
        **head,
    }
    parts: list[tuple[bytes, bytes]] = [(record.REQUEST_HEAD, json(RequestHead(**fields)))]
    parts += [(record.REQUEST_CHUNK, chunk) for chunk in upload]
    if extras:
        parts.append((record.RESPONSE_HEAD, json(ResponseHead(103, [("Link", "</a>")], "Early Hints"))))
    told = [*answered, ("X-Request-Id", f"u{number}")]
    parts.append((record.RESPONSE_HEAD, json(ResponseHead(status, told, "OK"))))
    parts.append((record.CHANGE, json(Change("response_header_added", [("x-wiretape-exchange", f"{number}")]))))
    parts += [(record.RESPONSE_CHUNK, chunk) for chunk in chunks]
    if extras:
        parts.append((record.GAP, json(Gap(Side.RESPONSE, 7, "journal"))))
        parts.append((record.TRAILERS, json(Trailers(Side.RESPONSE_TRAILERS, [("X-Sum", f"{number}")]))))
    if wire_end is not None:
        parts.append((record.END, json(_end(wire_end, upload, chunks, 7 if extras else 0))))
    key = exchange_id(number).hex.encode()
    return [Entry(kind, key, seq, 10 * seq, payload) for seq, (kind, payload) in enumerate(parts)]


def _end(wire_end: WireEnd, upload: Sequence[bytes], chunks: Sequence[bytes], lost: int) -> End:
    sent, came = b"".join(upload), b"".join(chunks)
    return End(
        wire_end=wire_end,
        request_bytes=len(sent),
        response_bytes=len(came) + lost,
        request_chunks=len(upload),
        response_chunks=len(chunks),
        request_sent_us=5,
        head_us=20,
        first_byte_us=30,
        last_byte_us=40,
        overhead_us=3,
        request_hash=hashlib.sha256(sent).hexdigest(),
        response_hash=hashlib.sha256(came).hexdigest(),
    )


def merged(*tapes: Iterable[Entry]) -> list[Entry]:
    """Exchanges side by side: a record of each in turn."""
    return [entry for entry in chain.from_iterable(zip_longest(*tapes)) if entry is not None]


# Segments as bytes


class Image(NamedTuple):
    """A segment's bytes, where its records begin, and the records themselves as a reader should see them."""

    data: bytes
    begin: int
    records: list[Record]


def preamble(segment: int = 0, *, seed: int = SEED, version: int = record.VERSION, of: UUID = WORKER) -> bytes:
    return record.encode_preamble(record.Preamble("node", of, segment, seed, STARTED_US, version))


def image(entries: Iterable[Entry], segment: int = 0, *, seed: int = SEED, of: UUID = WORKER) -> Image:
    data = bytearray(preamble(segment, seed=seed, of=of))
    begin = len(data)
    records = []
    for entry in entries:
        offset = len(data)
        data += record.encode(seed, offset, *entry)
        records.append(Record(*entry, offset, len(data)))
    return Image(bytes(data), begin, records)


def read_file(path: Path, position: int = 0) -> list[Record | Damage]:
    """Everything a reader finds in a file from a position on, a torn tail included."""
    segment = Segment(path)
    try:
        found: list[Record | Damage] = []
        while more := list(segment.read(position)):
            found += more
            position = more[-1].end
        torn = segment.tail(position)
        return found if torn is None else [*found, torn]
    finally:
        segment.close()


def read_journal(folder: Path, of: UUID = WORKER) -> list[Record | Damage]:
    """All segments of one journal."""
    numbers = journals(folder).get(of, [])
    return [item for number in numbers for item in read_file(folder / segment_name(of, number))]


def entries_of(items: Iterable[Record | Damage]) -> list[Entry]:
    return [Entry(*item[:5]) for item in items if isinstance(item, Record)]


# A living writer

Open = Callable[..., JournalWriter]


def chunk(seq: int, size: int = 100) -> Entry:
    return Entry(record.RESPONSE_CHUNK, b"a" * 32, seq, seq, bytes([seq % 256]) * size)


def live(writer: JournalWriter) -> Path:
    return writer.folder / segment_name(writer.worker, writer.segment)


def is_locked(path: Path) -> bool:
    segment = Segment(path)
    try:
        return segment.is_written()
    finally:
        segment.close()


@contextmanager
def limited(what: int, value: int) -> Iterator[None]:
    """Lower one of this process's resource limits for a moment."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


# A home with a database


class House:
    """A home, its journals, its database, and an ingest that moves only when it is told to."""

    def __init__(self, home: Path, database: SqliteDatabase | PostgresDatabase) -> None:
        self.home = home
        self.folder = home / "journal"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.database = database
        self.url = database.url
        self.busy_timeout = 0.01  # of connections that ingest opens
        self.engine: Engine | None = None
        self.lens: Lens = interpret
        self._carrier: Carrier | None = None
        self._interpreter: Interpreter | None = None
        self._attempts: Attempts | None = None
        self._writers: list[JournalWriter] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for writer in self._writers:
            writer.close()

    @property
    def path(self) -> Path:
        """The file of the database, of a test on SQLite."""
        assert isinstance(self.database, SqliteDatabase)
        return self.database.path

    # The forward side

    def journal(self, of: UUID = WORKER, **options: Any) -> JournalWriter:
        """A living worker's journal; closed with the house."""
        writer = JournalWriter(self.folder, node="node", worker=of, **{"fsync_every": None, **options})
        self._writers.append(writer)
        return writer

    def record(self, entries: Iterable[Entry], of: UUID = WORKER, **options: Any) -> None:
        """The journal of a worker that is dead already."""
        writer = self.journal(of, **options)
        append(writer, entries)
        writer.close()

    def put(self, shape: Image, of: UUID = WORKER, segment: int = 0) -> Path:
        path = self.folder / segment_name(of, segment)
        path.write_bytes(shape.data)
        return path

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    # Ingest

    @property
    def carrier(self) -> Carrier:
        """The running ingest's; a new one after `stop`."""
        if self._carrier is None:
            self.engine = open_engine(self.url, create=False, busy_timeout=self.busy_timeout)
            self._attempts = Attempts(self.home / "ingest.attempt")
            writer = Writer(self.engine, beside=True)
            self._carrier = Carrier(self.folder, writer, self._attempts)
            self._interpreter = Interpreter(self.engine, writer, self._attempts, UTC, lens=self.lens)
        return self._carrier

    @property
    def interpreter(self) -> Interpreter:
        """The running ingest's."""
        assert self.carrier is not None
        assert self._interpreter is not None
        return self._interpreter

    def stop(self) -> None:
        """End ingest as its death would: everything it knows is gone."""
        if self._carrier is not None:
            self._carrier.close()
        if self._attempts is not None:
            self._attempts.close()
        if self.engine is not None:
            self.engine.dispose()
        self._carrier = self._interpreter = self._attempts = self.engine = None

    def drain(self) -> list[UUID]:
        """Store all there is; the workers that are done."""
        done: list[UUID] = []
        while True:
            busy, ended = self.carrier.pass_once()
            done += ended
            if not busy:
                return done

    def interpret(self) -> None:
        """Store all there is, and understand it."""
        self.drain()
        while self.interpreter.pass_once():
            pass

    # What is stored

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.database.query(sql, *values)

    def execute(self, sql: str) -> None:
        self.database.execute(sql)

    def one(self, sql: str, *values: object) -> Any:
        (row,) = self.query(sql, *values)
        return row[0] if len(row) == 1 else row

    def exchanges(self) -> list[dict[str, Any]]:
        """The rows of the view, oldest first."""
        return self.database.dicts("SELECT * FROM exchange_list ORDER BY exchange_id")

    def exchange(self, number: int) -> dict[str, Any]:
        (row,) = [row for row in self.exchanges() if row["id"] == str(exchange_id(number))]
        return row

    def body(self, number: int, side: Side = Side.RESPONSE) -> list[bytes]:
        sql = "SELECT data FROM chunks WHERE exchange_id = ? AND side = ? ORDER BY seq"
        return [row[0] for row in self.query(sql, exchange_id(number).bytes, int(side))]

    def everything(self) -> dict[str, list[Any]]:
        """All that was recorded, comparable between databases that came to it by different ways."""
        tables = {
            "journals": "worker, segment, stored, highest_ordinal, lost_records, ended",
            "chunks": "exchange_id, side, seq, at_us, data",
            "headers": "exchange_id, side, seq, position, name, value",
            "heads": "exchange_id, side, seq, at_us, status",
            "changes": "exchange_id, seq, at_us, data",
            "gaps": "exchange_id, seq, at_us, side, bytes",
            "tags": "exchange_id, name, value",
        }
        found: dict[str, list[Any]] = {
            table: sorted(self.query(f"SELECT {columns} FROM {table}"), key=repr)  # noqa: S608 - the constants above
            for table, columns in tables.items()
        }
        found["exchanges"] = [{**row, "journal": None} for row in self.exchanges()]
        return found


@contextmanager
def a_house(home: Path, kind: str) -> Iterator[House]:
    """A house with a database of a kind; a file is in its home."""
    home.mkdir(parents=True, exist_ok=True)
    with a_database(kind, home) as database, House(home, database) as made:
        yield made


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def append(writer: JournalWriter, entries: Iterable[Entry]) -> None:
    for entry in entries:
        writer.append(*entry)

"""The exchanges that readers are tried on, hostile ones among them."""

from __future__ import annotations

import atexit
import gzip
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import UUID

import msgspec

from proxy.exchange import Change, ExchangeIds, Outcome, Side, WireEnd
from proxy.store.engine import open_engine
from proxy.store.migrate import upgrade
from proxy.store.rows import ChangeRow, ChunkRow, ExchangeRow, GapRow, HeadRow, JournalRow, Pairs
from proxy.store.write import Writer
from tests.support.databases import SQLITE, PostgresDatabase, SqliteDatabase, postgres_of

HOUR_US = 3_600_000_000
WORKER = UUID("0190a1b2-0000-7000-8000-000000000001")

EVENTS = [b'data: {"n":%d}\n\n' % n for n in range(3)] + ["data: grüße\n\n".encode()[:9], "grüße\n\n".encode()[4:]]
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x00\u202egnp.\u2028\r\x7f\x08end"
HOSTILE_LATIN = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x7f\x08end"
HOSTILE_CHUNKS = [b"\x1b[31mred\x07 \x00 \xff\xfe \x9b1m\r\n\t", HOSTILE.encode(), b"\xe2\x82", b"\xac paid\n"]
PACKED = b"event: message\ndata: packed\n\n" * 20


@dataclass(frozen=True)
class Recorded:
    """A database that tests have in common, to be copied: `ids` by the names below, the oldest first."""

    file: Path | None
    name: str | None
    ids: dict[str, UUID]


@cache
def recorded(kind: str) -> Recorded:
    """The one of this process for a kind of database."""
    if kind == SQLITE:
        folder = tempfile.mkdtemp(prefix="recorded-")
        atexit.register(shutil.rmtree, folder)
        path = Path(folder) / "wiretape.db"
        return Recorded(path, None, record(f"sqlite:///{path}"))
    server = postgres_of(kind)
    name = server.new_database()
    return Recorded(None, name, record(server.url(name)))


_spare: dict[str, list[str]] = {}


@contextmanager
def a_copy(kind: str, path: Path) -> Iterator[SqliteDatabase | PostgresDatabase]:
    """A copy of it; `path` is where a file goes. One of a Postgres in which nothing was written is used again: what a
    server does before it answers the first questions in a new database takes longer than most tests."""
    original = recorded(kind)
    if original.file is not None:
        shutil.copyfile(original.file, path)
        yield SqliteDatabase(path)
        return
    server, spare = postgres_of(kind), _spare.setdefault(kind, [])
    copy = PostgresDatabase(kind, spare.pop() if spare else server.new_database(original.name))
    before, _ = server.transactions(copy.name)
    yield copy
    copy.close()
    if server.transactions(copy.name) == (before, 0):
        spare.append(copy.name)
    else:
        server.drop(copy.name)


def record(url: str) -> dict[str, UUID]:
    """Make a database. Returns the ids by name, the oldest first, an hour between two."""
    engine = open_engine(url, create=True)
    upgrade(engine)
    writer = Writer(engine)
    made: dict[str, UUID] = {}
    with writer.transaction():
        journal = JournalRow(WORKER, "here", 1, stored=len(_MAKERS), highest_ordinal=len(_MAKERS))
        writer.put_journal(journal)
        begin = time.time_ns() // 1000 - len(_MAKERS) * HOUR_US + HOUR_US // 2
        for ordinal, (name, make) in enumerate(_MAKERS.items(), 1):
            started = begin + (ordinal - 1) * HOUR_US
            key = ExchangeIds(lambda at=started: at).next()  # type: ignore[misc]  # mypy cannot infer a lambda's default
            made[name] = key
            make(writer, ExchangeRow(id=key, journal=journal.id, ordinal=ordinal, started_us=started, node="here"))
    engine.dispose()
    return made


def _put(
    writer: Writer,
    row: ExchangeRow,
    request: Sequence[bytes] = (),
    response: Sequence[bytes] = (),
    *,
    headers: Pairs = (),
    trailers: Pairs = (),
    stored: bool = True,
) -> None:
    """Store an exchange with its heads and chunks: a tenth of a second between two chunks of the response."""
    key = row.id
    for name, values in (("request", request), ("response", response)):
        whole = b"".join(values)
        setattr(row, f"{name}_bytes", len(whole))
        setattr(row, f"{name}_chunks", len(values))
        if row.outcome is not None:
            setattr(row, f"{name}_hash", hashlib.sha256(whole).digest())
    heads = [HeadRow(key, Side.REQUEST, 0, 0, None, None, [("Host", "127.0.0.1"), ("X-Twice", "a"), ("x-twice", "b")])]
    chunks = [ChunkRow(key, Side.REQUEST, 1 + at, 50 + at, data) for at, data in enumerate(request)]
    seq = 1 + len(request)
    if row.status is not None:
        heads.append(HeadRow(key, Side.RESPONSE, seq, 40_000, row.status, row.reason, list(headers)))
    for at, data in enumerate(response, 1):
        chunks.append(ChunkRow(key, Side.RESPONSE, seq + at, at * 100_000, data))
    if trailers:
        heads.append(HeadRow(key, Side.RESPONSE_TRAILERS, seq + 100, 900_000, None, None, trailers))
    writer.put_exchanges([row])
    writer.put_heads(heads)
    writer.put_chunks(chunks if stored else [])


def _ended(row: ExchangeRow, outcome: Outcome = Outcome.COMPLETED, end: WireEnd = WireEnd.UPSTREAM_END) -> None:
    row.upstream, row.dialect, row.method, row.target = "openai", "openai", "POST", "/v1/chat/completions"
    row.http_version, row.status, row.reason = "1.1", 200, "OK"
    row.outcome, row.wire_end, row.end_us, row.head_us = outcome, end, 612_345, 40_000


def _stream(writer: Writer, row: ExchangeRow) -> None:
    _ended(row)
    row.tags, row.session, row.credential = [("env", "ci"), ("project", "search")], "s1", "0123456789abcdef"
    headers = [("Content-Type", "text/event-stream; charset=utf-8"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    trailers = [("x-checksum", "42")]
    _put(writer, row, [b'{"model":', b'"m"}'], EVENTS, headers=headers, trailers=trailers)
    added = Change("response_header_added", [("x-wiretape-exchange", str(row.id))])
    writer.put_changes([ChangeRow(row.id, 3, 30_000, msgspec.json.encode(added).decode())])


def _hostile(writer: Writer, row: ExchangeRow) -> None:
    _ended(row, Outcome.UPSTREAM_FAILED, WireEnd.UPSTREAM_ERROR)
    row.upstream, row.method, row.target = "evil", "G\x1b[0mET", f"/v1/{HOSTILE_LATIN}?{'long' * 60}"
    row.status, row.reason, row.error = 429, f"Too {HOSTILE_LATIN}", f"the upstream said {HOSTILE}"
    row.tags, row.session, row.client = [("na\x1bme", f"va{HOSTILE}")], HOSTILE, "127.0.0.1\x1b[5m"
    headers = [("x-\x1b[1mname", HOSTILE_LATIN), ("x-latin", "gr\xfc\xdfe\x85")]
    _put(writer, row, [HOSTILE.encode()], HOSTILE_CHUNKS, headers=headers, trailers=[("t\x1b", HOSTILE_LATIN)])
    writer.put_changes([ChangeRow(row.id, 50, 1, f'{{"kind":"\\u001b[2J","headers":[["{chr(0x9B)}","\\u0007"]]}}')])
    writer.put_gaps([GapRow(row.id, 51, 1, Side.REQUEST, 1, "\x1breason")])


def _packed(writer: Writer, row: ExchangeRow) -> None:
    _ended(row)
    packed = gzip.compress(PACKED, mtime=0)
    headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")]
    _put(writer, row, [b"{}"], [packed[:30], packed[30:]], headers=headers)


def _broken(writer: Writer, row: ExchangeRow) -> None:
    _ended(row, Outcome.CLIENT_LEFT, WireEnd.CLIENT_LEFT)
    headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")]
    _put(writer, row, [b"{}"], [gzip.compress(PACKED, mtime=0)[:-12]], headers=headers)


def _bodiless(writer: Writer, row: ExchangeRow) -> None:
    _ended(row)
    row.record = 1
    _put(writer, row, [b"secret"], [b"secret too"], headers=[("content-type", "application/json")], stored=False)


def _refused(writer: Writer, row: ExchangeRow) -> None:
    _ended(row, Outcome.REFUSED, WireEnd.REFUSED)
    row.status = row.reason = None
    _put(writer, row)
    row.response_out_hash = hashlib.sha256(b'{"error":{}}').digest()
    writer.put_exchanges([row])
    own = Change("own_response", [("content-type", "application/json")], 502, '{"error":{}}')
    writer.put_changes([ChangeRow(row.id, 3, 30_000, msgspec.json.encode(own).decode())])


def _lossy(writer: Writer, row: ExchangeRow) -> None:
    _ended(row)
    row.status, row.method, row.target = 404, "GET", "/v1/models"
    _put(writer, row, (), [b"the first bytes"], headers=[("content-type", "application/json")])
    row.unrecorded_bytes, row.response_bytes = 70, 85
    writer.put_exchanges([row])
    writer.put_gaps([GapRow(row.id, 50, 250_000, Side.RESPONSE, 70, "journal")])


def _running(writer: Writer, row: ExchangeRow) -> None:
    _ended(row)
    row.outcome = row.wire_end = row.end_us = None
    _put(writer, row, [b"{}"], [b"data: so far\n\n"], headers=[("content-type", "text/event-stream")])


_MAKERS = {
    "stream": _stream,
    "hostile": _hostile,
    "packed": _packed,
    "broken": _broken,
    "bodiless": _bodiless,
    "refused": _refused,
    "lossy": _lossy,
    "running": _running,
}


def newest_first(ids: dict[str, UUID], *names: str) -> list[str]:
    """The ids of some exchanges as a list shows them; of all if none is named."""
    return [str(ids[name]) for name in reversed(_MAKERS) if not names or name in names]


def oldest_first(ids: dict[str, UUID], names: Iterable[str] = ()) -> list[str]:
    return newest_first(ids, *names)[::-1]

"""What storing costs: from journal to rows, and to what they mean, in microseconds of CPU, on both engines.

`python -m tests.bench.storing`: least of three rounds; the server's CPU of Postgres stands apart. What is stored is
compared with what was recorded, byte for byte.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from proxy.exchange import Outcome, Side
from proxy.store.engine import open_engine, reading
from proxy.store.pack import pack_some
from proxy.store.read import chunks
from proxy.store.rows import ExchangeRow, HeadRow
from proxy.store.write import Writer
from tests.support.databases import KINDS, PostgresDatabase
from tests.support.journals import STARTED_US, Entry, House, a_house, exchange, exchange_id, merged
from tests.support.realtext import openai_chat

ROUNDS = 3
TICKS = 100.0  # of the kernel's clock in a second

COPY_US, MEANT_US, EXCHANGE_US, HEADERS_US, PACK_US = 5.0, 15.0, 20.0, 15.0, 3.0
"""What is allowed: to carry a chunk to its row; with interpretation and rollups; an exchange with its indexes; its 36
headers; to pack a chunk."""

REFERENCE_US = 1.6
"""What the driver alone took for a chunk on the machine, and on the day, that the limits are from."""

DONE = Outcome.COMPLETED
VOLATILE = ("date", "x-request-id", "cf-ray", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "traceparent")


class Cost(NamedTuple):
    """CPU in microseconds: of this process, and of the server."""

    client: float
    server: float


class Measured(NamedTuple):
    """One figure; `allowed` is for the client's part."""

    engine: str
    what: str
    cost: Cost
    allowed: float | None


def table() -> str:
    """All figures, in lines; beside what was measured what it would be at the speed of the machine of the limits."""
    before, figures, after = _reference(), list(measure()), _reference()
    slower = (before + after) / 2 / REFERENCE_US
    lines = [
        (
            f"the driver's own executemany of a chunk of 216 bytes: {before:.2f} us before, {after:.2f} after;"
            f" {REFERENCE_US} where the limits were set"
        ),
        f"{'engine':9} {'what':50} {'client us':>9} {'scaled':>7} {'server us':>9} {'allowed':>8}",
    ]
    for each in figures:
        missed = "  MISSED" if each.allowed is not None and each.cost.client > each.allowed else ""
        allowed = f"{each.allowed:8.1f}" if each.allowed is not None else ""
        costs = f"{each.cost.client:9.2f} {each.cost.client / slower:7.2f} {each.cost.server:9.2f}"
        lines.append(f"{each.engine:9} {each.what:50} {costs} {allowed}{missed}")
    return "\n".join(lines)


def _reference() -> float:
    """Microseconds of CPU that SQLite's driver alone takes for a chunk: how fast this machine is now."""
    rows = [(exchange_id(at % 60).bytes, 1, at, at, bytes(216)) for at in range(20_000)]
    best = float("inf")
    for _ in range(ROUNDS):
        with TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/x.db", isolation_level=None)) as raw:
            raw.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
            raw.execute("CREATE TABLE c (id BLOB, side INT, seq INT, at INT, data BLOB, PRIMARY KEY (id, seq))")
            began = time.process_time()
            for at in range(0, len(rows), 1000):
                raw.execute("BEGIN")
                raw.executemany("INSERT INTO c VALUES (?, ?, ?, ?, ?)", rows[at : at + 1000])
                raw.execute("COMMIT")
            best = min(best, (time.process_time() - began) / len(rows) * 1e6)
    return best


def measure(streams: int = 60, small: int = 3000) -> Iterator[Measured]:
    """Streams of 300 to 600 events, rows by themselves, and small exchanges."""
    for engine in KINDS:
        best = [_streams(engine, streams) for _ in range(ROUNDS)]
        chunk, meant, pack = (min(each[place] for each in best) for place in range(3))
        yield Measured(engine, "a chunk, journal to row", chunk, COPY_US)
        yield Measured(engine, "a chunk, with meaning and rollups", meant, MEANT_US)
        yield Measured(engine, "a chunk packed", pack, PACK_US)
        rows, heads = (min(each) for each in zip(*[_rows(engine, small) for _ in range(ROUNDS)], strict=True))
        yield Measured(engine, "the row of an exchange, with its indexes", rows, EXCHANGE_US)
        yield Measured(engine, "a head of 36 headers", heads, HEADERS_US)
        yield Measured(engine, "an exchange of seven records, from journal to row", _small(engine, small), None)


def _streams(engine: str, count: int) -> tuple[Cost, Cost, Cost]:
    tapes = {number: list(openai_chat(number)) for number in range(1, count + 1)}
    entries = merged(*[exchange(number, chunks=tape) for number, tape in tapes.items()])
    total = sum(map(len, tapes.values()))
    with house_of(engine) as house:
        house.record(entries)
        copied = cost_of(house, house.drain, total)
        read = cost_of(house, house.interpret, total)
        _compare(house, tapes)
        packed = cost_of(house, lambda: _pack(house), total)
        _compare(house, tapes)
    return copied, Cost(copied.client + read.client, copied.server + read.server), packed


def _rows(engine: str, count: int) -> tuple[Cost, Cost]:
    """What the store takes for an exchange that has ended, and for its head, in transactions of 500."""
    headers = [(f"x-header-{number}", f"value {number}") for number in range(30)]
    rows, heads = [], []
    for number in range(count):
        key = exchange_id(number)
        named = {"upstream": "openai", "dialect": "openai", "method": "POST", "target": "/v1/chat/completions"}
        counts = {"request_bytes": 900, "response_bytes": 9000, "request_chunks": 1, "response_chunks": 90}
        hashes = dict.fromkeys(("request_hash", "response_hash", "request_out_hash", "response_out_hash"), b"h" * 32)
        marks = dict.fromkeys(("request_sent_us", "head_us", "first_byte_us", "last_byte_us", "end_us"), 123_456)
        more: dict[str, Any] = {**named, **counts, **hashes, **marks, "session": f"s{number % 50}", "credential": "c"}
        rows.append(ExchangeRow(key, 1, STARTED_US + number, number, node="n", status=200, outcome=DONE, **more))
        told = [*headers, *((name, f"{name}-{number}") for name in VOLATILE)]
        heads.append(HeadRow(key, Side.RESPONSE, 2, 5, 200, "OK", told))
    with house_of(engine) as house:
        return _written(house, rows, Writer.put_exchanges), _written(house, heads, Writer.put_heads)


def _written(house: House, rows: Sequence[Any], put: Callable[[Writer, Sequence[Any]], None]) -> Cost:
    assert house.engine is not None
    writer = Writer(house.engine, beside=True)

    def work() -> None:
        for at in range(0, len(rows), 500):
            with writer.transaction():
                put(writer, rows[at : at + 500])

    return cost_of(house, work, len(rows))


def _small(engine: str, count: int) -> Cost:
    entries: list[Entry] = []
    for number in range(1, count + 1):
        entries += exchange(number, chunks=[b"{}"], target="/v1/chat/completions")
    with house_of(engine) as house:
        house.record(entries)
        cost = cost_of(house, house.drain, count)
        assert house.one("SELECT count(*) FROM exchanges") == count
    return cost


@contextmanager
def house_of(engine: str) -> Iterator[House]:
    """A house in a folder of its own, whose ingest is connected before anything is measured."""
    with TemporaryDirectory() as folder, a_house(Path(folder) / "home", engine) as house:
        assert house.carrier is not None
        yield house


def _pack(house: House) -> None:
    assert house.engine is not None
    after = exchange_id(0)
    while True:
        done = pack_some(house.engine, exchange_id(10**9), after, 1.0)
        if done.last is None:
            break
        after = done.last
    assert house.one("SELECT count(*) FROM chunks") == 0


def _compare(house: House, tapes: dict[int, list[bytes]]) -> None:
    engine = open_engine(house.url, create=False)
    with reading(engine) as connection:
        for number, tape in tapes.items():
            assert [row.data for row in chunks(connection, exchange_id(number), Side.RESPONSE)] == tape
    engine.dispose()


def cost_of(house: House, work: Callable[[], object], of: int) -> Cost:
    client, server = time.process_time(), _server(house)
    work()
    return Cost((time.process_time() - client) / of * 1e6, (_server(house) - server) / of * 1e6)


def _server(house: House) -> float:
    """Seconds of CPU that the server's processes have taken."""
    if not isinstance(house.database, PostgresDatabase):
        return 0.0
    first = str(house.database.server.pid)
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[1] == first or stat.parent.name == first:
            total += sum(map(int, fields[11:15] if stat.parent.name == first else fields[11:13])) / TICKS
    return total


if __name__ == "__main__":
    print(table())

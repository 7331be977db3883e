"""What storing costs: from journal to rows, and to what they mean, in microseconds of CPU, on both engines.

`python -m tests.bench.storing`: least of three rounds; the server's CPU of Postgres stands apart. What is stored is
compared with what was recorded, byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from proxy.exchange import Side
from proxy.store.engine import open_engine, reading
from proxy.store.pack import pack_some
from proxy.store.read import chunks
from tests.support.databases import KINDS, PostgresDatabase
from tests.support.journals import Entry, House, a_house, exchange, exchange_id, merged
from tests.support.realtext import openai_chat

ROUNDS = 3
TICKS = 100.0  # of the kernel's clock in a second

COPY_US, MEANT_US, EXCHANGE_US, HEADERS_US, PACK_US = 5.0, 15.0, 20.0, 15.0, 3.0
"""What is allowed: to carry a chunk to its row; with interpretation and rollups; an exchange with its indexes; its 36
headers; to pack a chunk."""

_PLAIN = (("Content-Type", "text/event-stream"),)


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
    """All figures, in lines."""
    lines = [f"{'engine':10} {'what':44} {'client us':>10} {'server us':>10} {'allowed':>8}"]
    for each in measure():
        missed = "  MISSED" if each.allowed is not None and each.cost.client > each.allowed else ""
        allowed = f"{each.allowed:8.1f}" if each.allowed is not None else f"{'':8}"
        lines.append(
            f"{each.engine:10} {each.what:44} {each.cost.client:10.2f} {each.cost.server:10.2f} {allowed}{missed}"
        )
    return "\n".join(lines)


def measure(streams: int = 60, small: int = 3000) -> Iterator[Measured]:
    """Streams of 300 to 600 events; and exchanges of two chunks, of which what a chunk costs is taken off."""
    for engine in KINDS:
        best = [_streams(engine, streams) for _ in range(ROUNDS)]
        chunk, meant, pack = (min(each[place] for each in best) for place in range(3))
        yield Measured(engine, "a chunk, journal to row", chunk, COPY_US)
        yield Measured(engine, "a chunk, with meaning and rollups", meant, MEANT_US)
        yield Measured(engine, "a chunk packed", pack, PACK_US)
        plain = min(_small(engine, small, _PLAIN) for _ in range(ROUNDS))
        headers = [(f"x-header-{number}", f"value {number}") for number in range(34)]
        headed = min(_small(engine, small, [*_PLAIN, *headers]) for _ in range(ROUNDS))
        yield Measured(engine, "an exchange with two heads and two chunks", plain, None)
        alone = Cost(plain.client - 2 * chunk.client, plain.server - 2 * chunk.server)
        yield Measured(engine, "the same without its chunks", alone, EXCHANGE_US + HEADERS_US)
        more = Cost(headed.client - plain.client, headed.server - plain.server)
        yield Measured(engine, "34 headers more", more, HEADERS_US)


def _streams(engine: str, count: int) -> tuple[Cost, Cost, Cost]:
    tapes = {number: list(openai_chat(number)) for number in range(1, count + 1)}
    entries = merged(*[exchange(number, chunks=tape) for number, tape in tapes.items()])
    total = sum(map(len, tapes.values()))
    with _house(engine) as house:
        house.record(entries)
        copied = _cost(house, house.drain, total)
        read = _cost(house, house.interpret, total)
        _compare(house, tapes)
        packed = _cost(house, lambda: _pack(house), total)
        _compare(house, tapes)
    return copied, Cost(copied.client + read.client, copied.server + read.server), packed


def _small(engine: str, count: int, headers: Sequence[tuple[str, str]]) -> Cost:
    entries: list[Entry] = []
    for number in range(1, count + 1):
        entries += exchange(number, chunks=[b"{}"], answered=headers)
    with _house(engine) as house:
        house.record(entries)
        cost = _cost(house, house.drain, count)
        assert house.one("SELECT count(*) FROM exchanges") == count
    return cost


@contextmanager
def _house(engine: str) -> Iterator[House]:
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


def _cost(house: House, work: Callable[[], object], of: int) -> Cost:
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

"""What rows take beside the bytes that they hold, and what full text costs, on both engines.

`python -m tests.bench.room`: bytes for a chunk, for the heads of an exchange (36 headers), for each byte
of text that is indexed; CPU of indexing an exchange's text, of this process and of Postgres' server.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any, NamedTuple

from proxy.exchange import Outcome, Side
from proxy.store.fulltext import index_some
from proxy.store.meanings import ANSWER
from proxy.store.rows import ChunkRow, ExchangeRow, HeadRow, MeaningRow, TextRow
from proxy.store.write import Writer
from tests.bench.storing import VOLATILE, Cost, cost_of, house_of
from tests.support.databases import KINDS, POSTGRES
from tests.support.journals import STARTED_US, House, exchange_id
from tests.support.realtext import text

CHUNK_BYTES = 216
TEXT_BYTES = 4_000


class Room(NamedTuple):
    """Bytes: `chunk` of one beside its own, `heads` of the two of an exchange, `text` for each byte that is indexed.

    `cost` is that of indexing the text of an exchange.
    """

    engine: str
    chunk: float
    heads: float
    text: float
    cost: Cost


def _size(house: House) -> int:
    if house.database.kind == POSTGRES:
        return int(
            house.database.query("SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relkind = 'r'")[0][0]
        )
    return int(house.database.query("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")[0][0])


def _grown(house: House, rows: Sequence[Any], put: Callable[[Writer, Sequence[Any]], None]) -> float:
    """Bytes by which the database grows for each row."""
    assert house.engine is not None
    writer, before = Writer(house.engine, beside=True), _size(house)
    for at in range(0, len(rows), 500):
        with writer.transaction():
            put(writer, rows[at : at + 500])
    return (_size(house) - before) / len(rows)


def measure(engine: str, count: int = 1000) -> Room:
    """For so many exchanges."""
    rng = random.Random(7)
    keys = [exchange_id(number) for number in range(count)]
    chunks = [
        ChunkRow(key, Side.RESPONSE, seq, seq * 100, rng.randbytes(CHUNK_BYTES)) for key in keys for seq in range(60)
    ]
    steady = [(f"x-header-{number}", f"value {number}") for number in range(18)]
    heads = [HeadRow(key, Side.REQUEST, 0, 0, None, None, steady[:12]) for key in keys]
    heads += [HeadRow(key, Side.RESPONSE, 2, 5, 200, "OK", [*steady, *_volatile(rng)]) for key in keys]
    texts = [text(rng, TEXT_BYTES // 6)[:TEXT_BYTES] for _ in keys]
    with house_of(engine) as house:
        assert house.engine is not None
        chunk = _grown(house, chunks, Writer.put_chunks) - CHUNK_BYTES
        both = 2 * _grown(house, heads, Writer.put_heads)
        writer = Writer(house.engine)
        with writer.transaction():
            writer.put_exchanges([ExchangeRow(key, 1, STARTED_US, outcome=Outcome.COMPLETED) for key in keys])
            meanings = [MeaningRow(key, 1, Outcome.COMPLETED) for key in keys]
            for meaning, said in zip(meanings, texts, strict=True):
                meaning.texts = [TextRow(ANSWER, said, answer=True)]
            writer.put_meanings(meanings, UTC)
        before = _size(house)
        cost = cost_of(house, lambda: _indexed(house), count)
        index = _index_size(house, before) / sum(map(len, texts))
    return Room(engine, chunk, both, index, cost)


def _volatile(rng: random.Random) -> list[tuple[str, str]]:
    return [(name, f"{rng.getrandbits(64):016x}") for name in VOLATILE]


def _indexed(house: House) -> None:
    assert house.engine is not None
    while index_some(house.engine):
        pass


def _index_size(house: House, before: int) -> float:
    """What the index takes. A row of Postgres that got its words leaves its old self behind, for a vacuum to take."""
    if house.database.kind != POSTGRES:
        return _size(house) - before
    sql = """SELECT (SELECT sum(pg_column_size(words)) FROM texts)
        + (SELECT sum(pg_relation_size(indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
           JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'gin')"""
    return float(house.database.query(sql)[0][0])


def main() -> None:
    print(f"{'engine':9} {'chunk B':>8} {'heads B':>8} {'index B/B':>9} {'text us':>8} {'server us':>9}")
    for engine in KINDS:
        room = measure(engine)
        figures = (
            f"{room.chunk:8.0f} {room.heads:8.0f} {room.text:9.3f} {room.cost.client:8.0f} {room.cost.server:9.0f}"
        )
        print(f"{room.engine:9} {figures}")


if __name__ == "__main__":
    main()

"""Archives: any body comes back from one, and memory does not grow with what goes into it."""

from __future__ import annotations

import gzip
import tracemalloc
from io import BytesIO
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.exchange import ExchangeIds, Outcome, Side
from proxy.replay import har
from proxy.replay.captured import Tape
from proxy.store.engine import open_engine
from proxy.store.migrate import upgrade
from proxy.store.rows import ChunkRow, Exchange, ExchangeRow, HeadRow, JournalRow, Pairs
from proxy.store.write import Writer
from tests.support.archives import body_of, validate

MIB = 2**20
WORKER = UUID("0190a1b2-0000-7000-8000-000000000001")


def written(data: list[bytes], headers: Pairs = ()) -> bytes:
    tape = Tape(Exchange(UUID(int=1), None, 0), Side.RESPONSE, headers, BytesIO())
    for piece in data:
        tape.add(0, piece)
    out = BytesIO(b'{"x":0')
    out.seek(0, 2)
    with har._Body(tape) as body:
        body.write(out, msgspec.json.encode, "encoding")
        assert body.coded == sum(map(len, data))
    return body_of(msgspec.json.decode(out.getvalue() + b"}"))


@given(st.lists(st.binary(max_size=9) | st.text(max_size=9).map(lambda text: text.encode()), max_size=6))
@example(["ü".encode()[:1], "ü".encode()[1:]])
@example([b"\xe2\x82"])
@example(["€".encode() * 50_000])
@example([b"\xff" * 100_000])
def test_any_body_comes_back(data: list[bytes]) -> None:
    assert written(data) == b"".join(data)


def test_a_coding_is_undone_or_left() -> None:
    packed = gzip.compress(b"text", mtime=0)
    assert written([packed], [("Content-Encoding", "gzip")]) == b"text"
    assert written([packed], [("Content-Encoding", "secret")]) == packed


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A database with one exchange whose response has 24 MiB."""
    url = f"sqlite:///{tmp_path / 'wiretape.db'}"
    engine = open_engine(url, create=True)
    upgrade(engine)
    writer = Writer(engine)
    with writer.transaction():
        journal = JournalRow(WORKER, "here", 1, stored=1, highest_ordinal=1)
        writer.put_journal(journal)
        key = ExchangeIds().next()
        row = ExchangeRow(id=key, journal=journal.id, ordinal=1, started_us=1, status=200, outcome=Outcome.COMPLETED)
        writer.put_exchanges([row])
        writer.put_heads([HeadRow(key, Side.RESPONSE, 1, 1, 200, "OK", [("content-type", "text/plain")])])
        for seq in range(24):
            writer.put_chunks([ChunkRow(key, Side.RESPONSE, seq + 2, seq, "ü".encode() * (MIB // 2))])
    engine.dispose()
    return url


class Counting:
    """Takes bytes and keeps none."""

    size = 0

    def write(self, data: bytes, /) -> None:
        self.size += len(data)


@pytest.mark.engines("sqlite")
def test_a_large_body_takes_little_memory(large: str) -> None:
    engine = open_engine(large, create=False)
    out = Counting()
    with engine.connect() as connection:
        key = UUID(bytes=connection.exec_driver_sql("SELECT id FROM exchanges").scalar_one())
    tracemalloc.start()
    try:
        found = har.entry(engine, key)
        assert found is not None
        with found:
            found.write(out, msgspec.json.encode, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        engine.dispose()
    assert out.size > 24 * MIB
    assert peak < 20 * MIB, f"{peak / MIB:.1f} MiB"


def test_an_archive_of_nothing() -> None:
    assert validate(msgspec.json.decode(har.begin(msgspec.json.encode) + har.END)) == []

"""Chunks of old exchanges become tapes, and whoever reads them sees no difference."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import Engine

from proxy.exchange import Outcome, Side
from proxy.store import bodies, pack, read
from proxy.store.delete import delete_exchanges
from proxy.store.engine import reading
from proxy.store.pack import pack_some
from proxy.store.rows import ChunkRow
from proxy.store.tapes import BadTape
from proxy.store.unread import recorded
from proxy.store.write import Writer
from tests.support.databases import PostgresDatabase, SqliteDatabase
from tests.unit.store.meaning import meant, understand
from tests.unit.store.support import chunk, exchange, ids, opened, stored

FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)


def record(writer: Writer, key: UUID, *, read: bool = True, size: int = 50) -> list[ChunkRow]:
    rows = [ChunkRow(key, Side.REQUEST, 1, 10, b'{"model":"m"}')]
    rows += [chunk(key, seq, b"data: %d %s\n\n" % (seq, b"x" * size)) for seq in range(2, 40)]
    with writer.transaction():
        writer.put_exchanges([exchange(key, request_bytes=13, response_bytes=38 * size, response_chunks=38)])
        writer.put_chunks(rows)
    if read:
        understand(writer, meant(key))
    return rows


def pack_all(engine: Engine, before: UUID = LAST) -> tuple[int, int]:
    """Exchanges and chunks packed."""
    after: UUID | None = FIRST
    exchanges = chunks = 0
    while after is not None:
        done = pack_some(engine, before, after)
        exchanges, chunks, after = exchanges + done.exchanges, chunks + done.chunks, done.last
    return exchanges, chunks


def test_packed_chunks_read_as_before(engine: Engine, writer: Writer) -> None:
    new = ids()
    kept, packed = new(), new()
    rows = {key: record(writer, key) for key in (packed, kept)}
    with reading(engine) as connection:
        before = {key: list(read.chunks(connection, key)) for key in rows}
        sides = {side: list(read.chunks(connection, packed, side)) for side in (Side.REQUEST, Side.RESPONSE)}
        totals = bodies.stored(connection, packed)
    assert pack_all(engine, before=max(rows)) == (1, 39)
    first = min(rows)
    assert (stored(engine, "tapes"), stored(engine, "chunks")) == (2, 39)
    with reading(engine) as connection:
        assert {key: list(read.chunks(connection, key)) for key in rows} == before == rows
        assert bodies.stored(connection, first) == totals
        assert bodies.is_stored(connection, first)
        if first == packed:
            assert {side: list(read.chunks(connection, packed, side)) for side in sides} == sides
        (found,) = recorded(connection, [first])
        assert list(found.request) == [(10, b'{"model":"m"}')]
        assert len(list(found.response)) == 38
        assert found.bodies
        assert read.counts(connection).chunks == 78
    assert pack_all(engine) == (1, 39)
    assert pack_all(engine) == (0, 0)


def test_what_runs_or_waits_to_be_read_is_left(engine: Engine, writer: Writer) -> None:
    new = ids()
    running, unread = new(), new()
    with writer.transaction():
        writer.put_exchanges([opened(running)])
        writer.put_chunks([chunk(running, 1)])
        writer.put_chunks([chunk(new(), 1)])  # of an exchange whose head was lost
    record(writer, unread, read=False)
    assert pack_all(engine) == (0, 0)
    with writer.transaction():
        writer.put_exchanges([exchange(running)])
    understand(writer, meant(running), meant(unread))
    assert pack_all(engine) == (2, 40)


def test_what_is_too_large_for_memory_is_left(engine: Engine, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MOST_BYTES", 1000)
    new = ids()
    small, large = new(), new()
    record(writer, small, size=1)
    record(writer, large, size=100)
    assert pack_all(engine) == (1, 39)
    with reading(engine) as connection:
        assert len(list(read.chunks(connection, large))) == 39


def test_what_is_deleted_meanwhile_leaves_no_tape(
    engine: Engine, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = ids()
    gone, kept = new(), new()
    for key in (gone, kept):
        record(writer, key)
    packed = pack._packed

    def interfere(connection: object, key: UUID) -> object:
        made = packed(connection, key)  # type: ignore[arg-type]  # it is handed through
        if key == kept:
            delete_exchanges(engine, [gone])
        return made

    monkeypatch.setattr(pack, "_packed", interfere)
    assert pack_all(engine) == (1, 39)
    assert stored(engine, "tapes") == 2
    with reading(engine) as connection:
        assert list(read.chunks(connection, gone)) == []
    assert stored(engine, "chunks") == 0


def test_read_again_a_packed_exchange_says_the_same(engine: Engine, writer: Writer) -> None:
    key = ids()()
    record(writer, key)
    pack_all(engine)
    with reading(engine) as connection:
        (found,) = recorded(connection, [key])
        assert b"".join(data for _, data in found.response).count(b"data: ") == 38


def test_deleted_with_its_exchange(engine: Engine, writer: Writer) -> None:
    key = ids()()
    record(writer, key)
    pack_all(engine)
    assert delete_exchanges(engine, [key]) == (1, 0)
    assert stored(engine, "tapes") == 0


def test_a_damaged_tape_is_told(place: SqliteDatabase | PostgresDatabase, engine: Engine, writer: Writer) -> None:
    key = ids()()
    record(writer, key)
    pack_all(engine)
    damaged = "x'00'" if place.kind == "sqlite" else r"'\x00'::bytea"
    place.execute(f"UPDATE tapes SET data = {damaged} WHERE side = 1")  # noqa: S608 - a constant
    with reading(engine) as connection:
        with pytest.raises(BadTape):
            list(read.chunks(connection, key))
        (found,) = recorded(connection, [key])
        assert not found.bodies, "who reads history again leaves it as it was understood"


def test_an_exchange_that_failed_is_packed_too(engine: Engine, writer: Writer) -> None:
    key = ids()()
    record(writer, key)
    understand(writer, meant(key, outcome=Outcome.UPSTREAM_FAILED, failed=True), again=True)
    assert pack_all(engine) == (1, 39)

"""What ingest writes: each record once, carriage apart from meaning, positions in the same transaction."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import UTC
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select

from proxy.exchange import Origin, Outcome, Side, WireEnd
from proxy.store.engine import reading
from proxy.store.errors import ValueRefused
from proxy.store.read import get_exchange
from proxy.store.rows import ChangeRow, ExchangeRow, GapRow, HeadRow, MeaningRow
from proxy.store.schema import CARRIAGE, exchanges
from proxy.store.write import ERROR_BYTES, Writer
from tests.support.databases import Opener
from tests.unit.store.support import chunk, exchange, file_bytes, head, ids, journal, opened, sql, stored

FULL = {
    "ordinal": 7,
    "origin": Origin.RESEND,
    "client": "127.0.0.1",
    "client_kind": "openai-python 3",
    "credential": "ab12",
    "session": "s1",
    "tags": (("env", "ci"), ("project", "search")),
    "record": 1,
    "status": 529,
    "reason": "Overloaded",
    "wire_end": WireEnd.CLIENT_LEFT,
    "error": "the client left",
    "outcome": Outcome.CLIENT_LEFT,
    "request_bytes": 1,
    "response_bytes": 2,
    "request_chunks": 3,
    "response_chunks": 4,
    "unrecorded_bytes": 5,
    "lost_records": 6,
    "masked": 7,
    "request_sent_us": 8,
    "head_us": 9,
    "first_byte_us": 10,
    "last_byte_us": 11,
    "end_us": 12,
    "overhead_us": 13,
    "request_hash": b"a" * 32,
    "response_hash": b"b" * 32,
    "request_out_hash": b"c" * 32,
    "response_out_hash": b"d" * 32,
    "replay_of": UUID(int=7),
}


def test_every_field_of_an_exchange_comes_back(engine: Engine, writer: Writer) -> None:
    new = ids()
    for row in (exchange(new(), **FULL), ExchangeRow(new(), None, 5), exchange(new(), target="/x?" + "y" * 600)):
        with writer.transaction():
            writer.put_exchanges([row])
        with reading(engine) as connection:
            found = get_exchange(connection, row.id)
        assert found is not None
        assert {field.name: getattr(found, field.name) for field in fields(ExchangeRow)} == asdict(row)


def test_an_exchange_is_inserted_at_its_head_and_updated_at_its_end(engine: Engine, writer: Writer) -> None:
    row = opened(ids()())
    with writer.transaction():
        writer.put_exchanges([row])
    row.status, row.outcome, row.response_bytes, row.session = 200, Outcome.COMPLETED, 99, "late"
    with writer.transaction():
        writer.put_exchanges([row])
    assert sql(engine, "SELECT status, outcome, response_bytes, session FROM exchange_list") == [
        (200, "completed", 99, "late")
    ]


def test_an_update_leaves_meaning_alone(engine: Engine, writer: Writer) -> None:
    row = exchange(ids()())
    kinds: dict[type, object] = {int: 5, str: "6", bool: True}
    meaning = {column: kinds[column.type.python_type] for column in exchanges.c if column.name not in CARRIAGE}
    with writer.transaction():
        writer.put_exchanges([row])
        writer._connection.execute(exchanges.update().values({column.name: meaning[column] for column in meaning}))
    row.status = 500
    with writer.transaction():
        writer.put_exchanges([row])
    with reading(engine) as connection:
        assert tuple(connection.execute(select(*meaning)).one()) == tuple(meaning.values())
    assert sql(engine, "SELECT status FROM exchanges") == [(500,)]


@pytest.mark.parametrize("table", ["chunks", "heads", "changes", "gaps"])
def test_a_record_cannot_be_stored_twice(engine: Engine, writer: Writer, table: str) -> None:
    new = ids()()
    rows: dict[str, tuple[Any, Any]] = {
        "chunks": (writer.put_chunks, chunk(new, 1)),
        "heads": (writer.put_heads, head(new, [("a", "b")])),
        "changes": (writer.put_changes, ChangeRow(new, 1, 2, "{}")),
        "gaps": (writer.put_gaps, GapRow(new, 1, 2, Side.RESPONSE, 3, "full")),
    }
    put, row = rows[table]

    def store(again: list[Any]) -> None:
        with writer.transaction():
            writer.set_meta("with", table)
            put(again)

    store([row])
    with pytest.raises(ValueRefused):
        store([row])
    with pytest.raises(ValueRefused):
        store([row._replace(seq=5), row])
    assert stored(engine, table) == 1


def test_one_seq_belongs_to_one_side_only(writer: Writer) -> None:
    new = ids()()
    with pytest.raises(ValueRefused), writer.transaction():
        writer.put_chunks([chunk(new, 1, side=Side.REQUEST), chunk(new, 1, side=Side.RESPONSE)])


def test_nothing_to_put_is_nothing_put(engine: Engine, writer: Writer) -> None:
    with writer.transaction():
        for put in (writer.put_exchanges, writer.put_chunks, writer.put_heads, writer.put_changes, writer.put_gaps):
            put([])
        writer.put_meanings([], UTC)
    assert sql(engine, "SELECT count(*) FROM exchanges") == [(0,)]


def test_a_journal_keeps_its_id_and_moves_its_position(engine: Engine, writer: Writer) -> None:
    first, second = journal(uuid4(), node="a"), journal(uuid4(), node="b", started_us=1)
    with writer.transaction():
        assert writer.put_journal(first) == first.id
        writer.put_journal(second)
    known = first.id
    first.segment, first.offset, first.stored, first.highest_ordinal, first.lost_records = 2, 3, 4, 6, 1
    first.ended, first.id = True, None
    with writer.transaction():
        assert writer.put_journal(first) == known
        assert writer.journals() == [second, first]
    assert first.missing == 2
    with writer.transaction():
        assert writer.journals() == [second, first]
    assert sql(engine, "SELECT count(*) FROM journals") == [(2,)]


def test_position_and_rows_are_kept_or_lost_together(engine: Engine, writer: Writer) -> None:
    row, place = exchange(ids()()), journal(uuid4())

    def batch(chunks: int) -> None:
        with writer.transaction():
            writer.put_exchanges([row])
            place.offset += 100
            writer.put_journal(place)
            writer.put_chunks([chunk(row.id, 1)] * chunks)

    batch(1)
    with pytest.raises(ValueRefused):
        batch(2)
    assert sql(engine, 'SELECT "offset" FROM journals') == [(100,)]
    assert sql(engine, "SELECT count(*) FROM chunks") == [(1,)]


def test_open_exchanges_are_taken_up_again(engine: Engine, writer: Writer, opener: Opener) -> None:
    new = ids()
    rows = [opened(new(), **(FULL | {"outcome": None, "journal": 1})) for _ in range(3)]
    tagged = opened(new(), tags=(("a", "b"),))
    other, ended = opened(new(), journal=2), exchange(new())
    with writer.transaction():
        writer.put_exchanges([*rows, tagged, other, ended])
    again = Writer(opener())
    with again.transaction():
        found = again.open_exchanges(1)
        assert [{field.name: getattr(each, field.name) for field in fields(ExchangeRow)} for each in found] == [
            asdict(each) for each in (*rows, tagged)
        ]
        found[0].outcome = Outcome.INTERRUPTED
        again.put_exchanges(found[:1])
    with again.transaction():
        assert [each.id for each in again.open_exchanges(1)] == [rows[1].id, rows[2].id, tagged.id]
        assert [each.id for each in again.open_exchanges(2)] == [other.id]
        assert again.open_exchanges(3) == []


def test_chunk_totals_are_by_side(writer: Writer) -> None:
    new = ids()()
    with writer.transaction():
        writer.put_chunks([chunk(new, 1, b"abc", Side.REQUEST), chunk(new, 2, b"de"), chunk(new, 3, b"")])
        writer.put_chunks([chunk(ids(1)(), 1)])
        assert writer.chunk_totals(new) == {Side.REQUEST: (1, 3), Side.RESPONSE: (2, 2)}
        assert writer.chunk_totals(uuid4()) == {}


def test_a_dropped_body_leaves_no_trace(kind: str, engine: Engine, writer: Writer, database: Path) -> None:
    new = ids()
    kept, dropped = new(), new()
    with writer.transaction():
        writer.put_chunks([chunk(kept, 1, b"kept-mark" * 9)])
        writer.put_chunks([chunk(dropped, seq, b"body-mark" * (1 + seq * 100)) for seq in range(50)])
    with writer.transaction():
        writer.put_exchanges([exchange(dropped, record=1)])
        writer.put_meanings([MeaningRow(dropped, 1, Outcome.COMPLETED, bodiless=True)], UTC)
    assert sql(engine, "SELECT count(*) FROM chunks") == [(1,)]
    if kind == "sqlite":
        held = file_bytes(engine, database)
        assert b"kept-mark" in held
        assert b"body-mark" not in held


def test_an_interpretation_error_is_noted(engine: Engine, writer: Writer) -> None:
    row = exchange(ids()())
    with writer.transaction():
        writer.put_exchanges([row])
        writer.note_interpretation_error(row.id, "bad \ud800\0 json " + "x" * 9000)
    ((noted,),) = sql(engine, "SELECT interpretation_error FROM exchanges")
    assert noted.startswith("bad \ufffd\ufffd json")
    assert len(noted.encode()) <= ERROR_BYTES


def test_meta_is_set_and_read(writer: Writer) -> None:
    with writer.transaction():
        assert writer.meta("reporting_time_zone") is None
        writer.set_meta("reporting_time_zone", "UTC")
        writer.set_meta("reporting_time_zone", "Europe/Vienna")
        assert writer.meta("reporting_time_zone") == "Europe/Vienna"


def test_poison_in_every_field_is_stored_all_the_same(engine: Engine, writer: Writer) -> None:
    bad = "a\0b\ud800c" + "\N{SNOWMAN}" * 600
    new = ids()()
    huge = 2**70
    words = ("node", "upstream", "dialect", "method", "target", "client", "client_kind", "credential", "session")
    text_fields = dict.fromkeys(words, bad)
    numbers = dict.fromkeys(("ordinal", "request_bytes", "masked", "end_us"), huge)
    row = exchange(
        new, **text_fields, **numbers, reason=bad, error=bad, http_version=bad, tags=((bad, bad), ("a", "\0"))
    )
    with writer.transaction():
        writer.put_exchanges([row, exchange(ids(-(2**70))(), started_us=-huge, overhead_us=-huge)])
        writer.put_heads([HeadRow(new, 0, huge, -huge, huge, bad, [(bad, bad), ("date", bad), ("", "")])])
        writer.put_chunks([chunk(new, huge)])
        writer.put_changes([ChangeRow(new, 1, huge, bad)])
        writer.put_gaps([GapRow(new, 1, huge, 0, huge, bad)])
        writer.set_meta(bad[:9], bad)
    with reading(engine) as connection:
        found = get_exchange(connection, new)
    assert found is not None
    cleaned = bad.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert found.target == cleaned
    assert found.session is not None
    assert cleaned.startswith(found.session)
    assert 509 < len(found.session.encode()) <= 512
    assert found.request_bytes == found.end_us == 2**63 - 1
    assert found.tags == tuple(sorted(((cleaned[: len(found.session)],) * 2, ("a", "\ufffd"))))
    assert sql(engine, "SELECT name, value FROM headers ORDER BY position") == [
        (cleaned, cleaned),
        ("date", cleaned),
        ("", ""),
    ]
    assert sql(engine, "SELECT seq FROM chunks") == [(2**63 - 1,)]
    assert len(max(sql(engine, "SELECT value FROM names"), key=lambda row: len(row[0].encode()))[0].encode()) <= 512

"""A value that the database refuses: the one record is left out and named, everything else is stored."""

from __future__ import annotations

import logging

import pytest

from proxy.journal import record
from tests.support.journals import WORKER, Entry, House, append, exchange, exchange_id, json, merged, worker

JOURNAL = "SELECT stored, highest_ordinal, lost_records, ended FROM journals WHERE worker = ?"


def twice(entry: Entry) -> Entry:
    """The same record again, with other content: the key is taken."""
    return entry._replace(payload=b"again") if entry.kind == record.RESPONSE_CHUNK else entry


def many(count: int, first: int = 1) -> list[Entry]:
    return merged(*[exchange(number, chunks=[b"a", b"b", b"c"]) for number in range(first, first + count)])


def insert(entries: list[Entry], at: int, *more: Entry) -> list[Entry]:
    return [*entries[:at], *more, *entries[at:]]


@pytest.mark.parametrize("at", [0.0, 0.3, 0.999])
def test_only_the_guilty_record_is_left_out(house: House, caplog: pytest.LogCaptureFixture, at: float) -> None:
    caplog.set_level(logging.WARNING)
    entries = many(40)
    chunks = [place for place, entry in enumerate(entries) if entry.kind == record.RESPONSE_CHUNK]
    place = chunks[int(at * len(chunks))]
    guilty = entries[place]
    house.record(insert(entries, place + 1, twice(guilty)))
    assert house.drain() == [WORKER]
    rows = house.exchanges()
    assert len(rows) == 40
    assert {row["outcome"] for row in rows} == {"completed"}
    assert all(house.body(number) == [b"a", b"b", b"c"] for number in range(1, 41))
    marked = [row for row in rows if row["interpretation_error"] is not None]
    assert [row["exchange_id"].hex().encode() for row in marked] == [guilty.exchange]
    assert marked[0]["lost_records"] == 1
    assert "could not be stored" in marked[0]["interpretation_error"]
    assert house.one(JOURNAL, WORKER.bytes) == (40, 40, 1, 1)
    assert house.carrier.damage == 1
    assert f"{WORKER}-000000.journal offset" in caplog.text


def test_the_very_first_record(house: House) -> None:
    """There is no position before it but the beginning of the file."""
    house.database.refuse("heads", "INSERT", "NEW.side = 0 AND NEW.seq = 0")
    house.record(exchange(1))
    assert house.drain() == [WORKER]
    row = house.exchange(1)
    assert (row["outcome"], row["target"], row["lost_records"]) == ("completed", None, 1)
    assert len(house.body(1)) == 2
    assert house.one(JOURNAL, WORKER.bytes) == (0, 0, 1, 1)


def test_the_first_record_of_a_later_segment(house: House) -> None:
    entries = exchange(1, chunks=[b"a", b"b", b"c"])
    house.record([entries[0], entries[1], entries[2], entries[4], twice(entries[4]), *entries[5:]], segment_bytes=1)
    assert house.drain() == [WORKER]
    assert house.body(1) == [b"a", b"b", b"c"]
    assert house.files == []
    # A record that never was written (the change), and one that was refused.
    assert house.exchange(1)["lost_records"] == 2


def test_several_guilty_records_in_several_journals(house: House) -> None:
    for of in (1, 2):
        entries = many(20, 20 * of)
        chunks = [place for place, entry in enumerate(entries) if entry.kind == record.RESPONSE_CHUNK]
        for place in (chunks[50], chunks[20], chunks[19], chunks[0]):
            entries = insert(entries, place + 1, twice(entries[place]))
        house.record(entries, worker(of))
    assert sorted(house.drain()) == [worker(1), worker(2)]  # which one ends first is up to the machine
    rows = house.exchanges()
    assert {row["outcome"] for row in rows} == {"completed"}
    assert sum(row["lost_records"] for row in rows) == 8
    assert house.query("SELECT count(*), count(DISTINCT exchange_id) FROM chunks") == [(4 * 40, 40)]


KINDS = {
    "a chunk": Entry(record.RESPONSE_CHUNK, b"", 4, 0, b"again"),
    "a request head": exchange(1)[0],
    "a response head": exchange(1)[2],
    "a change": exchange(1)[3],
    "a gap": Entry(record.GAP, b"", 4, 0, json({"side": 2**63, "size": 1, "reason": "journal"})),
    "trailers": Entry(record.TRAILERS, b"", 4, 0, json({"side": -(2**63) - 1, "headers": []})),
}


@pytest.mark.parametrize("entry", KINDS.values(), ids=KINDS)
def test_every_kind_can_be_left_out(house: House, entry: Entry) -> None:
    """Keys that are taken, and numbers that no column holds and nobody bounds."""
    key = exchange_id(1).hex.encode()
    entries = insert(exchange(1), 5, entry._replace(exchange=key))
    house.record(merged(entries, exchange(2)))
    assert house.drain() == [WORKER]
    assert [row["outcome"] for row in house.exchanges()] == ["completed", "completed"]
    assert [row["lost_records"] for row in house.exchanges()] == [1, 0]
    assert house.exchange(1)["interpretation_error"] is not None
    assert house.body(1) == [b"data: one\n\n", b"data: two\n\n"]


def test_while_the_worker_lives(house: House) -> None:
    """After the guilty record everything goes on at full size, also what comes later."""
    writer = house.journal()
    entries = many(3)
    append(writer, insert(entries, 20, twice(entries[14]), twice(entries[15])))
    house.drain()
    before = len(house.query("SELECT 1 FROM chunks"))
    append(writer, many(3, 10))
    house.drain()
    assert len(house.query("SELECT 1 FROM chunks")) == before + 12
    writer.close()
    assert house.drain() == [WORKER]


def test_a_restart_in_the_middle_of_a_search(house: House) -> None:
    entries = many(30)
    guilty = next(place for place, entry in enumerate(entries) if entry.kind == record.RESPONSE_CHUNK and place > 99)
    house.record(insert(entries, guilty + 1, twice(entries[guilty])))
    for _ in range(4):
        house.carrier.pass_once()
        house.stop()
    house.drain()
    assert {row["outcome"] for row in house.exchanges()} == {"completed"}
    assert sum(row["lost_records"] for row in house.exchanges()) == 1
    assert house.query("SELECT count(*) FROM chunks") == [(4 * 30,)]


def test_a_journal_that_is_refused_whatever_is_left_out_stops_no_other(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    house.database.refuse("journals", "INSERT", f"NEW.worker = {house.database.id_sql(worker(1))}")
    house.record(many(10), worker(1))
    house.record(exchange(99), worker(2))
    assert house.drain() == [worker(2)]
    assert house.carrier.pass_once() == (False, [])
    assert house.carrier.stuck == {worker(1)}
    assert len(house.files) == 1
    assert len(caplog.records) == 1
    house.database.allow()
    house.stop()
    assert house.drain() == [worker(1)]
    assert {row["outcome"] for row in house.exchanges()} == {"completed"}
    assert sum(row["lost_records"] for row in house.exchanges()) == 0

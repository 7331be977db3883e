"""From records to rows: what is stored of an exchange, when it ends, and that rows and position are one."""

from __future__ import annotations

import itertools

import pytest

from proxy.exchange import Side, WireEnd
from proxy.ingest import tail
from proxy.ingest.carry import AIM
from proxy.journal import record
from tests.support.journals import (
    DEADLINE,
    WORKER,
    Entry,
    House,
    append,
    exchange,
    exchange_id,
    image,
    json,
    merged,
    worker,
)

JOURNAL = 'SELECT segment, "offset", stored, highest_ordinal, lost_records, ended FROM journals WHERE worker = ?'


def test_all_of_an_exchange(house: House) -> None:
    house.record(exchange(1, extras=True, chunks=[b"a", b"", b"b\0\xff"], session="s", tags=[("env", "ci")]))
    assert house.drain() == [WORKER]
    row = house.exchange(1)
    assert (row["outcome"], row["wire_end"], row["status"], row["reason"]) == ("completed", "upstream_end", 200, "OK")
    assert (row["request_chunks"], row["request_bytes"]) == (1, 14)
    assert (row["response_chunks"], row["response_bytes"], row["unrecorded_bytes"]) == (3, 11, 7)
    assert (row["session"], row["client_kind"], row["lost_records"]) == ("s", "OpenAI/Python 2.0", 0)
    assert row["interpretation_error"] is None
    assert house.body(1, Side.REQUEST) == [b'{"model": "m"}']
    assert house.body(1) == [b"a", b"", b"b\0\xff"]
    headers = house.query("SELECT side, name, value FROM headers WHERE exchange_id = ?", exchange_id(1).bytes)
    assert (Side.REQUEST, "X-Request-Id", "r1") in headers
    assert (Side.RESPONSE, "Link", "</a>") in headers
    assert (Side.RESPONSE_TRAILERS, "X-Sum", "1") in headers
    assert house.query("SELECT side, bytes FROM gaps") == [(Side.RESPONSE, 7)]
    assert house.query("SELECT name, value FROM tags") == [("env", "ci")]
    assert house.one("SELECT data FROM changes").startswith('{"kind":"response_header_added"')


def test_outcomes(house: House) -> None:
    ends = list(WireEnd)
    house.record(merged(*[exchange(number, wire_end=end) for number, end in enumerate(ends, 1)]))
    house.drain()
    assert [(row["wire_end"], row["outcome"]) for row in house.exchanges()] == [
        ("upstream_end", "completed"),
        ("client_left", "client_left"),
        ("upstream_error", "upstream_failed"),
        ("journal_error", "interrupted"),
        ("worker_died", "interrupted"),
        ("refused", "refused"),
    ]


def test_an_interim_response_is_not_the_status(house: House) -> None:
    house.record(exchange(1, extras=True, status=429)[:4])
    house.drain()
    row = house.exchange(1)
    assert (row["status"], row["outcome"], row["head_us"]) == (429, "interrupted", 30)


# Rows and position


def test_the_position_follows(house: House) -> None:
    writer = house.journal()
    stored = 0
    for number in range(1, 4):
        for entry in exchange(number):
            append(writer, [entry])
            house.drain()
            stored += entry.kind == record.REQUEST_HEAD
            assert house.one(JOURNAL, WORKER.bytes) == (0, writer.offset, stored, stored, 0, 0)


def test_rows_and_position_commit_together(house: House) -> None:
    """The position is written last; if it cannot be, no row stays that would be stored a second time."""
    writer = house.journal()
    append(writer, exchange(1)[:4])
    house.drain()
    before = house.everything()
    house.database.refuse("journals", "UPDATE")
    append(writer, exchange(1)[4:])
    house.drain()
    assert house.everything() == before
    house.database.allow()
    house.stop()
    house.drain()
    assert house.body(1) == [b"data: one\n\n", b"data: two\n\n"]
    assert house.exchange(1)["outcome"] == "completed"


def test_a_batch_is_bounded_and_the_rest_follows(house: House) -> None:
    """Neither many records nor large ones make one long transaction; what is left is busy work, not a wait."""
    pieces = [b"%d" % number for number in range(12_000)]
    house.record(exchange(1, chunks=pieces))
    house.record(exchange(2, chunks=[b"x" * 1_000_000] * 30), worker(1))
    passes = [house.carrier.pass_once() for _ in range(3)]
    assert all(busy for busy, _ in passes)
    assert len(house.body(2)) < 30
    house.drain()
    assert house.body(1) == pieces
    assert len(house.body(2)) == 30


def test_a_batch_shrinks_while_transactions_are_slow_and_grows_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "READ_SECONDS", DEADLINE)  # a slow machine would end a batch as well
    house.record(merged(*[exchange(number)[:1] for number in range(1, 3001)]))
    time = itertools.count(step=AIM * 4)  # so long does every transaction take

    def stored() -> int:
        before = len(house.query("SELECT 1 FROM exchanges"))
        carrier.pass_once()
        return len(house.query("SELECT 1 FROM exchanges")) - before

    carrier = house.carrier
    carrier._clock = lambda: next(time)
    assert [stored() for _ in range(4)] == [500, 125, 50, 50]
    carrier._clock = lambda: 0.0
    assert [stored() for _ in range(5)] == [50, 100, 200, 400, 800]


# Alive or dead


def test_a_living_worker_keeps_its_exchanges_open(house: House) -> None:
    writer = house.journal()
    append(writer, merged(exchange(1), exchange(2, wire_end=None)))
    assert house.drain() == []
    assert [row["outcome"] for row in house.exchanges()] == ["completed", None]
    assert house.carrier.pass_once() == (False, [])
    house.stop()
    assert house.drain() == []
    assert house.exchange(2)["outcome"] is None
    writer.close()
    assert house.drain() == [WORKER]
    row = house.exchange(2)
    assert (row["outcome"], row["wire_end"]) == ("interrupted", "worker_died")
    assert row["error"] == "the worker died before the exchange ended"
    assert (row["response_chunks"], row["response_bytes"]) == (2, 22)
    assert house.one(JOURNAL, WORKER.bytes)[5] == 1


def test_a_worker_that_died_before_ingest_began(house: House) -> None:
    house.record(exchange(1, wire_end=None))
    assert house.drain() == [WORKER]
    assert house.exchange(1)["outcome"] == "interrupted"
    assert house.files == []


def test_a_worker_that_recorded_nothing(house: House) -> None:
    house.put(image([]))
    assert house.drain() == [WORKER]
    assert house.one(JOURNAL, WORKER.bytes) == (0, 0, 0, 0, 0, 1)
    assert house.files == []


def test_a_file_that_was_never_begun(house: House) -> None:
    """As after a power failure: the name was written, the first line was not."""
    house.put(image([])._replace(data=b""))
    house.record(exchange(1), worker(1))
    assert house.drain() == [WORKER, worker(1)]
    assert house.files == []


def test_several_journals_at_once(house: House) -> None:
    alive = house.journal(worker(1))
    append(alive, exchange(1, wire_end=None))
    house.record(exchange(2), worker(2), segment_bytes=300)
    house.record(exchange(3, wire_end=None), worker(3))
    assert house.drain() == [worker(2), worker(3)]
    assert [row["outcome"] for row in house.exchanges()] == [None, "completed", "interrupted"]
    journals = house.query("SELECT worker, ended FROM journals ORDER BY id")
    assert journals == [(worker(1).bytes, 0), (worker(2).bytes, 1), (worker(3).bytes, 1)]
    append(alive, exchange(1)[-1:])
    alive.close()
    assert house.drain() == [worker(1)]
    assert {row["outcome"] for row in house.exchanges()} == {"completed", "interrupted"}
    assert house.query("SELECT exchange_id, seq FROM chunks GROUP BY 1, 2 HAVING count(*) > 1") == []


def test_a_journal_that_appears_later(house: House) -> None:
    house.record(exchange(1), worker(1))
    house.drain()
    house.record(exchange(2), worker(2))
    assert house.drain() == [worker(2)]
    assert len(house.exchanges()) == 2


# Every exchange is counted


def test_dense_ordinals_miss_nothing(house: House) -> None:
    house.record(merged(*[exchange(number) for number in range(1, 6)]))
    house.drain()
    assert house.one(JOURNAL, WORKER.bytes)[2:4] == (5, 5)


def test_a_lost_head_is_missed_and_its_chunks_are_kept(house: House) -> None:
    shape = image(merged(exchange(1), exchange(2), exchange(3)))
    (head,) = [each for each in shape.records if each.exchange == exchange_id(2).hex.encode() and each.seq == 0]
    broken = bytearray(shape.data)
    broken[head.offset + 1] ^= 1
    house.put(shape._replace(data=bytes(broken)))
    house.drain()
    assert house.one(JOURNAL, WORKER.bytes)[2:5] == (2, 3, 1)
    assert house.body(2) == [b"data: one\n\n", b"data: two\n\n"]
    row = house.exchange(2)
    assert (row["ordinal"], row["target"], row["outcome"], row["lost_records"]) == (None, None, "completed", 1)
    assert row["started_us"] == exchange_id(2).int // 2**80 * 1000, "what its id tells"


def test_damage_is_counted_with_the_journal_and_the_exchange(house: House) -> None:
    """A damaged head, a damaged payload, a torn tail: three losses, two of which are known to be an exchange's."""
    entries = merged(exchange(1, chunks=[b"a", b"b", b"c", b"d"]), exchange(2, wire_end=None))
    shape = image(entries)
    mine = [each for each in shape.records if each.exchange == exchange_id(1).hex.encode()]
    broken = bytearray(shape.data)
    broken[mine[4].offset] ^= 1
    broken[mine[6].end - 2] ^= 1
    house.put(shape._replace(data=bytes(broken[:-3])))
    house.drain()
    assert house.body(1) == [b"b", b"d"]
    assert house.exchange(1)["lost_records"] == 2
    assert house.one(JOURNAL, WORKER.bytes)[4] == 3
    assert house.carrier.damage == 3


def test_records_of_no_exchange_are_passed_over(house: House) -> None:
    note = Entry(record.NOTE, record.NIL, 0, 0, b"")
    house.record([note, *exchange(1), note])
    house.drain()
    assert len(house.exchanges()) == 1
    assert house.one(JOURNAL, WORKER.bytes)[2:5] == (1, 1, 0)


# What is to be kept


def test_a_wish_of_a_later_version_records_all(house: House) -> None:
    head = json({"record": "everything and more"})[1:-1]
    entries = exchange(1)
    changed = entries[0]._replace(payload=entries[0].payload[:-1] + b"," + head + b"}")
    house.record([changed, *entries[1:]])
    house.drain()
    assert house.exchange(1)["record"] == "all"
    assert len(house.body(1)) == 2

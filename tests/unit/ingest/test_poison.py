"""Nothing recorded can stop ingest: what it cannot read or store it counts, and the rest is stored."""

from __future__ import annotations

import json as stdlib_json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.exchange import HeaderList, Side
from proxy.journal import record
from tests.support.journals import WORKER, Entry, House, a_house, exchange, exchange_id, json, merged, worker

KEY = exchange_id(1).hex.encode()
BOUND = 2**63 - 1


def with_payload(kind: bytes, payload: bytes, number: int = 1) -> list[Entry]:
    """An exchange, its record of a kind replaced (or one added where it has none)."""
    entries = exchange(number, ordinal=1, extras=True)
    places = [place for place, entry in enumerate(entries) if entry.kind == kind]
    place = places[-1] if places else len(entries) - 1
    told = Entry(kind, exchange_id(number).hex.encode(), entries[place].seq, 50, payload)
    return [*entries[:place], told, *entries[place + 1 :]]


def changed(kind: bytes, number: int = 1, **fields: Any) -> list[Entry]:
    """The same with fields of the record's own JSON replaced."""
    (payload,) = [entry.payload for entry in exchange(number, ordinal=1, extras=True) if entry.kind == kind][-1:]
    return with_payload(kind, stdlib_json.dumps({**stdlib_json.loads(payload), **fields}).encode(), number)


class Stored(NamedTuple):
    """What became of a poisoned exchange, and of its journal."""

    number: int
    row: dict[str, Any]
    journal: dict[str, Any]


def store_all(house: House, made: Sequence[Callable[[int], list[Entry]]]) -> list[Stored]:
    """Store the exchange of each, made of its number, beside an innocent one in a journal of their own.

    A house for each would find no more, and take its time.
    """
    numbers = {worker(place): 2 * place + 1 for place in range(len(made))}
    for make, (of, number) in zip(made, numbers.items(), strict=True):
        house.record(merged(make(number), exchange(number + 1, ordinal=2)), of=of)
    assert sorted(house.drain()) == sorted(numbers)
    assert house.files == []
    rows = {row["id"]: row for row in house.exchanges()}
    journals = {UUID(bytes=bytes(row["worker"])): row for row in house.database.dicts("SELECT * FROM journals")}
    for number in numbers.values():
        innocent = rows[str(exchange_id(number + 1))]
        assert (innocent["outcome"], innocent["lost_records"], len(house.body(number + 1))) == ("completed", 0, 2)
    return [Stored(number, rows[str(exchange_id(number))], journals[of]) for of, number in numbers.items()]


def store(house: House, entries: list[Entry]) -> dict[str, Any]:
    """Store exchange 1 beside an innocent one; its row."""
    (stored,) = store_all(house, [lambda _: entries])
    return stored.row


# What cannot be read

READ = [record.REQUEST_HEAD, record.RESPONSE_HEAD, record.TRAILERS, record.CHANGE, record.GAP, record.END]
UNREADABLE = {
    "nothing": b"",
    "no JSON": b"GET / HTTP/1.1",
    "cut": b'{"ordinal": 1, "sta',
    "another shape": b"[1, 2, 3]",
    "null": b"null",
    "no fields": b"{}",
    "not UTF-8": b'{"kind": "\xff\xfe"}',
    "zeros": b"\0" * 100,
    "deep": b'{"a":' * 50_000,
    "deep and whole": b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a number of 5000 digits": b'{"ordinal": ' + b"9" * 5000 + b"}",
    "a surrogate alone": b'{"kind": "\\ud800", "headers": [], "target": "\\udfff"}',
}


@pytest.mark.parametrize("what", READ, ids=bytes.decode)
def test_unreadable(house: House, what: bytes) -> None:
    stored = store_all(house, [partial(with_payload, what, payload) for payload in UNREADABLE.values()])
    for name, (number, row, journal) in zip(UNREADABLE, stored, strict=True):
        assert row["lost_records"] == 1, name
        assert row["outcome"] == ("interrupted" if what == record.END else "completed"), name
        assert house.body(number) == [b"data: one\n\n", b"data: two\n\n"], name
        counts = (1, 1 if what == record.REQUEST_HEAD else 2)
        assert (journal["lost_records"], journal["stored"]) == counts, name
    assert house.carrier.damage == len(UNREADABLE)


@pytest.mark.parametrize("what", [b"tun", b"new", b"x"])
def test_kinds_that_nobody_knows(house: House, what: bytes) -> None:
    """They are lost with their segment, so they are counted."""
    entries = exchange(1)
    strange = [Entry(what, KEY, 5, 50, b"\0" * 50), *[entry._replace(seq=entry.seq + 1) for entry in entries[5:]]]
    row = store(house, [*entries[:5], *strange])
    assert (row["outcome"], row["lost_records"], len(house.body(1))) == ("completed", 1, 2)
    assert house.carrier.damage == 1


# What must not be taken as it is

HUGE = [2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30]
NUMBERS = [
    *[(record.REQUEST_HEAD, field) for field in ("ordinal", "started_us")],
    *[(record.RESPONSE_HEAD, "status"), (record.TRAILERS, "side"), (record.GAP, "side"), (record.GAP, "size")],
    *[(record.END, field) for field in ("request_bytes", "response_chunks", "head_us", "overhead_us")],
]


@pytest.mark.parametrize(("what", "field"), NUMBERS)
def test_integers_beyond_64_bits(house: House, what: bytes, field: str) -> None:
    """They become the nearest that fits, or cost the one record that has them."""
    made = [partial(changed, what, **{field: number}) for number in HUGE]
    for huge, (number, row, journal) in zip(HUGE, store_all(house, made), strict=True):
        assert row["outcome"] == "completed", huge
        assert row["lost_records"] in (0, 1), huge
        assert house.body(number) == [b"data: one\n\n", b"data: two\n\n"], huge
        assert abs(journal["highest_ordinal"]) <= BOUND, huge


@pytest.mark.parametrize("field", ["origin", "wire_end"])
def test_numbers_without_a_name(house: House, field: str) -> None:
    what = record.REQUEST_HEAD if field == "origin" else record.END
    row = store(house, changed(what, **{field: 99}))
    assert row["lost_records"] == 1
    assert row["outcome"] == ("completed" if field == "origin" else "interrupted")
    stored, highest = house.one("SELECT stored, highest_ordinal FROM journals")
    assert (stored, highest) == ((1, 2) if field == "origin" else (2, 2)), "a head that was not stored is not counted"


def test_hashes_that_are_none(house: House) -> None:
    """Nothing of an end that is not understood is taken; above all not half of it."""
    row = store(house, changed(record.END, request_hash="not hex"))
    assert (row["lost_records"], row["outcome"], row["wire_end"]) == (1, "interrupted", "worker_died")
    assert row["end_us"] is None


TEXTS = {
    "a zero": ("a\0b", "a\ufffdb"),
    "zeros alone": ("\0", "\ufffd"),
    "controls": ("\x1b[31m\r\n\x7f\x9b", "\x1b[31m\r\n\x7f\x9b"),
    "beyond the plane": ("\U0001f600", "\U0001f600"),
    "not characters": ("\ufffe\uffff", "\ufffe\uffff"),
    "long": ("ä" * 3000, "ä" * 3000),
    "empty": ("", ""),
}


def test_texts(house: House) -> None:
    fields = ("upstream", "dialect", "method", "target", "http_version", "client", "credential", "session")

    def made(text: str, number: int) -> list[Entry]:
        told = dict.fromkeys(fields, text)
        entries = changed(record.REQUEST_HEAD, number, **told, tags=[[text, text]], headers=[["A", text]])
        return [*entries[:-1], changed(record.END, number, error=text)[-1]]

    stored = store_all(house, [partial(made, text) for text, _ in TEXTS.values()])
    for (name, (_, kept)), (number, row, _) in zip(TEXTS.items(), stored, strict=True):
        assert (row["outcome"], row["lost_records"]) == ("completed", 0), name
        assert row["target"] == kept, name
        assert (row["method"] or "") == kept[:256], "of what is a name 512 bytes count"
        assert row["error"] == kept[:2048], name
        header = "SELECT value FROM headers WHERE exchange_id = ? AND side = 0"
        assert house.query(header, exchange_id(number).bytes) == [(kept,)], name


def test_every_byte_of_a_header(house: House) -> None:
    """Names and values are latin-1: no value of a byte is lost but zero, which no database takes."""
    octets = [bytes([value]).decode("latin-1") for value in range(256)]
    headers: HeaderList = [("X-One", octet) for octet in octets]
    headers += [("x-request-id", octet) for octet in octets]
    headers += [(octet, "value") for octet in octets]
    headers += [("X-All", "".join(octets)), ("", "")]
    entries = exchange(1, headers=headers)
    answer = entries[2]._replace(payload=json({"status": 200, "reason": "".join(octets), "headers": headers}))
    row = store(house, [*entries[:2], answer, *entries[3:]])
    assert row["lost_records"] == 0
    kept = [(name.replace("\0", "\ufffd"), value.replace("\0", "\ufffd")) for name, value in headers]
    for side in (Side.REQUEST, Side.RESPONSE):
        sql = "SELECT name, value FROM headers WHERE exchange_id = ? AND side = ? ORDER BY position"
        assert house.query(sql, exchange_id(1).bytes, int(side)) == kept
    assert row["reason"] == "".join(octets).replace("\0", "\ufffd")


def test_numbers_of_records(house: House) -> None:
    """A record's own numbers have 19 digits at most, which is more than a column holds."""
    entries = exchange(1)
    last = 10**19 - 1
    row = store(house, [*entries[:-1], Entry(record.RESPONSE_CHUNK, KEY, last, last, b"late"), entries[-1]])
    assert row["outcome"] == "completed"
    assert house.body(1)[-1] == b"late"
    assert house.one("SELECT max(seq) FROM chunks") == BOUND


def test_an_id_that_is_no_uuid7(house: House) -> None:
    entries = [entry._replace(exchange=b"f" * 32) for entry in exchange(1)[1:]]
    house.record([*entries, *exchange(2)])
    assert house.drain() == [WORKER]
    assert len(house.exchanges()) == 2


# Anything at all

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(HUGE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["ordinal", "started_us", "target", "headers", "tags", "status", "kind", "side", "size", "wire_end", "origin"]
noise = (
    st.binary(max_size=100)
    | values.map(lambda value: stdlib_json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(FIELDS), values, max_size=6).map(lambda value: stdlib_json.dumps(value).encode())
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poison")


COUNTER = iter(range(10**9))


records = st.lists(st.tuples(st.sampled_from([*READ, b"tun", b"new"]), noise), min_size=1, max_size=12)


@settings(max_examples=15)
@given(st.lists(records, min_size=2, max_size=6))
def test_anything_at_all(folder: Path, kind: str, several: list[list[tuple[bytes, bytes]]]) -> None:
    def made(payloads: list[tuple[bytes, bytes]], number: int) -> list[Entry]:
        key = exchange_id(number).hex.encode()
        return [Entry(kind, key, seq, seq, payload) for seq, (kind, payload) in enumerate(payloads)]

    with a_house(folder / str(next(COUNTER)), kind) as house:
        stored = store_all(house, [partial(made, payloads) for payloads in several])
    assert all(row["outcome"] is not None for _, row, _ in stored)

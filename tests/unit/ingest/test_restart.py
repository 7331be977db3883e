"""However often ingest dies and begins anew, and wherever: the same rows as in one go, none twice, none missing."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.exchange import Origin, WireEnd
from proxy.journal import record
from proxy.store.errors import DatabaseAway
from tests.support.journals import Entry, House, a_house, append, exchange, exchange_id, merged

PIECES = [b"", b"x", b"data: {}\n\n", b"@ res+ ", b"\0\xff" * 700]
KEY = exchange_id(99).hex.encode()
STRANGE = [
    [],
    [Entry(b"new", KEY, 0, 0, b"{}")],
    [Entry(record.END, KEY, 3, 0, b"not JSON")],
    [Entry(record.NOTE, record.NIL, 0, 0, b"")],
    [Entry(record.CHANGE, KEY, 1, 0, b'{"kind": "response_header_added", "headers": []}')],
]
"""Records out of order: unknown, unreadable, of nothing, of an exchange whose head is lost."""


@st.composite
def tapes(draw: st.DrawFn) -> list[Entry]:
    """A journal's records: some exchanges side by side, of every kind that there is."""
    made = []
    for number in range(1, draw(st.integers(2, 4)) + 1):
        entries = exchange(
            number,
            chunks=draw(st.lists(st.sampled_from(PIECES), max_size=4)),
            upload=draw(st.lists(st.sampled_from(PIECES), max_size=2)),
            wire_end=draw(st.sampled_from([None, *WireEnd])),
            extras=draw(st.booleans()),
            record=draw(st.sampled_from(["all", "meta"])),
            origin=draw(st.sampled_from(list(Origin))),
            session=draw(st.sampled_from([None, "s"])),
            tags=draw(st.sampled_from([[], [("env", "ci")], [("env", "x"), ("a", "b"), ("env", "x")]])),
            target=draw(st.sampled_from(["/v1", "/" + "long" * 400, "/é\x00"])),
        )
        lost = draw(st.sampled_from([0, 0, 0, 1]))  # its head, once in a while
        made.append(entries[lost:])
    return merged(*made, draw(st.sampled_from(STRANGE)))


steps = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(["die", "die", "go on", "locked"])), min_size=3, max_size=10
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("restart")


COUNTER = iter(range(10**9))


def fresh(folder: Path, kind: str) -> AbstractContextManager[House]:
    return a_house(folder / str(next(COUNTER)), kind)


def in_one_go(folder: Path, kind: str, entries: list[Entry]) -> dict[str, list[Any]]:
    with fresh(folder, kind) as house:
        house.record(entries)
        house.drain()
        return house.everything()


def fail(house: House) -> None:
    """A pass that finds the database locked, if it finds something to store."""
    with house.database.locked(), suppress(DatabaseAway):
        house.drain()
    house.stop()


@settings(max_examples=14)
@given(tapes(), steps, st.sampled_from([1, 700, 10**9]))
def test_cut_anywhere(
    folder: Path, kind: str, entries: list[Entry], cuts: list[tuple[int, str]], segment_bytes: int
) -> None:
    expected = in_one_go(folder, kind, entries)
    with fresh(folder, kind) as house:
        writer = house.journal(segment_bytes=segment_bytes)
        left = list(entries)
        for size, what in cuts:
            append(writer, left[:size])
            del left[:size]
            if what == "locked":
                fail(house)
                continue
            house.drain()
            if what == "die":
                house.stop()
        append(writer, left)
        writer.close()
        house.drain()
        found = house.everything()
        assert house.files == []
    expected["journals"] = [(*row[:1], *row[2:]) for row in expected["journals"]]
    found["journals"] = [(*row[:1], *row[2:]) for row in found["journals"]]  # they differ in segments, for a reason
    assert found == expected


def test_between_any_two_records(folder: Path, kind: str) -> None:
    entries = merged(
        exchange(1, extras=True, record="meta"),
        exchange(2, chunks=[b"a", b"b", b"c"], tags=[("env", "ci")]),
        exchange(3, wire_end=None, chunks=[b"tail"]),
    )
    expected = in_one_go(folder, kind, entries)
    with fresh(folder, kind) as house:
        writer = house.journal()
        for entry in entries:
            append(writer, [entry])
            house.drain()
            house.stop()
        writer.close()
        house.drain()
        assert house.everything() == expected


def test_what_was_stored_is_not_stored_again(house: House) -> None:
    """The journal is still there, and its position is all that keeps it from being read again."""
    writer = house.journal()
    append(writer, merged(exchange(1), exchange(2)))
    house.drain()
    before = house.everything()
    for _ in range(3):
        house.stop()
        house.drain()
    assert house.everything() == before
    assert house.files == [f"{writer.worker}-000000.journal"]

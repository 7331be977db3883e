"""JSON lines: whatever is wrong with one is told with its number, in one way."""

from __future__ import annotations

import base64
import hashlib
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Side, WireEnd
from proxy.replay import lines
from proxy.replay.lines import BadLine, exchanges
from proxy.replay.shelf import Shelved, put
from proxy.store.engine import open_engine, reading
from proxy.store.migrate import upgrade
from proxy.store.read import get_exchange

MIB = 2**20
BODY = [b"data: \xe2\x82", b"\xac\n\n"]


def one(**fields: Any) -> dict[str, Any]:
    """An exchange, as a line has it."""
    named = {"wire_end": "upstream_end", "outcome": "completed", "record": "all", "status": 200, "target": "/openai/x"}
    counts = dict.fromkeys(("unrecorded_bytes", "lost_records", "masked"), 0)
    sizes = {"request_bytes": 0, "request_chunks": 0, "response_bytes": sum(map(len, BODY)), "response_chunks": 2}
    head = {"side": "response", "seq": 1, "at_us": 20, "status": 200, "reason": "OK", "headers": [("A", "b")]}
    chunks = [
        {"side": "response", "seq": seq, "at_us": seq, "size": len(data), "base64": base64.b64encode(data).decode()}
        for seq, data in enumerate(BODY, 2)
    ]
    lists = {"heads": [head], "chunks": chunks, "changes": [], "gaps": [], "tags": []}
    hashed = {"response_hash": hashlib.sha256(b"".join(BODY)).hexdigest()}
    return {"id": str(UUID(int=5)), "started_us": 10**15, **named, **counts, **sizes, **lists, **hashed, **fields}


def text_of(*found: dict[str, Any]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in found)


def read(text: bytes) -> list[Shelved | None]:
    return list(exchanges(BytesIO(text)))


def test_what_is_read() -> None:
    (found,) = read(text_of(one(tags=[("b", "2"), ("a", "1")], masked=1, later="unknown")))
    assert found is not None
    assert (found.row.id, found.row.wire_end, found.row.origin.name) == (UUID(int=5), WireEnd.UPSTREAM_END, "IMPORT")
    assert (found.row.tags, found.row.masked, found.row.journal) == ([("a", "1"), ("b", "2")], 1, None)
    assert [(each.side, each.seq, each.data) for each in found.chunks] == [(Side.RESPONSE, 2, BODY[0]), (1, 3, BODY[1])]
    assert found.heads[0].headers == [("A", "b")]


def test_blank_lines_and_a_missing_last_end_are_no_fault() -> None:
    assert len(read(b"\n" + text_of(one()) + b"\r\n" + text_of(one())[:-1])) == 2


def test_what_was_still_running_is_told_apart() -> None:
    assert read(text_of(one(wire_end=None, outcome=None))) == [None]


def chunk(**fields: Any) -> dict[str, Any]:
    return {"side": "response", "seq": 9, "at_us": 1, "size": 1, "text": "a", **fields}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"started_us": "now"}, "this is no exchange of `export jsonl`: expected `int`, got `str` - at `$.started_us`"),
        ({"chunks": [chunk(side="up")]}, "invalid enum value 'up'"),
        ({"chunks": [chunk(size=2)]}, "the chunk with the seq 9 has not its 2 bytes"),
        ({"chunks": [chunk(text=None)]}, "the chunk with the seq 9 has not its 1 bytes"),
        ({"chunks": [chunk(text=None, base64="?")]}, "invalid base64 encoded string"),
        ({"chunks": [chunk()]}, "the response is not what was recorded"),
        ({"response_hash": "0" * 64}, "the response is not what was recorded"),
        ({"response_hash": "0"}, "expected `str` matching regex"),
        ({"response_bytes": 9}, "the response is not what was recorded"),
        ({"chunks": [chunk(), chunk()], "unrecorded_bytes": 1}, "two of its chunks have the same seq"),
        ({"gaps": [{"side": "request", "seq": -1, "at_us": 0, "bytes": 1, "reason": None}]}, "expected `int` >= 0"),
        ({"outcome": "fine"}, "invalid enum value 'fine'"),
        ({"id": "5"}, "invalid UUID"),
        ({"heads": 2**70}, "expected `array`"),
    ],
)
def test_an_edited_one_names_the_line(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadLine) as raised:
        read(text_of(one(), one(**fields)))
    assert str(raised.value).startswith("line 2: ")
    assert says in str(raised.value)


@pytest.mark.parametrize("end", [1, 100, 600, -2])
def test_a_torn_one_names_the_line(end: int) -> None:
    with pytest.raises(BadLine, match="line 3: this is no whole JSON object, and the file ends in it"):
        read(text_of(one(), one()) + text_of(one())[:end])


def test_a_line_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 2 * MIB)
    with pytest.raises(BadLine, match="line 1: it has more than 2 MiB"):
        read(b"x" * 3 * MIB)


WHOLE = text_of(one())


@given(st.integers(0, len(WHOLE)), st.binary(max_size=6) | st.sampled_from([b"[" * 5000, b'"\\ud800"', b"1e999"]))
def test_any_bytes_are_read_or_refused_in_one_way(at: int, more: bytes) -> None:
    for text in (WHOLE[:at] + more + WHOLE[at:], WHOLE[:at] + more + WHOLE[at + len(more) :]):
        with suppress(BadLine):
            read(text)


# Into a store


def taken_in(folder: Path, made: Iterator[bytes]) -> tuple[int, int]:
    """How many exchanges came into a new database, and the most memory that it took."""
    with (folder / "lines").open("wb") as out:
        out.writelines(made)
    engine = open_engine(f"sqlite:///{folder / 'wiretape.db'}", create=True)
    upgrade(engine)
    tracemalloc.start()
    try:
        with (folder / "lines").open("rb") as source:
            found = (each for each in exchanges(source) if each is not None)
            added = sum(len(done.added) for done in put(engine, found))
        return added, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        engine.dispose()


def many(number: int, make: Callable[[int], dict[str, Any]]) -> Iterator[bytes]:
    return (text_of(make(each)) for each in range(number))


@pytest.mark.engines("sqlite")
def test_memory_does_not_grow_with_the_number(tmp_path: Path) -> None:
    def small(number: int) -> dict[str, Any]:
        return one(id=str(UUID(int=number + 1)))

    for name in ("few", "many"):
        (tmp_path / name).mkdir()
    _, few = taken_in(tmp_path / "few", many(100, small))
    added, most = taken_in(tmp_path / "many", many(500, small))
    assert added == 500
    assert most < few + MIB, f"{few / MIB:.1f} MiB of 100 became {most / MIB:.1f} MiB"


@pytest.mark.engines("sqlite")
def test_a_large_one_takes_a_few_times_its_size(tmp_path: Path) -> None:
    body = [b"\xff" * MIB] * 12
    chunks = [chunk(seq=seq, size=MIB, text=None, base64=data) for seq, data in enumerate(body, 2)]
    large = one(chunks=chunks, response_bytes=12 * MIB, response_chunks=12, response_hash=None)

    def make(number: int) -> dict[str, Any]:
        return {**large, "id": str(UUID(int=number + 1))}

    added, most = taken_in(tmp_path, many(3, make))
    assert added == 3
    assert most < 6 * 12 * MIB, f"{most / MIB:.1f} MiB"


def test_what_came_before_an_error_is_there(database: Any) -> None:
    engine = open_engine(database.url, create=False)
    good = [one(id=str(UUID(int=number))) for number in (7, 8, 7)]
    done = put(engine, (each for each in exchanges(BytesIO(text_of(*good) + b"{")) if each is not None))
    assert next(done) == ((UUID(int=7), UUID(int=8)), 1)
    with pytest.raises(BadLine, match="line 4"):
        next(done)
    with reading(engine) as connection:
        assert get_exchange(connection, UUID(int=8)) is not None
    assert list(islice(put(engine, []), 1)) == []
    engine.dispose()

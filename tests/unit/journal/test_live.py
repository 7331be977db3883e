"""Reading a segment while it is written: what is not whole yet is waited for, and never called damage."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.journal import record
from proxy.journal.reader import Segment, journals
from proxy.journal.record import Damage, Record
from proxy.journal.writer import JournalWriter, segment_name
from tests.support.journals import (
    SEED,
    WORKER,
    Entry,
    append,
    entries_of,
    exchange,
    image,
    merged,
    preamble,
    read_file,
    read_journal,
)

TAPE = merged(exchange(1, extras=True), exchange(2, chunks=[b"@ " * 300, b"\n", b"x" * 2000]), exchange(3))
SHAPE = image(TAPE)
DEADLINE = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


class Follower:
    """Reads a journal as ingest does: on from where it was, and to the next segment once there is one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: list[Record | Damage] = []
        self.segment = 0
        self.position = 0

    def look(self) -> None:
        while True:
            numbers = journals(self.folder).get(WORKER, [])
            path = self.folder / segment_name(WORKER, self.segment)
            if path.exists():
                self._read(Segment(path))
            if not any(number > self.segment for number in numbers):
                return
            self.segment, self.position = self.segment + 1, 0

    def _read(self, segment: Segment) -> None:
        while more := list(segment.read(self.position)):  # a few MiB at once
            self.found += more
            self.position = more[-1].end
        segment.close()


@given(st.lists(st.integers(0, len(SHAPE.data)), max_size=12))
def test_growth_in_arbitrary_pieces(folder: Path, cuts: list[int]) -> None:
    path = folder / segment_name(WORKER, 0)
    path.write_bytes(b"")
    found: list[Record | Damage] = []
    with path.open("ab", buffering=0) as file:
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(SHAPE.data)], strict=True):
            file.write(SHAPE.data[begin:end])
            segment = Segment(path)
            found += segment.read(found[-1].end if found else 0)
            segment.close()
    assert found == SHAPE.records


def test_growth_by_every_single_byte(tmp_path: Path) -> None:
    """With one reader that stays: what it saw of an unfinished record does not mislead it."""
    path = tmp_path / segment_name(WORKER, 0)
    small = image(exchange(1, chunks=[b"@ res+", b"\n@"]))
    path.write_bytes(small.data[: small.begin])
    segment = Segment(path)
    found: list[Record | Damage] = []
    with path.open("ab", buffering=0) as file:
        for at in range(small.begin, len(small.data)):
            file.write(small.data[at : at + 1])
            found += segment.read(found[-1].end if found else 0)
            assert found == [each for each in small.records if each.end <= at + 1]
    segment.close()


def begins(first: bytes, second: bytes) -> tuple[Record, bytes, bytes]:
    """A record, and what two other records look like that may come after it, at the same place."""
    shape = image([Entry(record.RESPONSE_CHUNK, b"a" * 32, 0, 0, b"first")])
    (one,) = shape.records
    after = [record.encode(SEED, one.end, b"res+", b"a" * 32, 1, 1, payload) for payload in (first, second)]
    return one, after[0], after[1]


@pytest.mark.parametrize("kept", [1, 10, 70, 100, 200])
@pytest.mark.parametrize("sizes", [(300, 20), (20, 300), (300, 300)])
def test_a_short_write_that_was_taken_back(tmp_path: Path, kept: int, sizes: tuple[int, int]) -> None:
    """The reader has seen the beginning of a record that the writer then replaced by another."""
    one, gone, instead = begins(b"g" * sizes[0], b"i" * sizes[1])
    path = tmp_path / segment_name(WORKER, 0)
    path.write_bytes(preamble() + _bytes(one) + gone[: min(kept, len(gone) - 1)])
    segment = Segment(path)
    reading = segment.read(0)
    assert next(reading) == one
    _overwrite(path, one.end, instead)
    # A file that is no longer than it was may look as if nothing came; then the next look finds it.
    (found,) = list(reading) or list(segment.read(one.end))
    segment.close()
    assert isinstance(found, Record)
    assert found.payload == b"i" * sizes[1]


@pytest.mark.parametrize("seen", [0, 1, 40, 90, 150])
def test_a_read_that_was_torn_by_a_write(tmp_path: Path, seen: int) -> None:
    """One read may return old bytes of one page and new ones of another. What looks damaged then is looked at again,
    and where the record there is still being written, waited for."""
    one, gone, instead = begins(b"g" * 300, b"i" * 320)
    torn = gone[:200] + instead[200 : len(gone)]
    path = tmp_path / segment_name(WORKER, 0)
    path.write_bytes(preamble() + _bytes(one) + torn)
    assert [type(item) for item in read_file(path)] == [Record, Damage], "it does look damaged"
    segment = Segment(path)
    reading = segment.read(0)
    assert next(reading) == one
    _overwrite(path, one.end, instead[:seen])
    assert list(reading) == []
    _overwrite(path, one.end, instead)
    (found,) = list(segment.read(one.end))
    segment.close()
    assert isinstance(found, Record)
    assert found.payload == b"i" * 320


@pytest.mark.parametrize("seen", [0, 50, 150, 500])
def test_a_torn_head_in_front_of_what_looks_like_a_record(tmp_path: Path, seen: int) -> None:
    one, gone, instead = begins(b"g" * 300, b"i" * 320)
    later = record.encode(SEED, one.end + len(gone), b"res+", b"a" * 32, 2, 1, b"later")
    path = tmp_path / segment_name(WORKER, 0)
    path.write_bytes(preamble() + _bytes(one) + b"?" + gone[1:] + later)
    segment = Segment(path)
    reading = segment.read(0)
    assert next(reading) == one
    _overwrite(path, one.end, instead[:seen])
    rest = list(reading)
    segment.close()
    assert [type(item) for item in rest] == ([Record] if seen == 500 else [])


def test_what_is_damaged_at_a_dead_writers_end_is_named(tmp_path: Path) -> None:
    one, unfinished, _ = begins(b"u" * 300, b"")
    path = tmp_path / segment_name(WORKER, 0)
    path.write_bytes(preamble() + _bytes(one) + unfinished[:-9] + bytes(8) + b"\n")
    assert [type(item) for item in read_file(path)] == [Record, Damage]


def _bytes(one: Record) -> bytes:
    return record.encode(SEED, one.offset, *one[:5])


def _overwrite(path: Path, at: int, data: bytes) -> None:
    """As the writer does it: first the file is cut."""
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, at)
    os.pwrite(fd, data, at)
    os.close(fd)


# With a real writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    writer = JournalWriter(tmp_path, node="node", worker=WORKER, segment_bytes=2000, fsync_every=None)
    yield writer
    writer.close()


def test_following_through_segments(writer: JournalWriter) -> None:
    follower = Follower(writer.folder)
    for number, entry in enumerate(TAPE * 3, 1):
        writer.append(*entry)
        follower.look()
        assert len(follower.found) == number, "what was appended can be read at once"
    assert entries_of(follower.found) == TAPE * 3
    assert len(follower.found) == len(TAPE * 3)
    assert follower.segment > 3


def test_segments_are_numbered_and_bounded(writer: JournalWriter) -> None:
    append(writer, TAPE * 3)
    numbers = journals(writer.folder)[WORKER]
    assert numbers == list(range(writer.segment + 1))
    for number in numbers:
        path = writer.folder / segment_name(WORKER, number)
        segment = Segment(path)
        assert segment.preamble is not None
        assert (segment.preamble.segment, segment.preamble.worker) == (number, WORKER)
        held = len(list(segment.read(0)))
        segment.close()
        assert held
        assert path.stat().st_size <= 2200 or held == 1, "only a record that is longer than a segment makes it longer"


def test_records_of_16_mib_while_a_reader_follows(tmp_path: Path) -> None:
    """A large write is not atomic: the reader keeps meeting its beginning."""
    writer = JournalWriter(tmp_path, node="node", worker=WORKER, fsync_every=None)
    written = [Entry(b"res+", b"a" * 32, seq, 0, bytes([seq]) * record.MAX_PAYLOAD) for seq in range(12)]
    follower = Follower(tmp_path)
    thread = threading.Thread(target=append, args=(writer, written))
    thread.start()
    while thread.is_alive():
        follower.look()
    thread.join(DEADLINE)
    follower.look()
    writer.close()
    assert [item[:4] for item in follower.found if isinstance(item, Record)] == [each[:4] for each in written]
    assert not [item for item in follower.found if isinstance(item, Damage)]


def test_many_small_records_while_a_reader_follows(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, node="node", worker=WORKER, segment_bytes=200_000, fsync_every=None)
    written = [Entry(b"res+", b"a" * 32, seq, 0, b"%d" % seq * (seq % 50)) for seq in range(20_000)]
    follower = Follower(tmp_path)
    thread = threading.Thread(target=append, args=(writer, written))
    thread.start()
    while thread.is_alive():
        follower.look()
    thread.join(DEADLINE)
    follower.look()
    writer.close()
    assert [Entry(*item[:5]) for item in follower.found] == written
    assert read_journal(tmp_path) == follower.found

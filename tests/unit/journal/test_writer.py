"""The writer: what it returned from is in the file, what it failed at is not, and it goes on when it can."""

from __future__ import annotations

import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from proxy.journal import record
from proxy.journal.reader import Segment, journals
from proxy.journal.record import Damage, UnknownVersion
from proxy.journal.writer import JournalError, node_name, segment_name
from tests.support.journals import (
    DEADLINE,
    WORKER,
    Open,
    append,
    chunk,
    entries_of,
    exchange,
    image,
    is_locked,
    limited,
    live,
    merged,
    open_files,
    preamble,
    read_file,
    read_journal,
    worker,
)

TAPE = merged(exchange(1, extras=True), exchange(2))

# What is written


def test_what_is_written_is_read(start: Open) -> None:
    writer = start()
    append(writer, TAPE)
    assert entries_of(read_journal(writer.folder)) == TAPE
    assert (writer.records, writer.offset) == (len(TAPE), live(writer).stat().st_size)
    assert writer.waiting_bytes == writer.offset


def test_nothing_is_made_before_the_first_record(start: Open) -> None:
    writer = start()
    assert not writer.folder.exists()
    assert (writer.segment, writer.waiting_bytes) == (-1, 0)


def test_for_its_owner_alone(start: Open) -> None:
    mask = os.umask(0)
    try:
        writer = start()
        append(writer, TAPE)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(live(writer).stat().st_mode) == 0o600
    assert stat.S_IMODE(writer.folder.stat().st_mode) == 0o700


def test_seeds_are_not_shared(start: Open) -> None:
    append(start(segment_bytes=1), TAPE)
    append(start(worker=worker(1)), TAPE)
    found = {each.preamble.seed for each in _segments(start().folder) if each.preamble is not None}
    assert len(found) == len(TAPE) + 1


def _segments(folder: Path) -> list[Segment]:
    found = [Segment(folder / segment_name(of, number)) for of, each in journals(folder).items() for number in each]
    for segment in found:
        segment.close()
    return found


def test_a_payload_that_no_reader_would_take_is_refused(start: Open) -> None:
    writer = start()
    with pytest.raises(ValueError, match="16777217 bytes"):
        append(writer, [chunk(0, record.MAX_PAYLOAD + 1)])
    append(writer, [chunk(1, record.MAX_PAYLOAD)])
    assert entries_of(read_journal(writer.folder)) == [chunk(1, record.MAX_PAYLOAD)]


@pytest.mark.parametrize(("hostname", "node"), [("", "node"), ("a b/ü", "a-b--"), ("x" * 300, "x" * 63)])
def test_any_host_name_makes_a_preamble(start: Open, hostname: str, node: str) -> None:
    assert node_name(hostname) == node
    writer = start(node=hostname)
    append(writer, TAPE)
    segment = Segment(live(writer))
    segment.close()
    assert segment.preamble is not None
    assert segment.preamble.node == node


def test_unknown_version(tmp_path: Path) -> None:
    path = tmp_path / segment_name(WORKER, 0)
    path.write_bytes(preamble(version=7) + image(TAPE).data)
    before = open_files()
    with pytest.raises(UnknownVersion, match="format 7"):
        Segment(path)
    assert open_files() == before


def test_foreign_files_are_no_journals(tmp_path: Path) -> None:
    name = segment_name(WORKER, 3)
    for other in (name + ".new", name.removesuffix(".journal") + ".new", name.upper(), "x.journal", name):
        (tmp_path / other).write_bytes(b"")
    (tmp_path / segment_name(WORKER, 1_000_000)).write_bytes(b"")
    (tmp_path / f"{WORKER}-٠٠٠٠٠٩.journal").write_bytes(b"")
    assert journals(tmp_path) == {WORKER: [3, 1_000_000]}
    assert journals(tmp_path / "missing") == {}


# The lock


def test_a_living_writer_holds_its_segment(start: Open) -> None:
    writer = start()
    append(writer, TAPE)
    assert is_locked(live(writer))
    writer.close()
    assert not is_locked(live(writer))


def test_the_next_segment_is_locked_before_the_former_is_released(start: Open) -> None:
    """Whoever looks at any moment finds the newest segment locked, or a newer one that was not there before."""
    writer = start(segment_bytes=300)
    append(writer, [chunk(0)])
    gaps: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            newest = journals(writer.folder)[WORKER][-1]
            if not is_locked(writer.folder / segment_name(WORKER, newest)):
                later = journals(writer.folder)[WORKER][-1]
                if later == newest:
                    gaps.append(f"segment {newest} was the newest, and unlocked")

    watching = threading.Thread(target=watch)
    watching.start()
    for seq in range(1, 1500):
        writer.append(*chunk(seq))
    stop.set()
    watching.join(DEADLINE)
    assert writer.segment >= 1400
    assert gaps == []


def test_a_segment_that_cannot_be_followed_stays_locked(start: Open) -> None:
    """Between a full segment and a full disk there is no moment in which the worker looks dead."""
    writer = start(segment_bytes=300)
    append(writer, [chunk(0)])
    with limited(resource.RLIMIT_FSIZE, 10), pytest.raises(JournalError):
        writer.append(*chunk(1, 250))
    assert is_locked(live(writer))
    assert sorted(path.name for path in writer.folder.iterdir()) == [segment_name(WORKER, 0)], "nothing half-made stays"
    append(writer, [chunk(1, 250)])
    assert entries_of(read_journal(writer.folder)) == [chunk(0), chunk(1, 250)]


# Where it cannot write


@pytest.mark.parametrize("room", [0, 1, 50, 120, 170])
def test_a_short_write_leaves_nothing(start: Open, room: int) -> None:
    writer = start()
    append(writer, [chunk(0)])
    end = writer.offset
    with limited(resource.RLIMIT_FSIZE, end + room):
        for _ in range(3):
            with pytest.raises(JournalError, match="cannot be written"):
                writer.append(*chunk(1, 200))
            assert live(writer).stat().st_size == end == writer.offset
        if room > 100:
            append(writer, [chunk(1, 1)])  # what still fits is written
    append(writer, [chunk(2, 200)])
    found = read_journal(writer.folder)
    assert entries_of(found) == [chunk(0), *([chunk(1, 1)] if room > 100 else []), chunk(2, 200)]
    assert len(found) == len(entries_of(found))
    assert writer.records == len(found)


def test_a_disk_that_is_full_from_the_start(start: Open) -> None:
    writer = start()
    for room in (0, 100, 300):
        with limited(resource.RLIMIT_FSIZE, room), pytest.raises(JournalError):
            writer.append(*chunk(0, 200))
        assert not list(writer.folder.glob("*.new"))
    append(writer, [chunk(0, 200)])
    assert entries_of(read_journal(writer.folder)) == [chunk(0, 200)]


def test_a_short_write_that_cannot_be_taken_back(start: Open) -> None:
    """The segment ends with the torn record; the next one begins a new segment."""
    writer = start()
    append(writer, [chunk(0)])
    held = os.dup(writer._fd)  # the lock stays as it was
    reader, full = os.pipe2(os.O_NONBLOCK)
    os.write(full, b"x" * (65536 - 4096))  # room for one page: a longer write is cut short, and a pipe cannot be
    os.dup2(full, writer._fd)
    with pytest.raises(JournalError):
        writer.append(*chunk(1, 8192))
    os.dup2(held, writer._fd)
    os.write(held, record.encode(1, 0, *chunk(1))[:50])  # what would be left in a file
    append(writer, [chunk(2)])
    assert writer.segment == 1
    torn = read_file(writer.folder / segment_name(WORKER, 0))
    assert [type(item) for item in torn[1:]] == [Damage]
    assert entries_of(read_journal(writer.folder)) == [chunk(0), chunk(2)]
    for fd in (held, reader, full):
        os.close(fd)


def test_a_folder_that_cannot_be_made(tmp_path: Path, start: Open) -> None:
    (tmp_path / "journal").write_text("a file")
    writer = start()
    with pytest.raises(JournalError):
        append(writer, [chunk(0)])
    writer.refresh()
    (tmp_path / "journal").unlink()
    append(writer, [chunk(0)])
    assert entries_of(read_journal(writer.folder)) == [chunk(0)]


# max_bytes


def test_max_bytes_counts_all_journals_of_the_folder(start: Open) -> None:
    other = start(worker=worker(1))
    append(other, [chunk(seq) for seq in range(20)])
    writer = start(max_bytes=other.offset + 1000)
    append(writer, [chunk(0)])
    with pytest.raises(JournalError, match="max_journal"):
        append(writer, [chunk(seq) for seq in range(1, 10)])
    live(other).unlink()
    with pytest.raises(JournalError):
        writer.append(*chunk(20, 500))
    writer.refresh()
    append(writer, [chunk(20, 500)])


def test_max_bytes_in_one_segment(start: Open) -> None:
    """The live segment alone has used up the room: it must be given up, or nothing could ever be removed."""
    writer = start(max_bytes=2000)
    with pytest.raises(JournalError, match="max_journal"):
        append(writer, [chunk(seq) for seq in range(100)])
    full = writer.folder / segment_name(WORKER, 0)
    held = entries_of(read_file(full))
    assert not is_locked(full)
    for _ in range(5):
        with pytest.raises(JournalError, match="max_journal"):
            writer.append(*chunk(100))
    assert journals(writer.folder)[WORKER] == [0, 1], "once is enough"
    full.unlink()
    writer.refresh()
    append(writer, [chunk(100)])
    assert held == [chunk(seq) for seq in range(len(held))]
    assert entries_of(read_journal(writer.folder)) == [chunk(100)]

"""The writer's folder changes under its feet, and its thread syncs: neither loses a record nor looks like a death."""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from proxy.journal.reader import Segment, journals
from proxy.journal.writer import JournalError, segment_name
from tests.support.journals import (
    WORKER,
    Open,
    append,
    chunk,
    entries_of,
    exchange,
    is_locked,
    limited,
    live,
    merged,
    open_files,
    read_journal,
    until,
    worker,
)

TAPE = merged(exchange(1, extras=True), exchange(2))


# The folder under its feet


def test_refresh_counts_what_waits(start: Open) -> None:
    other = start(worker=worker(1))
    append(other, TAPE)
    writer = start()
    append(writer, TAPE)
    assert writer.waiting_bytes == other.offset + writer.offset
    live(other).unlink()
    writer.refresh()
    assert writer.waiting_bytes == writer.offset


def test_a_file_that_vanishes_while_the_folder_is_looked_at(start: Open) -> None:
    """Ingest removes segments all the time; one that is listed may be gone when its size is asked for."""
    writer = start()
    append(writer, TAPE)
    (writer.folder / "0-gone.journal").symlink_to("nowhere")
    (writer.folder / "z-gone.journal").symlink_to("nowhere")
    writer.refresh()
    assert writer.segment == 0
    append(writer, TAPE)
    assert writer.segment == 0, "the live segment is still the live one"
    assert writer.waiting_bytes == writer.offset


def test_no_descriptor_left_to_look_at_the_folder(start: Open) -> None:
    writer = start()
    append(writer, TAPE)
    with limited(resource.RLIMIT_NOFILE, 3):
        writer.refresh()
        append(writer, TAPE)
    assert writer.segment == 0


@pytest.mark.parametrize("whole", [True, False])
def test_the_folder_is_removed(start: Open, whole: bool) -> None:
    """What would be written into a file that nobody can find any more goes into a new one; and at no moment does the
    worker look dead to a reader that still has the old one open."""
    writer = start()
    append(writer, [chunk(0)])
    old = Segment(live(writer))
    live(writer).unlink()
    if whole:
        writer.folder.rmdir()
    assert old.is_written()
    writer.refresh()
    assert journals(writer.folder) == {WORKER: [1]}
    assert is_locked(live(writer))
    old.close()
    append(writer, [chunk(1)])
    assert entries_of(read_journal(writer.folder)) == [chunk(1)]
    assert writer.waiting_bytes == writer.offset


def test_the_folder_is_removed_and_cannot_be_made_anew(tmp_path: Path, start: Open) -> None:
    writer = start()
    append(writer, [chunk(0)])
    old = Segment(live(writer))
    live(writer).unlink()
    writer.folder.rmdir()
    (tmp_path / "journal").write_text("in the way")
    writer.refresh()
    with pytest.raises(JournalError):
        append(writer, [chunk(1)])
    assert old.is_written(), "it lives, and has nothing else to show for it"
    (tmp_path / "journal").unlink()
    append(writer, [chunk(2)])
    old.close()
    assert entries_of(read_journal(writer.folder)) == [chunk(2)]


# fsync


def test_the_sync_thread_does_not_keep_a_segment(start: Open) -> None:
    writer = start(fsync_every=0.01, segment_bytes=500)
    append(writer, [chunk(seq) for seq in range(50)])
    last = writer.segment
    until(lambda: not any(is_locked(writer.folder / segment_name(WORKER, number)) for number in range(last)))
    assert is_locked(live(writer))


def test_close_gives_everything_up_at_once(start: Open) -> None:
    before = open_files()
    threads = threading.active_count()
    writer = start(fsync_every=3600.0, segment_bytes=500)
    append(writer, [chunk(seq) for seq in range(50)])
    writer.close()
    assert open_files() == before
    assert threading.active_count() == threads
    assert entries_of(read_journal(writer.folder)) == [chunk(seq) for seq in range(50)]


def test_the_sync_thread_survives_a_lack_of_descriptors(start: Open) -> None:
    writer = start(fsync_every=0.01)
    append(writer, [chunk(0)])
    with limited(resource.RLIMIT_NOFILE, 3):
        ends = time.monotonic() + 0.1  # ten turns of the thread
        while time.monotonic() < ends:
            writer.append(*chunk(1))
    assert writer._sync is not None
    assert writer._sync.is_alive()
    until(lambda: not writer._dirty)


def test_a_disk_that_cannot_sync_is_told_once(start: Open) -> None:
    writer = start(fsync_every=0.01)
    append(writer, [chunk(0)])
    reader, pipe = os.pipe()
    held = os.dup(writer._fd)
    os.dup2(pipe, writer._fd)  # a pipe cannot be synced
    writer._dirty = True
    until(lambda: writer._sync_failed)
    os.dup2(held, writer._fd)
    writer._sync_failed = True  # whatever the thread did meanwhile
    with pytest.raises(JournalError, match="synced"):
        writer.append(*chunk(1))
    append(writer, [chunk(1)])
    for fd in (held, reader, pipe):
        os.close(fd)

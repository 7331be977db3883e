"""Where the disk is nearly full the next segment is there already, and goes with the journal if it was never needed."""

from __future__ import annotations

import pytest

from proxy.journal import writer as writing
from proxy.journal.writer import segment_name
from tests.support.journals import WORKER, Open, append, chunk, entries_of, is_locked, live, read_journal


@pytest.fixture(autouse=True)
def _a_disk_that_is_nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SPARE_BELOW", 2**63)


def test_the_spare_becomes_the_next_segment(start: Open) -> None:
    writer = start(segment_bytes=300)
    append(writer, [chunk(0)])
    spare = (writer.folder / segment_name(WORKER, 1)).with_suffix(".new")
    inode = spare.stat().st_ino
    assert is_locked(spare)
    append(writer, [chunk(1, 300)])
    assert writer.segment == 1
    assert live(writer).stat().st_ino == inode
    assert not spare.exists()
    assert entries_of(read_journal(writer.folder)) == [chunk(0), chunk(1, 300)]
    writer.close()
    assert not list(writer.folder.glob("*.new"))


def test_a_spare_that_vanished_is_made_anew(start: Open) -> None:
    writer = start(segment_bytes=300)
    append(writer, [chunk(0)])
    (writer.folder / segment_name(WORKER, 1)).with_suffix(".new").unlink()
    append(writer, [chunk(1, 300), chunk(2)])
    assert entries_of(read_journal(writer.folder)) == [chunk(0), chunk(1, 300), chunk(2)]

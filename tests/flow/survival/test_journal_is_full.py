"""The journal cannot grow: with `refuse` nothing goes upstream, with `pass` nothing is refused; then all recovers."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import full

DISK = 1024 * 1024


def check(figures: full.Figures) -> None:
    assert figures.refused > 20
    assert figures.late <= 3, "a request whose response could not be recorded should not have gone upstream"
    assert figures.clients["cut"] == 3


def test_max_journal(tmp_path: Path) -> None:
    check(full.refusing(tmp_path, full.never_stored, "record.max_journal = '1MiB'"))


def test_a_limit_on_files(tmp_path: Path) -> None:
    check(full.refusing(tmp_path, full.files_end_here))


def test_a_disk_for_journals_alone(tmp_path: Path) -> None:
    """The live segment itself is what fills it, and must make room for its successor."""
    (tmp_path / "home").mkdir(mode=0o700)
    with full.small_disk(tmp_path / "home" / "journal", DISK):
        check(full.refusing(tmp_path, full.never_stored))


def test_a_disk_that_another_fills(tmp_path: Path) -> None:
    """Neither journal nor database nor status can be written until there is room again; whatever ingest can store
    makes a little for some more."""
    with full.small_disk(tmp_path / "home", 8 * DISK):
        figures = full.refusing(tmp_path, full.something_fills_the_disk)
    assert figures.refused > 0
    assert figures.clients["cut"] >= 3


def test_pass(tmp_path: Path) -> None:
    figures = full.passing(tmp_path, requests=20)
    assert figures.gaps > 20

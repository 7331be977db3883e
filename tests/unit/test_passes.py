"""One-time passes: one use each, by whoever is first, and not for ever."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy import passes


def test_a_pass_serves_once(tmp_path: Path) -> None:
    given = passes.issue(tmp_path)
    assert given not in "".join(path.name for path in (tmp_path / "passes").iterdir()).encode()
    assert [passes.take(tmp_path, given) for _ in range(2)] == [True, False]


def test_of_all_who_try_one_succeeds(tmp_path: Path) -> None:
    given = [passes.issue(tmp_path) for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(lambda each: passes.take(tmp_path, each), given * 8))
    assert sum(took) == len(given)


@pytest.mark.parametrize("given", [b"", b"x", b"../../etc/passwd", b"\0", b"x" * 100_000])
def test_what_is_no_pass(tmp_path: Path, given: bytes) -> None:
    assert not passes.take(tmp_path, given)


@pytest.mark.parametrize("shift", [-passes.LIFETIME - 1, 60.0])
def test_an_old_one_is_none(tmp_path: Path, shift: float) -> None:
    """Nor is one from the future: some clock was set."""
    given, kept = passes.issue(tmp_path), passes.issue(tmp_path)
    then = time.time() + shift
    for path in (tmp_path / "passes").iterdir():
        os.utime(path, (then, then))
    assert not passes.take(tmp_path, given)
    passes.sweep(tmp_path)
    assert len(list((tmp_path / "passes").iterdir())) == (0 if shift < 0 else 1)
    assert not passes.take(tmp_path, kept)


def test_only_their_owner_sees_them(tmp_path: Path) -> None:
    passes.issue(tmp_path)
    folder = tmp_path / "passes"
    assert [each.stat().st_mode & 0o077 for each in (folder, *folder.iterdir())] == [0, 0]


def test_nothing_to_sweep(tmp_path: Path) -> None:
    passes.sweep(tmp_path)

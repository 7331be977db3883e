"""The whole process tree dies at once under load: the next start stores what was promised."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import whole_deaths

ROUNDS = 2


def test_the_next_start_stores_it(tmp_path: Path) -> None:
    figures = whole_deaths.campaign(tmp_path, rounds=ROUNDS)
    assert figures.processes == ROUNDS * 5
    assert figures.clients["cut"] >= ROUNDS

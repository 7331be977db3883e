"""Three nodes on one Postgres, one of which is killed and comes back under load: every exchange once, sums right."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import nodes, sites


def test_one_dies_and_comes_back(tmp_path: Path) -> None:
    with sites.postgres_site() as site:
        figures = nodes.campaign(tmp_path, site, deaths=1, answers=20, pack=False, pace=0.1)
    assert figures.deaths == 1
    assert min(figures.answered) >= 40
    assert figures.pruned == nodes.OLD

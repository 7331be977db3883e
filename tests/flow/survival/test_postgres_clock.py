"""The machine's clock is set by days while requests go on: nothing is lost, and retention takes nothing that is new."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import clocks, sites


def test_it_is_set_forward_and_back(tmp_path: Path) -> None:
    with sites.postgres_site() as site:
        figures = clocks.campaign(tmp_path, site, clocks.SMALL, retention="exchanges = '30d'\nchunks = '20d'")
    assert figures.journals == 2
    assert figures.strayed == 0


def test_it_is_set_to_times_without_partitions(tmp_path: Path) -> None:
    """What ingest, whose clock is the same, makes partitions for is the future only."""
    with sites.postgres_site() as site:
        figures = clocks.campaign(tmp_path, site, [clocks.Jump(-36 * 365, anew=True), clocks.Jump(80 * 365)])
    assert figures.journals == 2
    assert figures.strayed is not None
    assert figures.strayed >= clocks.ANSWERS

"""Ingest, or the server under it, dies while a backlog is stored: no record twice, none missing."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import ingest_deaths, server_deaths, sites


def test_ingest_is_killed(tmp_path: Path) -> None:
    with sites.postgres_site() as site:
        figures = ingest_deaths.campaign(tmp_path, kills=12, inside=4, site=site)
    assert figures.kills >= 12
    assert figures.inside >= 4


def test_the_server_dies_in_a_copy(tmp_path: Path) -> None:
    with sites.postgres_site() as site:
        figures = server_deaths.campaign(tmp_path, site, deaths=4)
    assert figures.deaths == 4

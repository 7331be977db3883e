"""Ingest dies by kill -9 while it stores a backlog into Postgres: no record twice, none missing."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import ingest_deaths, sites


def test_a_backlog_is_stored_once(tmp_path: Path) -> None:
    with sites.postgres_site() as site:
        figures = ingest_deaths.campaign(tmp_path, kills=12, inside=4, site=site)
    assert figures.kills >= 12
    assert figures.inside >= 4


def test_dying_at_the_same_record_again_and_again_loses_nothing(tmp_path: Path) -> None:
    with sites.postgres_site() as site:
        assert ingest_deaths.stubborn_campaign(tmp_path, kills=4, site=site).inside == 4

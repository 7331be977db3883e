"""Postgres dies in the midst of a COPY: what it had not committed is stored later, what it had is not stored twice."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import hardships, server_deaths, sites


def test_a_backlog_is_stored_once(tmp_path: Path) -> None:
    with sites.postgres_site() as site:
        figures = server_deaths.campaign(tmp_path, site, deaths=4)
    assert figures.deaths == 4


def test_requests_go_on(tmp_path: Path) -> None:
    with sites.postgres_site() as site:
        figures = hardships.campaign(tmp_path, site, hardships.killed_in_copy(3), pace=hardships.GENTLE)
    assert figures.deaths == 3

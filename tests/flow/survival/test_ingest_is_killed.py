"""Ingest dies by kill -9 while it stores, most often in a transaction: no row twice, none missing."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import ingest_deaths


def test_a_backlog_is_stored_once(tmp_path: Path) -> None:
    figures = ingest_deaths.campaign(tmp_path, kills=50, inside=10)
    assert figures.kills >= 50
    assert figures.inside >= 10


def test_dying_at_the_same_record_again_and_again_loses_nothing(tmp_path: Path) -> None:
    assert ingest_deaths.stubborn_campaign(tmp_path, kills=8).inside == 8

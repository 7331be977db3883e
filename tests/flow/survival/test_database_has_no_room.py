"""The database's own file system is full: requests go on, what they bring waits, and is stored once there is room."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import hardships


def test_requests_go_on(tmp_path: Path, kind: str) -> None:
    with hardships.small_site(kind) as (site, place):
        figures = hardships.campaign(tmp_path, site, hardships.no_room(place, 1000), pace=hardships.GENTLE)
    assert figures.waited >= 1000

"""Postgres is stopped, or ends again and again, under load: requests go on, and all is stored once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import hardships, sites
from tests.chaos.hardships import Hardship

RECORDS = 3000


@pytest.mark.parametrize(
    ("hardship", "deaths"),
    [(hardships.stopped(RECORDS), 1), (hardships.restarted(4), 4)],
    ids=["stopped", "restarted"],
)
def test_requests_go_on(tmp_path: Path, hardship: Hardship, deaths: int) -> None:
    with sites.postgres_site() as site:
        figures = hardships.campaign(tmp_path, site, hardship, pace=hardships.GENTLE)
    assert figures.deaths == deaths
    assert figures.waited == 0 or figures.waited >= RECORDS

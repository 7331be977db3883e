"""The database is locked or its file is elsewhere: requests go on, what they bring waits, and is stored later."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import away

RECORDS = 10_000


@pytest.mark.parametrize("how", [away.locked, away.renamed])
def test_everything_waits_until_it_is_back(tmp_path: Path, how: away.Away) -> None:
    figures = away.campaign(tmp_path, how, records=RECORDS)
    assert figures.waited >= RECORDS
    assert figures.lags == sorted(figures.lags)
    assert figures.lags[0] > (0, 0)

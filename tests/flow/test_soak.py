"""Mixed traffic for a while: nothing is lost or changed, and forward holds in the end what it held near the start."""

from __future__ import annotations

import os
from pathlib import Path

from tests.chaos import soak
from tests.chaos.mix import Leave, Way

SECONDS = 12 if os.environ.get("CI") == "true" else 6
"""Of traffic; `make chaos ARGS="soak --seconds 3600"` takes an hour."""


def test_mixed_traffic(tmp_path: Path) -> None:
    figures = soak.campaign(tmp_path, seconds=SECONDS)
    assert figures.exchanges == sum(figures.outcomes.values())
    assert set(figures.ways) == {way.value for way in Way}
    assert set(figures.left) == {leave.value for leave in Leave}

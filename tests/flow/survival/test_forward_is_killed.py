"""Forward dies by kill -9 in the midst of streams: what a client received is stored, and called interrupted."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import forward_deaths

KILLS = 16


def test_what_clients_received_is_stored(tmp_path: Path) -> None:
    figures = forward_deaths.campaign(tmp_path, kills=KILLS)
    assert figures.kills == KILLS
    assert figures.clients["cut"] >= KILLS
    assert figures.outcomes["interrupted", "worker_died"] >= KILLS

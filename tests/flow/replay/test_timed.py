"""The benchmark of playback, in short: what it times, it compares byte for byte."""

from __future__ import annotations

from pathlib import Path

from tests.bench import playback


def test_it_measures(tmp_path: Path) -> None:
    figures = playback.measure(tmp_path, requests=80, streams=4)
    assert figures.requests == 80
    assert figures.cpu_us > 0
    assert 0 < figures.p50_ms <= figures.p99_ms

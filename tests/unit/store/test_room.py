"""What rows take, measured in short: the figures that the sizing page is made of are figures of something."""

from __future__ import annotations

from tests.bench.room import measure


def test_it_measures(kind: str) -> None:
    room = measure(kind, 40)
    assert room.engine == kind
    assert room.chunk > 0
    assert room.heads > 0
    assert room.text > 0
    assert room.cost.client > 0

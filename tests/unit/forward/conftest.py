"""What the tests of forward have in common: a journal of their own, and the servers that the application runs under."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.forward.serving import OURS, STOCK, quiet
from tests.unit.forward.tape import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.journal.close()


@pytest.fixture
def calm() -> Iterator[None]:
    """What servers say of clients that leave is no news."""
    with quiet():
        yield


@pytest.fixture(params=[*STOCK, OURS])
def server(request: pytest.FixtureRequest) -> str:
    """Each server that the application runs under, ours among them."""
    return str(request.param)

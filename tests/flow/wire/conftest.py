"""The wiretape that the tests of this folder share, and the check that none of them broke it for the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow.wire.stage import Stage, staged


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("wire")) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """The shared wiretape; the test fails that kills its worker or makes it complain of itself."""
    worker, said = shared.wiretape.pid("forward"), len(shared.wiretape.log)
    yield shared
    log = shared.wiretape.log[said:]
    assert not [line for line in log.splitlines() if "internal error" in line or "Traceback" in line], log
    assert shared.wiretape.pid("forward") == worker, log

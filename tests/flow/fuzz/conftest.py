"""The wiretape that is sent all kinds of things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow.wire.stage import Stage, staged


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("fuzz"), upstreams=8) as stage:
        yield stage

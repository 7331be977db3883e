"""Both event loops that connections must work on, and a certificate of one's own."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import certificates
from tests.unit.wire.listening import LOOPS, Run, run_clean
from tests.unit.wire.serving import Serve, running


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """Runs a coroutine on a new loop of either kind. What is left unclosed shows as a ResourceWarning."""
    factory = LOOPS[request.param]
    gc.freeze()  # what is there already is none of this test's, and to look through it takes a second by and by
    yield lambda main: run_clean(factory, main)
    gc.collect()


@pytest.fixture(params=LOOPS)
def serve(request: pytest.FixtureRequest) -> Serve:
    """A context manager that runs an application on a loop of either kind, with limits perhaps."""
    return partial(running, LOOPS[request.param])


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for `localhost` and its key, in one file."""
    return certificates.certificate(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    return certificates.serving(certificate)

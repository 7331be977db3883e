"""Both event loops that connections must work on, and a certificate of one's own."""

from __future__ import annotations

import gc
import ssl
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs
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
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    key = path.with_suffix(".key")
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command = [
        needs("openssl"),
        *asked.split(),
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(key),
        "-out",
        str(path),
    ]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context

"""The providers' JavaScript SDKs in sessions of playback, which their program opens and closes over plain HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs
from tests.flow.sdk.conftest import flags
from tests.flow.sdk.provider import DATA, Provider
from tests.support.playing import playing
from tests.support.running import PATIENCE

SOURCE = Path(__file__).parents[2] / "data" / "javascript"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program and the SDKs that it needs, as they are locked."""
    needs("node")
    folder = tmp_path_factory.mktemp("javascript")
    for file in SOURCE.iterdir():
        shutil.copy(file, folder)
    command = [needs("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=4 * PATIENCE)
    if done.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"npm cannot install the SDKs: {done.stderr}", pytrace=False)
        pytest.skip("npm cannot install the SDKs: it may have no network")
    return folder


class Sessions:
    """`ask` runs the program against a playback."""

    def __init__(self, program: Path, url: str, provider: Provider) -> None:
        self.program = program
        self.provider = provider
        self._url = url

    def ask(self, mode: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the SDKs made of it, and the session's report."""
        done = subprocess.run(
            ["node", "session.mjs", self._url, mode, "calls.cassette"],
            cwd=self.program,
            env={**os.environ, "OPENAI_API_KEY": "sk-javascript-0123456789abcdef", "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        return said["found"], said["report"]


@pytest.fixture(scope="module")
def sessions(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    folder = tmp_path_factory.mktemp("playback")
    with Provider() as provider, playing(folder, "--record", *flags(provider)) as url:
        yield Sessions(program, url, provider)


def test_recorded_and_played(sessions: Sessions) -> None:
    first, report = sessions.ask("record")
    assert (len(sessions.provider.seen), len(report["recorded"])) == (5, 5)
    assert (len(first["chunks"]) > 3, first["refused"]["status"]) == (True, 429)
    cassette = (sessions.program / "calls.cassette").read_text()
    assert "sk-javascript" not in cassette
    assert first["chat"] == json.loads((DATA / "openai-chat.json").read_text())

    again, report = sessions.ask("playback")
    assert again == first
    assert report["unused"] == report["unmatched"] == []
    assert len(sessions.provider.seen) == 5

    sessions.ask("record-missing")
    assert len(sessions.provider.seen) == 5
    assert (sessions.program / "calls.cassette").read_text() == cassette

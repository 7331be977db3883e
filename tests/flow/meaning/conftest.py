"""Every recorded stream that is understood, sent through wiretape once, and what `show` says of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.presets import DIALECTS
from tests.support.asking import ask
from tests.support.here import run_here
from tests.support.rawhttp import Peer, RawUpstream
from tests.support.running import serving
from tests.support.streams import names, serve, streams


@dataclass(frozen=True)
class Sent:
    """What was recorded of each stream. `home` can be read by commands; `running` is over."""

    home: Path
    folder: Path
    ids: dict[str, str]

    def command(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        ran = run_here(self.folder, *arguments, "--format", "json", "--home", str(self.home))
        assert ran.code == 0, ran.err
        return json.loads(ran.out)

    def shown(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.command("show", self.ids[name], "--chunks", "0")
        return found


@pytest.fixture(scope="package")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    folder = tmp_path_factory.mktemp("meaning")
    every = names()
    now = ""

    def script(peer: Peer) -> None:
        serve(peer, streams()[now])

    ids: dict[str, str] = {}
    with RawUpstream(script) as origin:
        config = "".join(f'[upstreams.{name}]\nurl = "{origin.url}"\n' for name in DIALECTS)
        with serving(folder, config=config) as wiretape:
            for name in every:
                now = name
                ids[name] = ask(wiretape.port, streams()[name]).id
                origin.wait_idle()
            wiretape.wait_stored(len(every))
            home = wiretape.home
            wiretape.stop()
    return Sent(home, folder, ids)

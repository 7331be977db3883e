"""Every recorded stream that is understood, sent through wiretape once, and what `show` says of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.presets import DIALECTS
from tests.support.here import run_here
from tests.support.rawhttp import Peer, RawHeaders, RawUpstream, connect
from tests.support.running import Running, serving
from tests.support.streams import Stream, names, serve, streams
from tests.support.websocket import handshake

KEY = b"sk-test-0123456789abcdefghij"


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


def _ask(wiretape: Running, stream: Stream, origin: RawUpstream) -> str:
    """Send the stream's request and read all of the answer; the exchange's id."""
    port = int(wiretape.url.rpartition(":")[2])
    target = f"/{stream.dialect}{stream.target}".encode()
    with connect(port) as client:
        if stream.socket:
            client.send(handshake(target, b"Authorization: Bearer " + KEY), stream.sent or b"")
            _, headers = client.read_head()
            return _drained(client, headers, origin)
        client.send(b"%s %s HTTP/1.1\r\nHost: h\r\n" % (stream.method.encode(), target))
        client.send(b"Authorization: Bearer %s\r\nConnection: close\r\n" % KEY)
        client.send(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(stream.request))
        client.send(stream.request)
        _, headers = client.read_head()
        return _drained(client, headers, origin)


def _drained(client: Peer, headers: RawHeaders, origin: RawUpstream) -> str:
    while True:
        try:
            client.read_some()
        except AssertionError:  # it ended, well or not
            break
    client.close()
    origin.wait_idle()
    return next(value.decode() for name, value in headers if name.lower() == b"x-wiretape-exchange")


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
                ids[name] = _ask(wiretape, streams()[name], origin)
            wiretape.wait_stored(len(every))
            home = wiretape.home
            wiretape.stop()
    return Sent(home, folder, ids)

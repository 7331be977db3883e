"""SIGHUP: the configuration, and the program, are read anew, and no stream notices."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.rawhttp import DEADLINE, IDLE, Ended, Peer, RawUpstream, connect
from tests.support.running import PATIENCE, ROOT, Running, serving, wait_for

EVENT = b"data: %d\n\n"


class Upstream:
    """Answers with a stream that goes on when it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Semaphore(0)

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                asked = peer.read_message()
                if b"slow" not in asked.target:
                    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    continue
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                for number in range(4):
                    if number == 2:
                        assert self.go_on.acquire(timeout=4 * DEADLINE)
                    event = EVENT % number
                    peer.send(b"%x\r\n%b\r\n" % (len(event), event))
                peer.send(b"0\r\n\r\n")
        except Ended:
            return


class Place:
    """A wiretape that reads its configuration anew."""

    def __init__(self, wiretape: Running, upstream: Upstream, url: str, file: Path) -> None:
        self.wiretape = wiretape
        self.upstream = upstream
        self.url = url
        self._file = file

    def configure(self, more: str = "", *, wait: str = ") were read anew") -> None:
        """Write another configuration, and wait for what the log says of it."""
        self._file.write_text(config_of(self.url) + more)
        before = self.wiretape.log.count(wait)
        self.wiretape.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.wiretape.log.count(wait) > before, wait)

    def wait_for(self, upstream: str, status: int) -> None:
        """For a moment the old worker still takes what comes."""
        wait_for(lambda: self.ask(upstream).status_code == status, f"{status} from {upstream}")

    def ask(self, upstream: str = "openai") -> httpx.Response:
        return self.wiretape.client.get(f"http://127.0.0.1:{self.wiretape.port}/{upstream}/v1/models")


def config_of(url: str) -> str:
    return f"[upstreams.openai]\nurl = '{url}'\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("reload")
    upstream = Upstream()
    with RawUpstream(upstream, deadline=IDLE) as origin, serving(folder, config=config_of(origin.url)) as wiretape:
        yield Place(wiretape, upstream, origin.url, folder / "wiretape.toml")
        upstream.go_on.release(100)
        assert wiretape.stop() == 0


def test_a_stream_goes_on_through_it(place: Place) -> None:
    port, old = place.wiretape.port, place.wiretape.pid("forward")
    assert place.ask("mine").status_code == 404
    with connect(port, deadline=4 * DEADLINE) as client:
        client.send(b"GET /openai/slow HTTP/1.1\r\nHost: h\r\n\r\n")
        client.read_until(EVENT % 1)
        place.configure(f"[upstreams.mine]\nurl = '{place.url}'\n")
        place.wait_for("mine", 200)
        assert place.wiretape.port == port
        assert old in {each.pid for each in place.wiretape.statuses("forward")}, "it has a stream to carry"
        place.configure()  # once more, while the first one still runs
        place.wait_for("mine", 404)
        place.upstream.go_on.release()
        client.read_until(b"\r\n0\r\n\r\n")
        assert [bytes(client.received).count(EVENT % number) for number in range(4)] == [1] * 4
    wait_for(lambda: old not in {each.pid for each in place.wiretape.statuses("forward")}, "the end of the old worker")
    wait_for(lambda: len(place.wiretape.statuses("forward")) == 1, "the end of those between")
    place.wiretape.wait_stored(2)


def installed(folder: Path) -> Path:
    """A copy of the program, for a user's path."""
    package = folder / "installed"
    shutil.copytree(ROOT / "proxy", package / "proxy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "migrations", package / "proxy" / "_migrations")
    return package


def test_another_version_takes_over(tmp_path: Path) -> None:
    """The program is replaced under a stream, as an installer does it."""
    package = installed(tmp_path)
    upstream = Upstream()
    with (
        RawUpstream(upstream, deadline=IDLE) as origin,
        serving(tmp_path, config=config_of(origin.url), variables={"PYTHONPATH": str(package)}) as wiretape,
        connect(wiretape.port, deadline=4 * DEADLINE) as client,
    ):
        client.send(b"GET /openai/slow HTTP/1.1\r\nHost: h\r\n\r\n")
        client.read_until(EVENT % 1)
        (package / "proxy" / "__init__.py").write_text('__version__ = "99.1"\n')
        wiretape.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "program (wiretape 99.1) were read anew" in wiretape.log, "the other version")
        upstream.go_on.release()
        client.read_until(b"\r\n0\r\n\r\n")
        assert [bytes(client.received).count(EVENT % number) for number in range(4)] == [1] * 4
        wiretape.wait_stored(1)


def test_a_program_that_cannot_begin_changes_nothing(place: Place, tmp_path: Path) -> None:
    """Its check fails, whatever it fails of."""
    package = installed(tmp_path)
    with serving(tmp_path, config=config_of(place.url), variables={"PYTHONPATH": str(package)}) as wiretape:
        (package / "proxy" / "cli" / "start.py").write_text("this is no Python\n")
        wiretape.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "all goes on as before" in wiretape.log, "the log")
        assert wiretape.client.get(f"{wiretape.base_url('openai')}/v1/models").text == "ok"
        wiretape.process.send_signal(signal.SIGTERM)
        wiretape.process.wait(PATIENCE)


def test_what_is_wrong_changes_nothing(place: Place) -> None:
    before = place.wiretape.pid("forward")
    place.configure("[upstreams.mine]\nurl = 'ftp://x'\n", wait="all goes on as before")
    assert "upstreams.mine.url" in place.wiretape.log
    place.configure("home = 1\n", wait="nothing is read anew")
    assert place.ask().text == "ok"
    assert place.wiretape.pid("forward") == before
    assert "Traceback" not in place.wiretape.log


def test_every_role_begins_anew(place: Place) -> None:
    roles = ("forward", "ingest", "console")
    before = {role: place.wiretape.pid(role) for role in roles}
    place.configure("[record]\nredact_headers = ['x-mine']\n")

    def others() -> bool:
        now = {role: {each.pid for each in place.wiretape.statuses(role)} for role in roles}
        return all(now[role] and before[role] not in now[role] for role in roles)

    wait_for(others, "processes in the place of those before")
    assert place.wiretape.client.get(f"{place.wiretape.console}/-/ready").status_code == 200
    assert place.ask().text == "ok"


def test_a_port_can_be_another_one(place: Place, tmp_path: Path) -> None:
    with connect(place.wiretape.port) as held:
        held.send(b"GET /openai/slow HTTP/1.1\r\nHost: h\r\n\r\n")
        held.read_until(EVENT % 1)
        before = place.wiretape.port
        place.configure("[forward]\nhost = 'localhost'\nport = 0\n")
        others = {each.facts["address"][1] for each in place.wiretape.statuses("forward") if each.facts["address"]}
        assert others - {before}
        place.upstream.go_on.release()
        held.read_until(EVENT % 3)

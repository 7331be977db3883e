"""What fails inside wiretape is logged and answered by type and place: the error's text may quote a credential."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.secrets import failing_forward
from tests.flow.secrets.marks import Mint, leaks
from tests.support.rawhttp import Message, Peer, RawUpstream, connect
from tests.support.running import Running, environment, files_of, wait_for

MINT = Mint(7)
SECRET = MINT.shaped("openai")
ODD = "odd-" + MINT.plain("odd")


def _explode(peer: Peer) -> None:
    peer.read_message()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nEXPLODE\r\n0\r\n\r\n")
    peer.read_to_end()


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("failing")
    with RawUpstream(_explode) as upstream, (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        flags = ["--upstream", "lookup=http://lookup.invalid", "--upstream", f"parser={upstream.url}"]
        variables = {"WIRETAPE_HOME": str(folder / "home"), "WIRETAPE_FORWARD__PORT": "0", "SECRET": SECRET}
        process = subprocess.Popen(
            [sys.executable, failing_forward.__file__, "forward", *flags],
            cwd=folder,
            env=environment(folder, variables),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        running = Running(process, folder / "home", folder / "out", folder / "err")
        try:
            yield running
        finally:
            running.clean_up()


@pytest.mark.parametrize(("where", "credential"), [("lookup", SECRET), ("parser", SECRET), ("demo", ODD)])
def test_it_is_told_by_type_and_place(failing: Running, where: str, credential: str) -> None:
    before = failing.log
    answer = _ask(failing, where, credential)
    assert answer.status in {500, 502}
    said = json.loads(answer.body)["error"]
    assert said["type"].startswith("wiretape_")
    if answer.status == 500:
        assert "(RuntimeError at failing_forward.py:" in said["message"]

    def logged() -> str:
        return failing.log.removeprefix(before)

    wait_for(lambda: "RuntimeError at failing_forward.py:" in logged(), "the log")
    assert len(logged().splitlines()) == 1
    assert "Traceback" not in logged()


def test_no_text_of_the_errors_is_left(failing: Running) -> None:
    for where, credential in (("lookup", SECRET), ("parser", SECRET), ("demo", ODD)):
        _ask(failing, where, credential)
    wait_for(lambda: failing.log.count("RuntimeError at failing_forward.py:") >= 3, "the log")
    kept = files_of(failing.home)
    assert any(path.suffix == ".journal" and data.count(b"wire_end") >= 2 for path, data in kept.items())
    kept |= {Path("log"): failing.log.encode(), Path("output"): failing.output.encode()}
    assert [path for path, data in kept.items() if leaks(data, MINT.marks)] == []


def _ask(failing: Running, where: str, credential: str) -> Message:
    with connect(int(failing.url.rpartition(":")[2])) as client:
        head = f"GET /{where}/v1/models HTTP/1.1\r\nHost: wiretape\r\nAuthorization: Bearer {credential}\r\n\r\n"
        return client.send(head.encode()).read_message()

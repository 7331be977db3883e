"""A provider's key that wiretape holds, as a user has it: out of the environment, onto requests, and nowhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.here import Ran, run_here
from tests.support.rawhttp import IDLE, Ended, Message, Peer, RawUpstream, connect
from tests.support.running import Running, files_of, run_wiretape, serving

KEY = "held-key-of-no-known-shape-4711"
BODY = b'{"model":"m","messages":[]}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
PLAYED = """
[upstreams.played]
url = '%s'
key_env = 'MY_KEY'
mode = 'playback_else_record'
[playback]
port = 0
"""
CALL = """
import os, urllib.request
request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", b'{"model":"gpt-4o-mini"}')
print(urllib.request.urlopen(request).status)
"""


class Upstream:
    """A provider that keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Message] = []

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                self.requests.append(peer.read_message())
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                peer.send(b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))
        except Ended:
            return


class Place(NamedTuple):
    wiretape: Running
    folder: Path
    upstream: Upstream
    original: str

    def command(self, *words: str) -> Ran:
        port = {"WIRETAPE_FORWARD__PORT": str(self.wiretape.port)}
        return run_here(self.folder, *words, "--home", str(self.wiretape.home), variables=port)


def config(url: str) -> str:
    return (
        f"[forward]\nshutdown_grace = '1s'\n[upstreams.openai]\nurl = '{url}'\nkey_env = 'MY_KEY'\n"
        f"[upstreams.other]\nurl = '{url}'\n"
    )


def ask(port: int, upstream: bytes, host: bytes = b"localhost") -> Message:
    head = b"POST /%b/v1/chat/completions HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer unused\r\n"
    with connect(port) as client:
        return client.send(head % (upstream, host), b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)).read_message()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, script = tmp_path_factory.mktemp("held"), Upstream()
    with (
        RawUpstream(script, deadline=IDLE) as origin,
        serving(folder, config=config(origin.url) + PLAYED % origin.url, variables={"MY_KEY": f"{KEY}\n"}) as wiretape,
    ):
        original = ask(wiretape.port, b"openai").one("x-wiretape-exchange")
        assert original is not None
        ask(wiretape.port, b"other")
        wiretape.wait_stored(2)
        yield Place(wiretape, folder, script, original.decode())


def test_its_own_upstream_gets_it(place: Place) -> None:
    held, other = place.upstream.requests[:2]
    assert held.all("authorization") == [f"Bearer {KEY}".encode()]
    assert other.all("authorization") == [b"Bearer unused"]


def test_nothing_else_has_it(place: Place) -> None:
    for pid in place.wiretape.family():
        assert KEY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    shown = place.command("show", place.original, "--format", "json")
    texts = [place.wiretape.log, place.wiretape.output, shown.out.decode(), shown.err]
    texts += [data.decode("latin-1") for data in files_of(place.wiretape.home).values()]
    assert not [text for text in texts if KEY in text or KEY[:16] in text]


def test_what_is_recorded_of_it(place: Place) -> None:
    shown: dict[str, Any] = json.loads(place.command("show", place.original, "--format", "json").out)
    change = shown["changes"][0]["change"]
    assert change["kind"] == "request_header_added"
    assert change["headers"] == [["authorization", f"Bearer redacted:{shown['credential']}"]]
    assert change["removed"] == ["authorization"]
    assert b"without authorization" in place.command("show", place.original).out


def test_spend_knows_it_from_what_clients_bring(place: Place) -> None:
    spent = json.loads(place.command("spend", "--by", "credential", "--format", "json").out)
    listed = json.loads(place.command("ls", "--format", "json", "--upstream", "openai").out)
    held = {each["credential"] for each in listed}
    found = json.dumps(spent)
    assert len(held) == 1
    assert held.pop() in found


def test_what_is_played_needs_none(place: Place) -> None:
    """The upstream gets it for what is not recorded yet; a name that is not ours does not get so far."""
    before = len(place.upstream.requests)
    assert ask(place.wiretape.port, b"played", host=b"evil.example").status == 403
    assert len(place.upstream.requests) == before
    assert ask(place.wiretape.port, b"played").body == ANSWER
    (came,) = place.upstream.requests[before:]
    assert came.all("authorization") == [f"Bearer {KEY}".encode()]
    place.wiretape.wait_stored(1)
    again = ask(place.wiretape.port, b"~session=again/played")
    assert (again.status, again.body, again.one("x-wiretape-recorded")) == (200, ANSWER, None)
    assert len(place.upstream.requests) == before + 1


def test_resend_needs_no_key(place: Place) -> None:
    before = len(place.upstream.requests)
    ran = place.command("resend", place.original, "--format", "json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)[0]["outcome"] == "completed"
    (came,) = place.upstream.requests[before:]
    assert (came.all("authorization"), came.body) == ([f"Bearer {KEY}".encode()], BODY)


def test_run_puts_it_on(tmp_path: Path) -> None:
    script = Upstream()
    with RawUpstream(script, deadline=IDLE) as origin:
        (tmp_path / "wiretape.toml").write_text(config(origin.url))
        words = ("--home", str(tmp_path / "home"), "run", "--", sys.executable, "-c", CALL)
        ran = run_wiretape(tmp_path, *words, variables={"MY_KEY": KEY})
        assert (ran.returncode, ran.stdout) == (0, "200\n"), ran.stderr
        assert [each.one("authorization") for each in script.requests] == [f"Bearer {KEY}".encode()]
        without = run_wiretape(tmp_path, *words)
    assert without.returncode == 2
    assert "upstreams.openai.key_env names MY_KEY, which is not set: set it to the key" in without.stderr
    assert "Traceback" not in without.stderr
    assert len(script.requests) == 1

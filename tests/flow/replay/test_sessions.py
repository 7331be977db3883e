"""Sessions over HTTP, as programs of any language use them: recorded, played, completed, and kept as a cassette."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.playing import playing
from tests.support.rawhttp import IDLE, Ended, Peer, RawUpstream, connect
from tests.support.running import PATIENCE

EVENTS = [b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % number for number in range(3)]


class Upstream:
    """Answers each request with a stream that names its number; waits in its midst where it is told to."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                asked = peer.read_message()
                self.asked.append(asked.body)
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n")
                peer.send(b"X-Number: %d\r\n\r\n" % len(self.asked))
                for event in EVENTS:
                    peer.send(b"%x\r\n%b\r\n" % (len(event), event))
                    if b"slow" in asked.body:
                        peer.send(b"%x\r\n%b\r\n" % (400_000, b":" * 400_000))
                peer.send(b"0\r\n\r\n")
        except Ended:
            return


class Server:
    """`wiretape playback --record`, as a test would have started it."""

    def __init__(self, url: str, upstream: Upstream) -> None:
        self.url = url
        self.upstream = upstream
        self.client = httpx.Client(trust_env=False, timeout=PATIENCE)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def control(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.client.request(method, f"{self.url}/-/sessions/{path}", **more)

    def ask(self, session: str, word: str = "hi") -> httpx.Response:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": word}]}
        url = f"{self.url}/~session={session},env=ci/openai/v1/chat/completions?a=%2f"
        return self.client.post(url, json=body, headers={"authorization": "Bearer sk-secret-0123456789abcdefg"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    upstream = Upstream()
    folder = tmp_path_factory.mktemp("sessions")
    with (
        RawUpstream(upstream, deadline=IDLE) as origin,
        playing(folder, "--record", "--upstream", f"openai={origin.url}") as url,
    ):
        server = Server(url, upstream)
        with server.client:
            yield server


def test_recorded_then_played(server: Server) -> None:
    assert server.control("PUT", "one?mode=record").status_code == 201
    first = [server.ask("one"), server.ask("one")]
    assert [int(each.headers["x-number"]) for each in first] == [
        len(server.upstream.asked) - 1,
        len(server.upstream.asked),
    ]
    cassette = server.control("GET", "one/cassette")
    assert cassette.headers["content-type"] == "text/plain; charset=utf-8"
    assert "sk-secret" not in cassette.text
    assert "tag env=ci\n> POST /openai/v1/chat/completions?a=%2f HTTP/1.1\n> Host: 127.0.0.1\n" in cassette.text
    assert "session " not in cassette.text
    report = server.control("GET", "one").json()
    assert (len(report["recorded"]), report["unmatched"]) == (2, [])

    before = len(server.upstream.asked)
    opened = server.control("PUT", "two", content=cassette.content)
    assert (opened.status_code, opened.json()["recordings"], len(opened.json()["equal"])) == (201, 2, 1)
    again = [server.ask("two"), server.ask("two")]
    assert [each.content for each in again] == [each.content for each in first] == [b"".join(EVENTS)] * 2
    assert [each.headers["x-number"] for each in again] == [each.headers["x-number"] for each in first]
    third = server.ask("two")
    assert (third.status_code, third.json()["error"]["type"]) == (404, "wiretape_no_recording")
    assert len(server.upstream.asked) == before
    assert server.control("GET", "two/cassette").text == cassette.text
    assert len(server.control("DELETE", "two").json()["unmatched"]) == 1


def test_what_is_missing_is_recorded(server: Server) -> None:
    server.control("PUT", "three?mode=record")
    server.ask("three", "known")
    cassette = server.control("GET", "three/cassette").content
    before = len(server.upstream.asked)
    assert server.control("PUT", "four?mode=record-missing", content=cassette).status_code == 201
    known, fresh = server.ask("four", "known"), server.ask("four", "fresh")
    assert ("x-wiretape-recorded" in known.headers, "x-wiretape-recorded" in fresh.headers) == (False, True)
    assert len(server.upstream.asked) == before + 1
    whole = server.control("GET", "four/cassette").text
    assert (whole.count("\n== "), whole.count("known"), whole.count("fresh")) == (4, 1, 1)
    assert server.control("GET", "four").json()["unmatched"] == []


def test_rules_are_kept_with_the_cassette(server: Server) -> None:
    rules = "wiretape cassette 1\nrule ignore_json messages[*].content\n\n== times\n== end 0\n"
    assert server.control("PUT", "five?mode=record", content=rules.encode()).status_code == 201
    server.ask("five", "today")
    cassette = server.control("GET", "five/cassette")
    assert cassette.text.splitlines()[1] == "rule ignore_json messages[*].content"
    server.control("PUT", "five", content=cassette.content)
    assert server.ask("five", "tomorrow").status_code == 200
    assert server.ask("five", "tomorrow").status_code == 404


def test_a_client_that_leaves_cuts_nothing_short(server: Server) -> None:
    server.control("PUT", "six?mode=record")
    body = b'{"model":"m","messages":"slow"}'
    with connect(server.port) as client:
        client.send(
            b"POST /~session=six/openai/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body), body
        )
        client.read_head()
    cassette = server.control("GET", "six/cassette")
    assert cassette.status_code == 200, cassette.text
    assert cassette.text.count('"content":"') == len(EVENTS)
    assert "ended upstream_end" in cassette.text


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "said"),
    [
        ("PUT", "x?mode=rec", b"", 400, "one of playback, record, record-missing"),
        ("PUT", "x?speed=1", b"", 400, "?mode="),
        ("PUT", "", b"", 400, "needs a name"),
        ("PUT", "x", b"wiretape cassette 9 (wiretape 7.1.0)\n", 400, "wiretape 7.1.0 or later reads it"),
        ("PUT", "x", b"wiretape cassette 1\nrule ignore_json [\n", 400, "line 2"),
        ("PUT", "x", b"\xff", 400, "not UTF-8"),
        ("GET", "nobody/cassette", b"", 404, "no session of this name"),
        ("GET", "nobody/other", b"", 404, "playback answers"),
        ("POST", "x", b"", 405, "playback answers"),
    ],
)
def test_bad_words(server: Server, method: str, path: str, content: bytes, status: int, said: str) -> None:
    answer = server.control(method, path, content=content)
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True), answer.text

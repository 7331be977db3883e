"""An upstream that fails is never dressed up as one that succeeded: what broke off reaches the client broken."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Slot, Stage, chunk, request, response
from tests.support.rawhttp import DEADLINE, End, Peer

EVENT = b'data: {"n": 1}\n\n'
_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
_UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"

BROKEN: dict[str, tuple[bytes, bytes, str]] = {
    "FIN inside a chunk": (STREAM, b"ff\r\n" + EVENT, "fin"),
    "FIN inside a chunk's size": (STREAM, chunk(EVENT) + b"f", "fin"),
    "FIN without the last chunk": (STREAM, chunk(EVENT), "fin"),
    "FIN inside the last chunk": (STREAM, chunk(EVENT) + b"0\r\n", "fin"),
    "FIN inside the trailers": (STREAM, chunk(EVENT) + b"0\r\nA: b\r\n", "fin"),
    "FIN before the length": (_LENGTH, EVENT, "fin"),
    "RST inside a chunk": (STREAM, b"ff\r\n" + EVENT, "rst"),
    "RST between chunks": (STREAM, chunk(EVENT), "rst"),
    "RST before the length": (_LENGTH, EVENT, "rst"),
    "RST until close": (_UNTIL_CLOSE, EVENT, "rst"),
    "garbage for a chunk's size": (STREAM, chunk(EVENT) + b"xyz\r\n", "open"),
    "garbage behind a chunk": (STREAM, b"%x\r\n%bgarbage\r\n" % (len(EVENT), EVENT), "open"),
    "a negative chunk": (STREAM, chunk(EVENT) + b"-5\r\nhello\r\n", "open"),
    "an endless chunk size": (STREAM, chunk(EVENT) + b"f" * 40 + b"\r\n", "open"),
    "an HTML page for a chunk": (STREAM, chunk(EVENT) + b"<html>502 Bad Gateway</html>", "open"),
}


class Breaking:
    """A script that sends a head and, once the client has that, what follows, and then ends as told."""

    def __init__(self, head: bytes, rest: bytes, how: str) -> None:
        self.go_on = threading.Event()
        self._said = (head, rest)
        self._how = how

    def __call__(self, peer: Peer) -> None:
        peer.read_message()
        head, rest = self._said
        peer.send(head)
        if head:
            assert self.go_on.wait(DEADLINE)
        peer.send(rest)
        if self._how == "rst":
            peer.rst()
        elif self._how == "open":
            peer.read_to_end()  # the upstream itself never ends


@pytest.mark.parametrize("version", [b"1.1", b"1.0"], ids=["HTTP 1.1", "HTTP 1.0"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_response_that_breaks_off_stays_broken(stage: Stage, name: str, version: bytes) -> None:
    script = Breaking(*BROKEN[name])
    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}").replace(b"HTTP/1.1", b"HTTP/" + version))
        start, headers = client.read_head()
        assert b" 200 " in start
        script.go_on.set()
        body = client.read_to_end()
        recorded = stage.only(origin)
    assert EVENT in body
    _assert_broken(headers, body, client.ended)
    facts = recorded.facts
    assert (recorded.outcome, facts["wire_end"], facts["status"]) == ("upstream_failed", "upstream_error", 200)
    assert facts["error"]
    assert recorded.response == EVENT
    assert facts["response_bytes"] == len(EVENT)
    assert [each["kind"] for each in recorded.changes] == ["response_header_added"]


def _assert_broken(headers: list[tuple[bytes, bytes]], body: bytes, ended: End | None) -> None:
    """That no client could take the body for complete."""
    known = {name.lower(): value for name, value in headers}
    if b"content-length" in known:
        assert len(body) < int(known[b"content-length"])
    elif b"transfer-encoding" in known:
        assert not body.endswith(LAST_CHUNK)
        assert b"\r\n0\r\n" not in body
    else:
        assert ended is End.RST


@pytest.mark.parametrize("name", BROKEN)
def test_a_library_raises(stage: Stage, name: str) -> None:
    script = Breaking(*BROKEN[name])
    script.go_on.set()
    with stage.origin(script) as origin, pytest.raises(httpx.TransportError):
        stage.wiretape.client.post(f"{stage.wiretape.base_url(origin.name)}/v1/x", content=b"{}")


# Before the head

FAILING: dict[str, tuple[bytes, str]] = {
    "FIN at once": (b"", "fin"),
    "RST at once": (b"", "rst"),
    "FIN inside the status line": (b"HTTP/1.1 20", "fin"),
    "FIN inside the headers": (b"HTTP/1.1 200 OK\r\nContent-Ty", "fin"),
    "RST inside the headers": (b"HTTP/1.1 200 OK\r\nContent-Ty", "rst"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "open"),
    "HTTP/0.9": (b"<html>hello</html>", "open"),
    "HTTP/2": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "open"),
    "RTSP": (b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "open"),
    "no status": (b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "open"),
    "a status of letters": (b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", "open"),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", "open"),
    "status 000": (b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", "open"),
    "a header without a name": (b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n", "open"),
    "a header without a colon": (b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n", "open"),
    "a space in a header's name": (b"HTTP/1.1 200 OK\r\nA B: x\r\nContent-Length: 0\r\n\r\n", "open"),
    "NUL in a header": (b"HTTP/1.1 200 OK\r\nA: x\0y\r\nContent-Length: 0\r\n\r\n", "open"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "open"),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "open"),
    "a length of letters": (b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n", "open"),
    "an enormous length": (b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % (b"9" * 30), "open"),
    "both framings": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "open"),
    "an unknown framing": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: foo\r\n\r\n", "open"),
    "gzip as a framing": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "open"),
    "a switch that nobody asked for": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "open"),
    "an endless head": (b"HTTP/1.1 200 OK\r\n" + b"A: %b\r\n" % (b"x" * 1000) * 400, "open"),
    "an endless header": (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 400_000, "open"),
}


@pytest.mark.parametrize("name", FAILING)
def test_without_a_head_it_is_a_502(stage: Stage, name: str) -> None:
    said, how = FAILING[name]
    script = Breaking(b"", said, how)
    with stage.origin(script) as origin:
        answer = stage.exchange(request(origin.at(), b'{"secret": 1}'))
        recorded = stage.only(origin)
        assert len(origin.peers) == 1
    assert answer.status == 502
    assert answer.one("content-type") == b"application/json"
    error = json.loads(answer.body)["error"]
    assert error["type"] == "wiretape_upstream_broken"
    assert origin.name in error["message"]
    assert "secret" not in error["message"]
    _assert_ours(recorded.changes[-1], answer.status, answer.body)
    assert (recorded.outcome, recorded.facts["status"], recorded.response) == ("upstream_failed", None, b"")
    assert recorded.request == b'{"secret": 1}'
    assert answer.one("x-wiretape-exchange") == recorded.id.encode()


def _assert_ours(change: dict[str, object], status: int, body: bytes) -> None:
    """That a response which the upstream did not send is recorded as ours."""
    assert (change["kind"], change["status"]) == ("own_response", status)
    assert str(change["body"]).encode() == body


SHAPES: dict[str, list[list[str]]] = {
    "plain": [["error", "code"], ["error", "param"]],
    "anthropic": [["type"]],
    "gemini": [["error", "code"], ["error", "status"]],
    "cohere": [["message"]],
    "bedrock": [["message"], ["__type"]],
    "mistral": [],
    "ollama": [],
}


@pytest.mark.parametrize("kind", SHAPES)
def test_our_errors_have_the_shape_of_the_dialect(stage: Stage, kind: str) -> None:
    with stage.origin(Breaking(b"", b"", "fin"), kind=kind) as origin:
        answer = stage.exchange(request(origin.at(), b"{}"))
    said = json.loads(answer.body)
    assert answer.status == 502
    assert said["error"]["type"] == "wiretape_upstream_broken"
    assert said["error"]["message"]
    for path in SHAPES[kind]:
        inner = said
        for key in path:
            inner = inner[key]
    if kind == "anthropic":
        assert said["type"] == "error"
    if kind == "gemini":
        assert (said["error"]["code"], said["error"]["status"]) == (502, "UNAVAILABLE")


# Without a connection, or too late


def test_nobody_listens(stage: Stage) -> None:
    slot = stage.take()
    answer = stage.exchange(request(b"/%b/v1/x" % slot.name.encode(), b"{}"))
    recorded = stage.only(slot)
    assert answer.status == 502
    error = json.loads(answer.body)["error"]
    assert error["type"] == "wiretape_upstream_unreachable"
    assert slot.name in error["message"]
    assert recorded.outcome == "upstream_failed"
    assert recorded.facts["error"].startswith("connect: ")
    _assert_ours(recorded.changes[-1], 502, answer.body)


def test_an_upstream_that_speaks_no_tls(stage: Stage) -> None:
    def script(peer: Peer) -> None:
        peer.read_some()
        peer.send(b"HTTP/1.1 400 this is plain HTTP\r\n\r\n")

    with stage.origin(script, kind="tls") as origin:
        answer = stage.exchange(request(origin.at(), b"{}"))
        recorded = stage.only(origin)
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (502, "wiretape_upstream_unreachable")
    assert recorded.facts["error"].startswith("tls: ")


@pytest.fixture
def crowded(stage: Stage) -> Iterator[Slot]:
    """An upstream whose kernel answers no more connections, as one does that is overrun or behind a firewall."""
    slot = stage.take("crowded")
    listener = socket.socket()
    waiting = []
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", slot.port))
        listener.listen(0)
        for _ in range(4):
            sock = socket.socket()
            waiting.append(sock)
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", slot.port))
        yield slot
    finally:
        for sock in (*waiting, listener):
            sock.close()


def test_a_connection_that_takes_too_long(stage: Stage, crowded: Slot) -> None:
    answer = stage.exchange(request(b"/%b/x" % crowded.name.encode(), b"{}"))
    recorded = stage.only(crowded)
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (504, "wiretape_upstream_timeout")
    assert recorded.outcome == "upstream_failed"
    assert recorded.facts["error"].startswith("connect_timeout: ")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nX: y\r\n"], ids=["nothing", "half a head"])
def test_a_head_that_takes_too_long(stage: Stage, said: bytes) -> None:
    with stage.origin(Breaking(b"", said, "open"), kind="impatient") as origin:
        answer = stage.exchange(request(origin.at(), b"{}"))
        recorded = stage.only(origin)
        origin.wait_idle()
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (504, "wiretape_upstream_timeout")
    assert recorded.outcome == "upstream_failed"
    assert recorded.facts["error"].startswith("timeout: ")


def test_a_silence_that_takes_too_long_breaks_the_stream(stage: Stage) -> None:
    script = Breaking(STREAM, chunk(EVENT), "open")
    script.go_on.set()
    with stage.origin(script, kind="restless") as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        body = client.read_to_end()
        recorded = stage.only(origin)
        origin.wait_idle()
    assert EVENT in body
    _assert_broken(headers, body, client.ended)
    assert recorded.outcome == "upstream_failed"
    assert recorded.facts["error"].startswith("timeout: ")
    assert recorded.response == EVENT


def test_a_stream_that_keeps_talking_is_not_too_late(stage: Stage) -> None:
    """The limit is on one silence, not on the whole."""

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM)
        for _ in range(10):
            threading.Event().wait(0.25)
            peer.send(chunk(EVENT))
        peer.send(LAST_CHUNK)

    with stage.origin(script, kind="restless") as origin:
        assert stage.exchange(request(origin.at(), b"{}")).body == EVENT * 10


@pytest.mark.parametrize(
    "status", [b"400 Bad", b"401 No", b"413 Big", b"429 Slow", b"500 Oops", b"529 Overloaded", b"599 x"]
)
def test_an_error_that_came_through_is_completed(stage: Stage, status: bytes) -> None:
    """The outcome speaks of carriage only."""
    body = b'{"error": {"message": "theirs"}}'
    with stage.origin(Breaking(b"", response(body, b"retry-after: 3", status=status), "fin")) as origin:
        answer = stage.exchange(request(origin.at(), b"{}"))
        recorded = stage.only(origin)
    assert (answer.status, answer.body, answer.one("retry-after")) == (int(status[:3]), body, b"3")
    assert (recorded.outcome, recorded.facts["status"]) == ("completed", int(status[:3]))

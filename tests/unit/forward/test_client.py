"""The application under servers that know nothing of our wire: with less fidelity, but as unbuffered and as honest."""

from __future__ import annotations

import json
import threading

import pytest

from proxy.exchange import RequestHead, WireEnd
from proxy.journal import record
from tests.support.rawhttp import DEADLINE, Ended, Peer, RawUpstream, Script, chunked, connect, until
from tests.unit.forward.serving import HOST, application, serving
from tests.unit.forward.tape import Stage, body_of, decoded, sha

MEGABYTE = 1 << 20
GET = b"GET /o/v1/x HTTP/1.1\r\n" + HOST
POST = b"POST /o/v1/x?a=%20b HTTP/1.1\r\n" + HOST
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


pytestmark = pytest.mark.usefixtures("calm")


def answering(answer: bytes) -> Script:
    """Gives every request of a connection the same answer."""

    def script(peer: Peer) -> None:
        try:
            while True:
                peer.read_message()
                peer.send(answer)
        except Ended:
            return

    return script


def length(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"Content-Length: %d" % len(body), b"", body])


def test_a_plain_exchange(stage: Stage, server: str) -> None:
    with (
        RawUpstream(answering(length(b'{"a": 1}', b"X-One: 1", b"Set-Cookie: a", b"Set-Cookie: b"))) as upstream,
        serving(application(stage, upstream.port, expose_id=True), stage, server) as served,
        connect(served.port) as client,
    ):
        for _ in range(3):
            client.send(POST, b"X-Two: 2\r\nContent-Length: 5\r\n\r\nhello")
            message = client.read_message()
            assert (message.status, message.body, message.chunks) == (200, b'{"a": 1}', None)
            assert (message.one("x-one"), message.all("set-cookie")) == (b"1", [b"a", b"b"])
            assert message.one("x-wiretape-exchange") is not None
        ends = served.ends(3)
        received = bytes(upstream.peers[0].received)
        assert len(upstream.peers) == 1, "the connection carried all three"
    assert received.startswith(b"POST /v1/x?a=%20b HTTP/1.1\r\n")
    assert received.lower().count(b"host: 127.0.0.1:%d\r\n" % upstream.port) == 3
    assert received.count(b"hello") == 3
    assert [WireEnd(end.wire_end) for end in ends] == [WireEnd.UPSTREAM_END] * 3
    assert {(end.request_hash, end.response_hash) for end in ends} == {(sha(b"hello"), sha(b'{"a": 1}'))}
    assert {head.client for head in decoded(stage.records(), record.REQUEST_HEAD, RequestHead)} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (b"HEAD /o/v1/x HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET /o/v1/x HTTP/1.1\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET /o/v1/x HTTP/1.1\r\n", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n'),
    ],
)
def test_responses_without_a_body(stage: Stage, server: str, request_line: bytes, answer: bytes) -> None:
    def script(peer: Peer) -> None:
        try:
            while True:
                peer.read_message()
                peer.send(answer)
        except Ended:
            return

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        for _ in range(2):
            message = client.send(request_line, HOST, b"\r\n").read_message(bodiless=True)
            assert message.status == int(answer.split(b" ")[1])
        assert [WireEnd(end.wire_end) for end in served.ends(2)] == [WireEnd.UPSTREAM_END] * 2


def test_each_event_arrives_before_the_next_is_sent(stage: Stage, server: str) -> None:
    taken = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM)
        for number in range(10):
            peer.send(b"9\r\ndata: %d\n\n\r\n" % number)
            assert taken.acquire(timeout=DEADLINE)
        peer.send(b"0\r\n\r\n")

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        client.send(GET, b"\r\n").read_head()
        for number in range(10):
            client.read_until(b"data: %d\n\n\r\n" % number)
            assert not client.has_arrived()
            taken.release()
        assert client.read_exactly(5) == b"0\r\n\r\n"
        assert served.wire_end() == WireEnd.UPSTREAM_END
    assert body_of(stage.records()) == b"".join(b"data: %d\n\n" % number for number in range(10))


def test_an_upload_goes_up_as_it_comes(stage: Stage, server: str) -> None:
    arrived = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.read_head()
        for number in range(5):
            assert peer.read_until(b"piece %d\r\n" % number) == b"7\r\npiece %d\r\n" % number
            arrived.release()
        peer.read_until(b"0\r\n\r\n")
        peer.send(length(b"ok"))

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        client.send(POST, b"Transfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            client.send(b"7\r\npiece %d\r\n" % number)
            assert arrived.acquire(timeout=DEADLINE)
        client.send(b"0\r\n\r\n")
        assert client.read_message().body == b"ok"
        assert served.ends()[0].request_bytes == 35


def test_much_both_ways(stage: Stage, server: str) -> None:
    size = 8 * MEGABYTE
    data = bytes(range(256)) * (size // 256)

    def script(peer: Peer) -> None:
        body = peer.read_message().body
        peer.send(length(body))

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        client.send(POST, b"Content-Length: %d\r\n\r\n" % size, data)
        assert client.read_message().body == data
        end = served.ends()[0]
    assert (end.request_hash, end.response_hash) == (sha(data), sha(data))


def test_a_client_that_does_not_read_holds_the_upstream_back(stage: Stage, server: str) -> None:
    size = 64 * MEGABYTE
    stalled = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent = peer.fill(b"x" * 65536)
        assert sent < size // 2
        stalled.set()
        peer.send(b"x" * (size - sent))

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port, receive_buffer=65536) as client,
    ):
        client.send(GET, b"\r\n")
        assert stalled.wait(DEADLINE)
        assert len(client.read_message().body) == size
        assert served.wire_end() == WireEnd.UPSTREAM_END


# Who leaves


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves_ends_the_upstream(stage: Stage, server: str, begun: bool, reset: bool) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        if begun:
            peer.send(STREAM, b"9\r\ndata: 0\n\n\r\n")
        asked.set()
        peer.wait_hung_up()

    asked = threading.Event()
    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
    ):
        client = connect(served.port)
        client.send(GET, b"\r\n")
        assert asked.wait(DEADLINE)
        if begun:
            client.read_until(b"data: 0\n\n\r\n")
        if reset:
            client.rst()
        else:
            client.close()
        upstream.wait_idle()
        assert served.wire_end() == WireEnd.CLIENT_LEFT
        until(lambda: served.app.active == 0, "the exchange is over")


def test_a_client_that_leaves_amid_its_upload_breaks_it(stage: Stage, server: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.read_until(b"abc")
        asked.set()
        assert not peer.read_to_end().endswith(b"0\r\n\r\n")

    asked = threading.Event()
    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
    ):
        client = connect(served.port)
        client.send(POST, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert asked.wait(DEADLINE)
        client.close()
        upstream.wait_idle()
        assert served.wire_end() == WireEnd.CLIENT_LEFT


def test_told_to_drain_all_is_recorded(stage: Stage, server: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM, chunked(b"one")[:-5])
        assert left.wait(DEADLINE)
        peer.send(chunked(b"two"))
        peer.read_to_end()

    left = threading.Event()
    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port, drain=True), stage, server) as served,
    ):
        client = connect(served.port)
        client.send(GET, b"\r\n").read_until(b"one\r\n")
        client.rst()
        left.set()
        assert served.wire_end() in {WireEnd.CLIENT_LEFT, WireEnd.UPSTREAM_END}
    assert body_of(stage.records()) == b"onetwo"


# Upstreams that fail


def broken(client: Peer) -> bytes:
    """All that came of a response that cannot be taken for complete."""
    said = client.read_to_end()
    assert not said.endswith(b"0\r\n\r\n")
    return said


@pytest.mark.parametrize("framing", ["chunks", "a length"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_response_that_breaks_off_stays_broken(stage: Stage, server: str, framing: str, reset: bool) -> None:
    head = STREAM + b"3\r\nabc\r\n" if framing == "chunks" else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(head)
        assert seen.wait(DEADLINE)
        if reset:
            peer.rst()

    seen = threading.Event()
    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        client.send(GET, b"\r\n").read_until(b"abc")
        seen.set()
        assert broken(client) in {b"", b"\r\n"}
        assert served.wire_end() == WireEnd.UPSTREAM_ERROR


def test_what_came_before_it_broke_arrives_although_it_broke_at_once(stage: Stage, server: str) -> None:
    """It is recorded as passed on, and an error of the server's own would be one that the upstream never sent."""

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM + b"3\r\nabc\r\nzz\r\n")
        peer.read_to_end()

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        said = broken(client.send(GET, b"\r\n"))
        assert served.wire_end() == WireEnd.UPSTREAM_ERROR
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"abc" in said


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 abc\r\n\r\n"])
def test_without_a_head_it_is_our_own_502(stage: Stage, server: str, said: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(said)

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        for _ in range(2):
            message = client.send(POST, b"Content-Length: 2\r\n\r\nhi").read_message()
            assert (message.status, json.loads(message.body)["error"]["type"]) == (502, "wiretape_upstream_broken")
        assert [WireEnd(end.wire_end) for end in served.ends(2)] == [WireEnd.UPSTREAM_ERROR] * 2

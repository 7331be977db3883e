"""TLS on the client's side: the same requests and answers, and the ends that TLS has or has not."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from proxy.wire.limits import Limits
from proxy.wire.sockets import ALERT_PATIENCE
from tests.support import certificates
from tests.support.rawhttp import End, Ended, Peer, connect, until
from tests.unit.wire.serving import App, Hearing, Serve, Wired, answer
from tests.unit.wire.test_server_tunnel import SWITCHED, UPGRADE, switch

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
MEGABYTE = 1 << 20


@pytest.fixture
def trust(certificate: Path) -> ssl.SSLContext:
    return certificates.trusting(certificate)


def begun(heard: Hearing, word: str) -> None:
    """Says a head and a piece, and no more."""
    if word == "attached":
        heard.start()
        heard.side.write(b"begin")
        heard.side.flush()


def unwrap(peer: Peer) -> None:
    """Send the close alert and wait for the other's."""
    assert isinstance(peer._sock, ssl.SSLSocket)
    peer._sock.unwrap().close()


def test_requests_one_behind_the_other(serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    app = Wired(answer)
    with serve(app, tls=server_tls) as served, connect(served.port, tls=trust) as client:
        for body in (b"hello", b"x" * 3 * MEGABYTE, b""):
            client.send(POST, b"Content-Length: %d\r\n\r\n" % len(body), body)
            assert client.read_message().body == body
        client.send(POST, b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", GET)
        assert [client.read_message().body for _ in range(2)] == [b"abc", b""]
    assert len(app.heard) == 5


def test_the_scope_says_so(serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    app = App(body=b"yes")
    with serve(app, tls=server_tls) as served, connect(served.port, tls=trust) as client:
        client.send(GET).read_message()
    assert app.scopes[0]["scheme"] == "https"


@pytest.mark.parametrize("how", [Peer.close, Peer.rst, unwrap], ids=["FIN", "RST", "alert"])
def test_who_leaves_is_missed_at_once(
    serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext, how: object
) -> None:
    app = Wired(begun)
    with serve(app, tls=server_tls) as served:
        client = connect(served.port, tls=trust).send(GET)
        heard = app.wait()
        client.read_until(b"begin\r\n")
        assert callable(how)
        how(client)
        until(lambda: heard.log[-1].startswith("lost"), "it is missed")
        until(lambda: not served.state.connections, "the connection is closed")


@pytest.mark.parametrize("idle", [True, False], ids=["an idle connection", "after the answer"])
def test_closed_without_waiting_for_an_alert(
    serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext, idle: bool
) -> None:
    """Most clients do not read what waits in their pool, and a stop must not wait for them."""
    with serve(Wired(answer), tls=server_tls) as served, connect(served.port, tls=trust) as client:
        client.send(GET if idle else GET.replace(HOST, HOST + b"Connection: close\r\n"))
        client.read_message()
        before = time.monotonic()
        if idle:
            served.shut_down()
        until(lambda: not served.state.connections, "the connection is closed")
        assert time.monotonic() - before < 10 + ALERT_PATIENCE, "what asyncio would wait is half a minute"
        assert (client.read_to_end(), client.ended) == (b"", End.FIN)


def test_who_reads_late_gets_all_of_the_last_answer(
    serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    body = b"x" * 4 * MEGABYTE

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start((b"Connection", b"close"), (b"Content-Length", b"%d" % len(body)))
            heard.side.write(body)
            heard.end()

    with serve(Wired(say), tls=server_tls) as served, connect(served.port, receive_buffer=4096, tls=trust) as client:
        client.send(GET)
        client.read_head()
        assert client.read_exactly(len(body)) == body


def test_who_still_sends_hears_why_it_is_refused(
    serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    with serve(Wired(answer), Limits(headers=1), tls=server_tls) as served, connect(served.port, tls=trust) as client:
        client.send(GET.replace(b"\r\n\r\n", b"\r\nA: b\r\n\r\n"), b"x" * MEGABYTE)
        assert client.read_message().status == 431


@pytest.mark.parametrize("head", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
def test_what_is_broken_off_looks_so(
    serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext, head: bytes
) -> None:
    name, _, value = head.partition(b": ")

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start((name, value))
            heard.side.write(b"begin")
            heard.side.flush()
            heard.abort()

    with serve(Wired(say), tls=server_tls) as served, connect(served.port, tls=trust) as client:
        client.send(GET)
        with pytest.raises(Ended):
            client.read_message()


def test_an_end_without_a_length_is_an_alert_and_a_broken_one_a_reset(
    serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            begun(heard, "attached")
            heard.end() if heard.side.request.target == b"/" else heard.abort()

    with serve(Wired(say), tls=server_tls) as served:
        for target, end in ((b"/", End.FIN), (b"/broken", End.RST)):
            with connect(served.port, tls=trust) as client:
                client.send(b"GET %b HTTP/1.0\r\n\r\n" % target)
                assert client.read_to_end().endswith(b"begin")
                assert client.ended is end


@pytest.mark.parametrize("how", [Peer.close, unwrap], ids=["FIN", "alert"])
def test_a_tunnel_that_its_client_leaves(
    serve: Serve,
    server_tls: ssl.SSLContext,
    trust: ssl.SSLContext,
    how: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Wired(switch)
    with serve(app, tls=server_tls) as served, connect(served.port, tls=trust) as client:
        assert client.send(UPGRADE).read_exactly(len(SWITCHED)) == SWITCHED
        assert client.send(b"hello").read_exactly(5) == b"HELLO"
        assert callable(how)
        how(client)
        until(lambda: app.heard[0].log[-1].startswith("lost"), "it is missed")
        until(lambda: not served.state.connections, "the connection is closed")
    assert caplog.messages == []


def test_a_tunnel_that_its_upstream_leaves(serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    app = Wired(switch)
    with serve(app, tls=server_tls) as served, connect(served.port, tls=trust) as client:
        assert client.send(UPGRADE).read_exactly(len(SWITCHED)) == SWITCHED
        heard = app.heard[0]
        app.do(lambda: heard.side.write(b"bye"), heard.end)
        assert client.read_to_end() == b"bye"
        assert client.ended is End.FIN


def test_a_client_that_speaks_no_tls(
    serve: Serve, server_tls: ssl.SSLContext, trust: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(Wired(answer), tls=server_tls) as served:
        with connect(served.port) as plain:
            assert b"HTTP" not in plain.send(GET).read_to_end()
        with connect(served.port, tls=trust) as client:
            assert client.send(GET).read_message().status == 200
    assert caplog.messages == []

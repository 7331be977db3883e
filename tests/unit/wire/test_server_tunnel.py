"""A tunnel on the client's side: bytes pass as they are, each direction ends for itself, and a reset is no end."""

from __future__ import annotations

import pytest

from proxy.wire.interface import UpstreamResponse
from proxy.wire.server import PIPELINE
from proxy.wire.server_exchange import ServerExchange
from tests.support.rawhttp import End, Peer, connect, until
from tests.unit.wire.serving import Hearing, Serve, Wired

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HEADERS = [(b"Connection", b"Upgrade"), (b"uPGRADE", b"websocket"), (b"X", b"")]
SWITCHED = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nuPGRADE: websocket\r\nX: \r\n\r\n"
MEGABYTE = 1 << 20


def switch(heard: Hearing, word: str) -> None:
    """Sends back what comes, in upper case."""
    side = heard.side
    if word == "attached":
        side.tunnel(UpstreamResponse(101, b"Switching", list(HEADERS), bodiless=True))
        side.flush()
    elif word == "body" and not side.ended:
        side.write(heard.parts[-1].upper())
        side.flush()


def end(heard: Hearing) -> None:
    """The upstream says no more."""
    heard.side.end([])
    heard.side.flush()


def opened(client: Peer) -> Peer:
    assert client.send(UPGRADE).read_exactly(len(SWITCHED)) == SWITCHED
    return client


def test_bytes_pass_both_ways_as_they_are(serve: Serve) -> None:
    app = Wired(switch)
    with serve(app) as served, connect(served.port) as client:
        opened(client)
        for data in (b"\x00\xffget / http/1.1\r\n\r\n", b"0\r\n\r\n", b"x" * MEGABYTE):
            client.send(data)
            assert client.read_exactly(len(data)) == data.upper()
        heard = app.heard[0]
        assert heard.side.request.upgrade
        assert heard.log.count("end") == 1, "of the request, not of the tunnel"
        app.do(heard.abort)


@pytest.mark.parametrize("size", [5, 4 * PIPELINE])
def test_what_a_client_says_before_it_is_answered_waits(serve: Serve, size: int) -> None:
    """It may yet be another request."""
    app = Wired(lambda *_: None)
    with serve(app) as served, connect(served.port) as client:
        client.send(UPGRADE, b"e" * size)
        heard = app.wait()
        assert not client.has_arrived(0.1)
        assert heard.body == b""
        app.do(lambda: switch(heard, "attached"))
        assert client.read_exactly(len(SWITCHED)) == SWITCHED
        until(lambda: heard.body == b"e" * size, "what waited is told")
        client.send(b"late")
        until(lambda: heard.body == b"e" * size + b"late", "and what comes then")
        app.do(heard.abort)


def test_what_waited_for_the_switch_comes_before_an_end_that_comes_with_it(serve: Serve) -> None:
    """The event loop tells of the end before it comes to what was put off."""
    app = Wired(lambda *_: None)

    def switch_and_hear_the_end() -> None:
        switch(heard, "attached")
        assert isinstance(heard.side, ServerExchange)
        heard.side._protocol.eof_received()

    with serve(app) as served, connect(served.port) as client:
        client.send(UPGRADE, b"early")
        heard = app.wait()
        app.do(switch_and_hear_the_end)
        heard.waits_for("end", 2)
        assert (heard.body, heard.log) == (b"early", ["attached", "end", "body", "end"])
        app.do(heard.abort)


def test_a_request_that_waits_behind_a_refused_upgrade_is_one(serve: Serve) -> None:
    def refuse(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start((b"Content-Length", b"0"), status=426)
            heard.end()

    app = Wired(refuse)
    with serve(app) as served, connect(served.port) as client:
        client.send(UPGRADE, UPGRADE)
        for _ in range(2):
            assert client.read_message().status == 426
    assert len(app.heard) == 2


def test_the_client_ends_first(serve: Serve) -> None:
    app = Wired(switch)
    with serve(app) as served, connect(served.port) as client:
        opened(client).send(b"bye").read_until(b"BYE")
        client.fin()
        heard = app.heard[0]
        heard.waits_for("end", 2)
        app.do(lambda: heard.side.write(b"still here"), heard.side.flush)
        assert client.read_until(b"here") == b"still here"
        app.do(lambda: end(heard))
        assert (client.read_to_end(), client.ended) == (b"", End.FIN)
        app.do(heard.over.set)
        assert not any("lost" in word for word in heard.log[:-1])


def test_a_half_closed_tunnel_may_be_silent_for_long(serve: Serve) -> None:
    """Unlike a request's client, whose silence is all there is to see of it."""
    app = Wired(switch)
    with serve(app) as served, connect(served.port) as client:
        opened(client).send(b"bye").read_until(b"BYE")
        client.fin()
        heard = app.heard[0]
        heard.waits_for("end", 2)
        assert not client.has_arrived(1.5)
        app.do(lambda: heard.side.write(b"still here"), lambda: end(heard), heard.over.set)
        assert client.read_to_end() == b"still here"


def test_the_upstream_ends_first(serve: Serve) -> None:
    app = Wired(switch)
    with serve(app) as served, connect(served.port) as client:
        opened(client).send(b"one").read_until(b"ONE")
        heard = app.heard[0]
        app.do(lambda: heard.side.write(b"last words"), lambda: end(heard))
        assert (client.read_to_end(), client.ended) == (b"last words", End.FIN)
        client.send(b"still ", b"here")
        until(lambda: heard.body == b"onestill here", "the other direction goes on")
        client.fin()
        heard.waits_for("end", 2)
        app.do(heard.over.set)
        until(lambda: not served.state.connections, "the connection is closed")


def test_both_end(serve: Serve) -> None:
    app = Wired(switch)
    with serve(app) as served, connect(served.port) as client:
        opened(client)
        heard = app.heard[0]
        client.fin()
        heard.waits_for("end", 2)
        app.do(lambda: end(heard), heard.over.set)
        assert client.read_to_end() == b""
        until(lambda: not served.state.connections, "the connection is closed")


def test_a_client_that_is_gone_has_not_ended(serve: Serve) -> None:
    app = Wired(switch)
    with serve(app) as served:
        client = connect(served.port)
        opened(client)
        client.rst()
        app.heard[0].waits_for("lost by a reset")
        assert app.heard[0].log.count("end") == 1


def test_breaking_off_shows_as_a_reset_behind_what_was_said(serve: Serve) -> None:
    app = Wired(switch)
    with serve(app) as served, connect(served.port) as client:
        opened(client)
        heard = app.heard[0]
        app.do(lambda: heard.side.write(b"x" * MEGABYTE), heard.side.flush, heard.abort)
        assert client.read_to_end() == b"x" * MEGABYTE
        assert client.ended is End.RST


def test_a_switch_that_was_taken_back_is_none(serve: Serve) -> None:
    """Such as one that could not be recorded."""

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.side.tunnel(UpstreamResponse(101, b"Switching", list(HEADERS), bodiless=True))
            heard.side.write(b"abc")
            heard.side.discard()
            heard.start((b"Content-Length", b"0"), status=503)
            heard.end()

    with serve(Wired(say)) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(UPGRADE).read_message()
            assert (message.status, message.headers) == (503, [(b"Content-Length", b"0")])


def test_quiet_tunnels_are_closed_when_the_server_stops(serve: Serve) -> None:
    """And those in which something moves when that has ceased."""
    app = Wired(switch)
    with serve(app) as served, connect(served.port) as quiet, connect(served.port) as lively:
        for client in (quiet, lively):
            opened(client)
        lively.send(b"a").read_until(b"A")
        served.shut_down()
        lively.send(b"b").read_until(b"B")
        for client in (quiet, lively):
            assert (client.read_to_end(), client.ended) == (b"", End.FIN)
        until(lambda: all(heard.log[-1].startswith("lost") for heard in app.heard), "both are told")

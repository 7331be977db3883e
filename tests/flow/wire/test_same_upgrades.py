"""Who offers to switch protocols and could do without is answered in HTTP/1.1, body and all."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import Run, answering, assert_same_requests, assert_same_responses, twice
from tests.flow.wire.stage import LAST_CHUNK, Stage, chunk, request, response
from tests.support.rawhttp import Peer

SETTINGS = b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"
OFFERS: dict[str, tuple[bytes, ...]] = {
    "h2c, as Java's HttpClient offers it": (b"Connection: Upgrade, HTTP2-Settings", SETTINGS, b"Upgrade: h2c"),
    "h2c in another order": (b"Upgrade: h2c", SETTINGS, b"Connection: HTTP2-Settings, Upgrade"),
    "h2c in two lines": (b"Connection: Upgrade", b"Upgrade: h2c", SETTINGS, b"Connection: HTTP2-Settings"),
    "h2c in lower case": (b"connection: upgrade, http2-settings", b"upgrade: h2c", SETTINGS.lower()),
    "h2c, and to stay open": (b"Connection: keep-alive, Upgrade, HTTP2-Settings", b"Upgrade: h2c", SETTINGS),
    "h2c without settings": (b"Connection: Upgrade", b"Upgrade: h2c"),
    "h2c without Connection": (b"Upgrade: h2c", SETTINGS),
    "TLS/1.0": (b"Connection: Upgrade", b"Upgrade: TLS/1.0"),
    "TLS/1.0 and HTTP/2.0": (b"Connection: Upgrade", b"Upgrade: TLS/1.0, HTTP/2.0"),
    "Connection alone": (b"Connection: Upgrade",),
}
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: wiretape.test\r\n\r\n"
BODIES: dict[str, tuple[bytes, tuple[bytes, ...], bytes]] = {
    "no body": (b"GET", (), b""),
    "a length": (b"POST", (b"Content-Length: 5",), b"hello"),
    "no length": (b"POST", (b"Content-Length: 0",), b""),
    "chunks": (b"POST", (b"Transfer-Encoding: chunked",), chunk(b"hel") + chunk(b"lo") + LAST_CHUNK),
    "a large body": (b"PUT", (b"Content-Length: 300000",), b"x" * 300_000),
    "a body like a request": (b"POST", (b"Content-Length: %d" % len(HIDDEN),), HIDDEN),
}


@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_is_not_taken(stage: Stage, name: str) -> None:
    """With every kind of body, one behind the other on one connection."""

    def client(peer: Peer, run: Run) -> None:
        for method, lines, body in BODIES.values():
            peer.send(request(run.at(), None, b"A: 1", *OFFERS[name], *lines, method=method), body)
            assert peer.read_message().body == b"answer"
        assert peer.send(request(run.at(), b"next")).read_message().body == b"answer"

    both = twice(stage, client, answering(response(b"answer")))
    assert_same_requests(both)
    assert_same_responses(both)
    for message in both.proxied.requests:
        names = {key.lower() for key, _ in message.headers}
        assert names.isdisjoint({b"upgrade", b"http2-settings", b"connection"})
    assert len(both.proxied.requests) == len(BODIES) + 1


@pytest.mark.parametrize("body", BODIES)
def test_what_comes_behind_an_offer(stage: Stage, body: str) -> None:
    """In one piece with more requests, which are still requests."""
    method, lines, data = BODIES[body]
    offer = OFFERS["h2c, as Java's HttpClient offers it"]

    def client(peer: Peer, run: Run) -> None:
        offered = request(run.at(b"/offered"), None, *offer, *lines, method=method) + data
        peer.send(offered, request(run.at(b"/plain"), b"{}"), offered, request(run.at(b"/last"), method=b"GET"))
        assert [peer.read_message().body for _ in range(4)] == [b"answer"] * 4

    both = twice(stage, client, answering(response(b"answer")))
    assert_same_requests(both)
    assert_same_responses(both)


@pytest.mark.parametrize("body", ["no body", "a length", "chunks", "a body like a request"])
def test_an_offer_that_comes_octet_by_octet(stage: Stage, body: str) -> None:
    method, lines, data = BODIES[body]
    offer = OFFERS["h2c, as Java's HttpClient offers it"]

    def client(peer: Peer, run: Run) -> None:
        peer.send_bytewise(request(run.at(), None, *offer, *lines, method=method) + data)
        peer.send_bytewise(request(run.at(b"/next"), b"{}"))
        assert [peer.read_message().body for _ in range(2)] == [b"answer"] * 2

    both = twice(stage, client, answering(response(b"answer")))
    assert_same_requests(both)
    assert_same_responses(both)


def test_an_upload_that_offers_streams_as_well(stage: Stage) -> None:
    pieces = [b"piece %d, " % number for number in range(20)]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, *OFFERS["TLS/1.0"], b"Transfer-Encoding: chunked"))
        for number, piece in enumerate(pieces, 1):
            peer.send(chunk(piece))
            run.wait("a piece arrived", number)
        peer.send(LAST_CHUNK)
        assert peer.read_message().status == 200

    def origin(peer: Peer, run: Run) -> None:
        peer.read_head()
        for piece in pieces:
            peer.read_until(chunk(piece))
            run.tell("a piece arrived")
        peer.read_exactly(len(LAST_CHUNK))
        peer.send(response())

    both = twice(stage, client, origin)
    assert_same_requests(both)
    assert_same_responses(both)

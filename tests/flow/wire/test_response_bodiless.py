"""A response without a body keeps its headers, its length too, and both connections go on as if nothing was missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flow.wire.differential import Run, assert_same_responses, twice
from tests.flow.wire.stage import Stage, request, response
from tests.support.rawhttp import Ended, Peer

_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
CASES: dict[str, tuple[bytes, bytes]] = {
    "HEAD with a length": (b"HEAD", b"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 5000\r\nETag: x\r\n\r\n"),
    "HEAD with the length 0": (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "HEAD without a length": (b"HEAD", b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\n"),
    "HEAD with 404": (b"HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 99\r\n\r\n"),
    "HEAD with 204": (b"HEAD", b"HTTP/1.1 204 No Content\r\nA: 1\r\n\r\n"),
    "HEAD with 304": (b"HEAD", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 12\r\n\r\n"),
    "HEAD after a hint": (b"HEAD", _HINTS + b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
    "204": (b"DELETE", b"HTTP/1.1 204 No Content\r\nA: 1\r\nset-cookie: b=2\r\n\r\n"),
    "304 with a length": (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 5000\r\n\r\n'),
    "304 without a length": (b"GET", b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=1\r\n\r\n"),
    "304 after a hint": (b"GET", _HINTS + b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
    "an empty 200": (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "an empty 205": (b"POST", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("send", [Peer.send, Peer.send_bytewise], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", CASES)
def test_it_keeps_its_head_and_the_connections(stage: Stage, name: str, send: Callable[[Peer, bytes], Peer]) -> None:
    """Each time something with a body follows: nothing of it is taken for the body that did not come."""
    method, answer = CASES[name]

    def client(peer: Peer, run: Run) -> None:
        for number in range(3):
            peer.send(request(run.at(), None, method=method))
            while peer.read_message(bodiless=method == b"HEAD").status < 200:
                pass
            assert not peer.has_arrived()
            assert peer.send(request(run.at(), b"{}")).read_message().body == b"number %d" % number

    def origin(peer: Peer, run: Run) -> None:
        try:
            for number in range(3):
                peer.read_message()
                send(peer, answer)
                peer.read_message()
                peer.send(response(b"number %d" % number))
        except Ended:
            return

    both = twice(stage, client, origin)
    assert_same_responses(both)
    assert len(both.proxied.connections) == 1
    recorded = stage.recorded(both.origin, 6)
    assert {each.outcome for each in recorded} == {"completed"}
    assert [each.response for each in recorded[::2]] == [b""] * 3
    assert [each.facts["status"] for each in recorded[::2]] == [both.direct.responses[-2].status] * 3


@pytest.mark.parametrize("name", [name for name in CASES if "hint" not in name])
def test_a_client_of_http_1_0_gets_the_same(stage: Stage, name: str) -> None:
    method, answer = CASES[name]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, method=method).replace(b"HTTP/1.1", b"HTTP/1.0"))
        peer.read_message(bodiless=method == b"HEAD")
        assert peer.read_to_end() == b""

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(answer)

    assert_same_responses(twice(stage, client, origin))


def test_a_length_without_a_body_ends_no_differently_when_the_client_waits(stage: Stage) -> None:
    """The end is there with the head: not first when the upstream closes."""
    _, answer = CASES["304 with a length"]

    def origin(peer: Peer) -> None:
        peer.read_message()
        peer.send(answer)
        peer.read_to_end()

    with stage.origin(origin) as upstream, stage.client() as client:
        assert client.send(request(upstream.at(), method=b"GET")).read_message().status == 304
        recorded = stage.only(upstream)
        assert (recorded.outcome, recorded.facts["response_bytes"]) == ("completed", 0)

"""Wherever in its request a client stops, the origin is left with the same part of one, and soon with nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flow.wire.differential import Run, assert_same_requests, twice
from tests.flow.wire.stage import LAST_CHUNK, Answering, Stage, chunk, request
from tests.support.rawhttp import Ended, Peer

EVENT = b'data: {"n": 1}\n\n'
CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % (2 * len(EVENT))

LEAVING: dict[str, Callable[[Peer], object]] = {
    "FIN": Peer.close,
    "half a FIN": Peer.fin,
    "RST": Peer.rst,
}
STOPS: dict[str, tuple[bytes, bytes, list[bytes]]] = {
    "behind the head": (LENGTH, b"", []),
    "inside the length": (LENGTH, EVENT, [EVENT]),
    "one byte before the length": (LENGTH, (2 * EVENT)[:-1], [EVENT, EVENT[:-1]]),
    "before the first chunk": (CHUNKED, b"", []),
    "inside the first chunk's size": (CHUNKED, b"1", []),
    "behind the first chunk's size": (CHUNKED, b"10\r\n", []),
    "inside a chunk": (CHUNKED, chunk(EVENT) + chunk(EVENT)[:8], [EVENT, EVENT[:4]]),
    "before a chunk's CRLF": (CHUNKED, chunk(EVENT)[:-2], [EVENT]),
    "inside a chunk's CRLF": (CHUNKED, chunk(EVENT)[:-1], [EVENT]),
    "between chunks": (CHUNKED, chunk(EVENT), [EVENT]),
    "inside a chunk's size": (CHUNKED, chunk(EVENT) + b"1", [EVENT]),
    "inside a chunk's extension": (CHUNKED, chunk(EVENT) + b"10;a", [EVENT]),
    "behind the last chunk's zero": (CHUNKED, chunk(EVENT) + b"0", [EVENT]),
    "inside the last chunk": (CHUNKED, chunk(EVENT) + b"0\r\n", [EVENT]),
    "inside the last CRLF": (CHUNKED, chunk(EVENT) + LAST_CHUNK[:-1], [EVENT]),
    "inside a trailer": (CHUNKED, chunk(EVENT) + b"0\r\nX-Su", [EVENT]),
    "behind a trailer": (CHUNKED, chunk(EVENT) + b"0\r\nX-Sum: 1\r\n", [EVENT]),
    "inside the CRLF behind a trailer": (CHUNKED, chunk(EVENT) + b"0\r\nX-Sum: 1\r\n\r", [EVENT]),
}
"""The framing, what is sent of the body, and what of that the origin waits for before the client leaves."""


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("name", STOPS)
def test_an_upload_that_is_left(stage: Stage, name: str, how: str) -> None:
    line, body, markers = STOPS[name]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, line), body)
        run.wait("it has begun")
        LEAVING[how](peer)
        run.wait("it is over")

    def origin(peer: Peer, run: Run) -> None:
        peer.read_head()
        for marker in markers:
            peer.read_until(marker)
        run.tell("it has begun")
        peer.read_to_end()  # it is let go at once, or this takes too long
        run.tell("it is over")

    both = twice(stage, client, origin, settled=True)
    (seen,) = both.proxied.connections
    assert seen.messages == []
    assert_same_requests(both)
    recorded = stage.only(both.origin)
    assert (recorded.outcome, recorded.facts["status"]) == ("client_left", None)


HEADS: dict[str, bytes] = {
    "inside the request line": b"POST %b HT",
    "behind the request line": b"POST %b HTTP/1.1\r\n",
    "inside a field": b"POST %b HTTP/1.1\r\nHost: wiretape.test\r\nContent-Le",
    "behind a field": b"POST %b HTTP/1.1\r\nHost: wiretape.test\r\nContent-Length: 5\r\n",
    "inside the last CRLF": b"POST %b HTTP/1.1\r\nHost: wiretape.test\r\nContent-Length: 5\r\n\r",
    "before anything": b"",
    "behind a blank line": b"\r\n",
}


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_left_reaches_nobody(stage: Stage, name: str, how: str) -> None:
    """Nor does it get an answer: nobody is there, or who is did not ask yet."""
    with stage.origin(Answering()) as origin, stage.client() as client:
        client.send(HEADS[name].replace(b"%b", origin.at()))
        assert not client.has_arrived(0.05)
        LEAVING[how](client)
        if how == "half a FIN":
            client.read_to_end()
            assert client.received == b"" or client.received.startswith(b"HTTP/1.1 400 ")
        # Whatever came of it has come by now: another request is answered, on another connection.
        assert stage.exchange(request(b"/-/live", method=b"GET")).status == 200
        assert origin.peers == []
        assert stage.recorded(origin, 0) == []


def test_a_head_that_is_left_behind_an_answer(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}"))
        assert peer.read_message().status == 200
        peer.send(request(run.at(), b"{}")[:30])
        peer.close()

    def origin(peer: Peer, run: Run) -> None:
        try:
            while True:
                peer.read_message()
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except Ended:
            return

    both = twice(stage, client, origin)
    assert [each.body for each in both.proxied.requests] == [b"{}"]
    assert stage.only(both.origin).outcome == "completed"

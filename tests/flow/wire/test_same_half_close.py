"""A client that sends its FIN behind a complete request still gets its answer, as long as one is coming."""

from __future__ import annotations

import threading

import pytest

from tests.flow.wire.differential import (
    Both,
    Run,
    answering,
    assert_same_requests,
    assert_same_responses,
    twice,
)
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Body, Stage, chunk, request, response
from tests.support.rawhttp import End, Ended, Peer

EVENT = b'data: {"n": 1}\n\n'
CHUNKED = b"Transfer-Encoding: chunked"

REQUESTS: dict[str, tuple[bytes, tuple[bytes, ...], bytes]] = {
    "no body": (b"GET", (), b""),
    "a length": (b"POST", (b"Content-Length: 5",), b"hello"),
    "chunks": (b"POST", (CHUNKED,), chunk(b"hello") + LAST_CHUNK),
    "its own last request": (b"POST", (b"Connection: close", b"Content-Length: 5"), b"hello"),
}
ANSWERS: dict[str, bytes] = {
    "a length": response(b"answer"),
    "chunks": STREAM + chunk(b"ans") + chunk(b"wer") + LAST_CHUNK,
    "until close": b"HTTP/1.1 200 OK\r\n\r\nanswer",
    "large": response(b"answer" * 500_000),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_prompt_answer_comes_whole(stage: Stage, name: str, answer: str) -> None:
    method, lines, body = REQUESTS[name]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, *lines, method=method), body).fin()
        peer.read_to_end()

    both = twice(stage, client, answering(ANSWERS[answer], times=1))
    assert_same_requests(both)
    assert_same_responses(both, framing=answer != "until close")
    _assert_whole(both)


def test_http_1_0(stage: Stage) -> None:
    """Where only the FIN of the answer ends it."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(b"GET %b HTTP/1.0\r\nHost: wiretape.test\r\n\r\n" % run.at()).fin()
        peer.read_to_end()

    both = twice(stage, client, answering(ANSWERS["until close"], times=1))
    assert_same_requests(both)
    assert_same_responses(both)
    _assert_whole(both)


def test_an_answer_that_begins_only_after_the_fin(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"hello"))
        run.wait("it was asked")
        peer.fin()
        run.tell("the FIN was sent")
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        run.tell("it was asked")
        run.wait("the FIN was sent")
        peer.send(response(b"answer"))

    both = twice(stage, client, origin)
    assert_same_responses(both)
    _assert_whole(both)


def test_requests_behind_each_other(stage: Stage) -> None:
    """As `printf … | nc` sends them."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(*[request(run.at(b"/%d" % number), b"hello") for number in range(5)]).fin()
        peer.read_to_end()

    both = twice(stage, client, answering(response(b"answer")))
    assert_same_requests(both)
    assert_same_responses(both)
    assert len(both.proxied.responses) == 5
    assert both.proxied.client.ended is End.FIN


@pytest.mark.parametrize("when", ["at once", "within the stream"])
def test_a_stream_goes_on_while_it_is_taken(stage: Stage, when: str) -> None:
    """For longer than a silent one would be waited for."""
    count, pause = 50, 0.05

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"hello"))
        if when == "at once":
            peer.fin()
        _, headers = peer.read_head()
        body = Body(peer, headers)
        body.until(len(EVENT))
        if when == "within the stream":
            peer.fin()
        assert body.rest() == EVENT * count
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(STREAM)
        pace = threading.Event()
        for _ in range(count):
            peer.send(chunk(EVENT))
            pace.wait(pause if run.proxied else 0)
        peer.send(LAST_CHUNK)

    both = twice(stage, client, origin)
    assert_same_responses(both)
    _assert_whole(both)


SAID: dict[str, tuple[bytes, ...]] = {
    "before the head": (),
    "behind the head": (STREAM,),
    "behind an event": (STREAM, chunk(EVENT)),
}


@pytest.mark.parametrize("name", SAID)
def test_a_silent_upstream_is_let_go(stage: Stage, name: str) -> None:
    """The FIN may as well be all that is left of the client."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"hello"))
        run.wait("it was asked")
        peer.fin()
        run.wait("it is over")

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(*SAID[name])
        run.tell("it was asked")
        peer.read_to_end()  # it is let go at once, or this takes too long
        run.tell("it is over")

    both = twice(stage, client, origin, settled=True)
    assert_same_requests(both)
    assert both.proxied.responses == []
    assert stage.only(both.origin).outcome == "client_left"


def test_who_goes_after_its_fin_is_gone(stage: Stage) -> None:
    """A stream that is no longer taken ends, though it never paused."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"hello")).fin()
        _, headers = peer.read_head()
        Body(peer, headers).until(10 * len(EVENT))
        peer.close()
        run.wait("it is over")

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        pace = threading.Event()
        try:
            peer.send(STREAM)
            while True:
                peer.send(chunk(EVENT))
                pace.wait(0.01)
        except Ended:
            run.tell("it is over")

    both = twice(stage, client, origin, settled=True)
    assert stage.only(both.origin).outcome == "client_left"


def _assert_whole(both: Both) -> None:
    seen = both.proxied.client
    assert len(seen.messages) == 1
    assert (seen.rest, seen.ended) == (b"", End.FIN)

"""Who does not send on what it began is told so and let go; who is slow, or waits for an answer, is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.flow.wire.differential import (
    Run,
    answering,
    assert_same_requests,
    assert_same_responses,
    error_type,
    taken_apart,
    twice,
)
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Body, Stage, chunk, request, response, staged
from tests.support.rawhttp import End, Ended, Peer

HEAD_TIMEOUT, BODY_TIMEOUT = 1.0, 2.0
LONGER = 3.0
"""Seconds: longer than either."""
BLOCK = bytes(range(256)) * 256
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    config = f"forward.head_timeout = '{HEAD_TIMEOUT:g}s'\nforward.body_timeout = '{BODY_TIMEOUT:g}s'"
    with staged(tmp_path_factory.mktemp("impatient"), config, upstreams=16) as stage:
        yield stage


def _assert_too_late(client: Peer) -> None:
    answer = client.read_message()
    assert (answer.status, error_type(answer)) == (408, "wiretape_request_timeout")
    assert client.read_to_end() == b""
    assert client.ended is End.FIN


# The head


@pytest.mark.parametrize("size", [1, 8, 40, -1], ids=["an octet", "half a line", "half a field", "all but an octet"])
def test_a_head_that_is_not_whole_in_time(impatient: Stage, size: int) -> None:
    with impatient.origin(Answering()) as origin, impatient.client() as client:
        client.send(request(origin.at(), method=b"GET")[:size])
        _assert_too_late(client)
        assert origin.peers == []


def test_dribbling_gives_no_more_time(impatient: Stage) -> None:
    with impatient.origin(Answering()) as origin, impatient.client() as client:
        client.send(request(origin.at(), None, b"X-Long: ", method=b"GET")[:-4])
        count = 0
        while not client.has_arrived(0.1):
            count += 1
            assert count < 300, "it may go on for ever"
            try:
                client.send(b"v")
            except Ended:
                break
        _assert_too_late(client)
        assert origin.peers == []


def test_a_next_head_that_is_not_whole_in_time(impatient: Stage) -> None:
    with impatient.origin(Answering()) as origin, impatient.client() as client:
        client.send(request(origin.at(), b"{}"), request(origin.at(), b"{}")[:20])
        assert client.read_message().status == 200
        _assert_too_late(client)
        assert len(impatient.recorded(origin)) == 1


def test_an_idle_connection_is_told_nothing(impatient: Stage) -> None:
    """Nobody asked: a client would take what it is told for the answer to its next request."""
    with impatient.origin(Answering()) as origin, impatient.client() as client:
        assert client.send(request(origin.at(), b"{}")).read_message().status == 200
        if client.has_arrived(LONGER):
            assert client.read_to_end() == b""
            assert client.ended is End.FIN
        else:
            assert client.send(request(origin.at(), b"{}")).read_message().status == 200


def test_a_connection_on_which_nothing_comes(impatient: Stage) -> None:
    with impatient.client() as client:
        client.read_to_end()
        assert client.ended is End.FIN
        assert client.received == b"" or client.received.startswith(b"HTTP/1.1 408 ")


# Patience


def _pause(run: Run) -> None:
    """Do nothing for too long; directly nobody minds."""
    threading.Event().wait(LONGER if run.proxied else 0)


@pytest.mark.parametrize("said", [(), (STREAM, chunk(b"one"))], ids=["before the head", "before an event"])
def test_a_slow_upstream_is_not_the_clients_fault(impatient: Stage, said: tuple[bytes, ...]) -> None:
    """Nor does the next request on the connection come too late by it."""
    whole = STREAM + chunk(b"one") + chunk(b"two") + LAST_CHUNK

    def client(peer: Peer, run: Run) -> None:
        for _ in range(2):
            peer.send(request(run.at(), b"{}"))
            assert peer.read_message().body == b"onetwo"

    def origin(peer: Peer, run: Run) -> None:
        if len(run.origin.peers) == 1:
            peer.read_message()
            peer.send(*said)
            _pause(run)
            peer.send(whole[len(b"".join(said)) :])
        answering(whole)(peer, run)

    both = twice(impatient, client, origin)
    assert_same_requests(both)
    assert_same_responses(both)


# The body

STALLS: dict[str, tuple[bytes, bytes]] = {
    "at its beginning": (b"Content-Length: 10", b""),
    "within its length": (b"Content-Length: 10", b"hello"),
    "between chunks": (CHUNKED, chunk(b"hello")),
    "before the last CRLF": (CHUNKED, chunk(b"hello") + LAST_CHUNK[:-2]),
}


@pytest.mark.parametrize("name", STALLS)
def test_a_body_that_stands_still(impatient: Stage, name: str) -> None:
    """The upstream must not take what came for the whole request."""
    line, body = STALLS[name]

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.read_to_end()

    with impatient.origin(script) as origin, impatient.client() as client:
        client.send(request(origin.at(), None, line), body)
        _assert_too_late(client)
        origin.wait_idle()
        assert taken_apart(origin.peers[0]).messages == []
        assert impatient.only(origin).outcome != "completed"


def test_a_slow_body_passes(impatient: Stage) -> None:
    """The limit is on one silence, not on the whole."""
    pieces = [b"piece %d, " % number for number in range(16)]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED))
        for piece in pieces:
            peer.send(chunk(piece))
            threading.Event().wait(2 * BODY_TIMEOUT / len(pieces) if run.proxied else 0)
        peer.send(LAST_CHUNK)
        assert peer.read_message().status == 200

    both = twice(impatient, client)
    assert_same_requests(both)
    assert_same_responses(both)


def test_a_body_may_stand_still_once_it_is_answered(impatient: Stage) -> None:
    """Full duplex: the two sides take turns as they like."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), chunk(b"hello"))
        _, headers = peer.read_head()
        body = Body(peer, headers)
        body.until(len(b"hello"))
        _pause(run)
        peer.send(chunk(b"again"), LAST_CHUNK)
        assert body.rest() == b"helloagain"

    def origin(peer: Peer, run: Run) -> None:
        peer.read_until(chunk(b"hello"))
        peer.send(STREAM, chunk(b"hello"))
        peer.read_until(chunk(b"again") + LAST_CHUNK)
        peer.send(chunk(b"again"), LAST_CHUNK)

    both = twice(impatient, client, origin)
    assert_same_requests(both)
    assert_same_responses(both)


def test_a_body_that_the_upstream_holds_back_is_not_the_clients_fault(impatient: Stage) -> None:
    """Nothing comes from the client because nobody reads it."""
    total = 24 << 20

    def client(peer: Peer, run: Run) -> None:
        head = request(run.at(), None, b"Content-Length: %d" % total)
        peer.send(head)
        sent = peer.fill(BLOCK, patience=LONGER if run.proxied else 0.5)
        assert sent < total
        run.tell("it was held back")
        peer.send((BLOCK * (total // len(BLOCK)))[sent:])
        assert peer.read_message().status == 200

    def origin(peer: Peer, run: Run) -> None:
        run.wait("it was held back")
        assert len(peer.read_message().body) == total
        peer.send(response())

    both = twice(impatient, client, origin, receive_buffer=4096)
    assert_same_requests(both)
    assert_same_responses(both)

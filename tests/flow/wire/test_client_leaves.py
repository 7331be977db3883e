"""When its client leaves, in whatever way and moment, an exchange lets go of the upstream, or drains it if so told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Body, Origin, Recorded, Stage, chunk, request, response
from tests.support.rawhttp import DEADLINE, Ended, Peer

EVENT = b'data: {"n": 1}\n\n'
SOON = DEADLINE
"""Seconds within which an upstream is let go; it takes one at most, but the machine may be busy."""
BLOCK = b"x" * 65536

LEAVING: dict[str, Callable[[Peer], object]] = {
    "FIN": Peer.close,
    "half a FIN": Peer.fin,
    "RST": Peer.rst,
}
leaving = pytest.mark.parametrize("how", LEAVING)


class Watching:
    """A script that answers so much and then waits for the end of its connection; `left_after` are seconds since the
    client went, `request` what came of the request, framing and all."""

    def __init__(self, *said: bytes) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()
        self.request = b""
        self._said = said

    def __call__(self, peer: Peer) -> None:
        peer.read_head()
        self.asked.set()
        for each in self._said:
            peer.send(each)
        peer.read_to_end()
        self.request = bytes(peer.received)
        self.over.set()

    def wait_over(self) -> None:
        assert self.over.wait(SOON), "the upstream is still held"


def _left(stage: Stage, origin: Origin) -> Recorded:
    """The one exchange, which its client left."""
    recorded = stage.only(origin)
    assert (recorded.outcome, recorded.facts["wire_end"]) == ("client_left", "client_left")
    return recorded


@leaving
def test_before_the_head(stage: Stage, how: str) -> None:
    script = Watching()
    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        assert script.asked.wait(DEADLINE)
        LEAVING[how](client)
        script.wait_over()
        recorded = _left(stage, origin)
    assert recorded.facts["status"] is None
    assert recorded.changes == []


@leaving
@pytest.mark.parametrize("said", [(STREAM,), (STREAM, chunk(EVENT))], ids=["after the head", "after an event"])
def test_while_the_upstream_is_silent(stage: Stage, how: str, said: tuple[bytes, ...]) -> None:
    script = Watching(*said)
    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        arrived = Body(client, headers).until(len(EVENT)) if said[1:] else b""
        LEAVING[how](client)
        script.wait_over()
        recorded = _left(stage, origin)
    assert recorded.response == arrived
    assert recorded.facts["response_out_hash"] is None


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_in_the_midst_of_a_stream(stage: Stage, how: str) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM)
        tick = threading.Event()
        try:
            while True:
                peer.send(chunk(EVENT))
                tick.wait(0.001)
        except Ended:
            over.set()

    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        arrived = Body(client, headers).until(20 * len(EVENT))
        LEAVING[how](client)
        assert over.wait(SOON)
        recorded = _left(stage, origin)
    assert recorded.response.startswith(arrived)
    assert len(recorded.response) % len(EVENT) == 0


@leaving
def test_while_it_holds_the_upstream_back(stage: Stage, how: str) -> None:
    held_back, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM)
        peer.fill(chunk(BLOCK))
        held_back.set()
        peer.read_to_end()
        over.set()

    with stage.origin(script) as origin, stage.client(receive_buffer=4096) as client:
        client.send(request(origin.at(), b"{}"))
        assert held_back.wait(DEADLINE)
        LEAVING[how](client)
        assert over.wait(SOON), "the upstream is still held"
        recorded = _left(stage, origin)
    assert recorded.response


@leaving
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_while_it_uploads(stage: Stage, how: str, framing: str) -> None:
    """The upstream must not take what came for the whole request."""
    script = Watching()
    with stage.origin(script) as origin, stage.client() as client:
        if framing == "length":
            client.send(request(origin.at(), None, b"Content-Length: 1000"), EVENT)
        else:
            client.send(request(origin.at(), None, b"Transfer-Encoding: chunked"), chunk(EVENT))
        assert script.asked.wait(DEADLINE)
        LEAVING[how](client)
        script.wait_over()
        recorded = _left(stage, origin)
    assert recorded.request == EVENT
    assert EVENT in script.request
    assert not script.request.endswith(LAST_CHUNK)


@leaving
def test_while_the_upstream_holds_its_upload_back(stage: Stage, how: str) -> None:
    asked, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        asked.set()
        peer.wait_hung_up()
        over.set()

    # To fill all that lies between takes a busy machine long.
    with stage.origin(script, receive_buffer=4096, deadline=5 * DEADLINE) as origin, stage.client() as client:
        client.send(request(origin.at(), None, b"Content-Length: %d" % (1 << 30)))
        stage.fill_up(client, BLOCK[:32768])
        assert asked.wait(DEADLINE)
        LEAVING[how](client)
        assert over.wait(SOON), "the upstream is still held"
        recorded = _left(stage, origin)
    assert 0 < len(recorded.request) < 1 << 30


@leaving
def test_while_it_uploads_and_the_answer_comes(stage: Stage, how: str) -> None:
    script = Watching(STREAM, chunk(EVENT))
    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), None, b"Transfer-Encoding: chunked"), chunk(EVENT))
        _, headers = client.read_head()
        Body(client, headers).until(len(EVENT))
        LEAVING[how](client)
        script.wait_over()
        recorded = _left(stage, origin)
    assert (recorded.request, recorded.response) == (EVENT, EVENT)


@leaving
def test_with_another_request_sent_behind(stage: Stage, how: str) -> None:
    """The second was never begun, so only the first is an exchange."""
    script = Watching(STREAM, chunk(EVENT))
    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"), request(origin.at(), b"{}"))
        _, headers = client.read_head()
        Body(client, headers).until(len(EVENT))
        LEAVING[how](client)
        script.wait_over()
        _left(stage, origin)
        assert len(origin.peers) == 1


@leaving
def test_while_there_is_no_connection_yet(stage: Stage, how: str) -> None:
    """TLS to an upstream that accepts and says nothing: the connection is not there before its handshake."""
    accepted, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_some()
        accepted.set()
        peer.read_to_end()
        over.set()

    with stage.origin(script, kind="tls") as origin, stage.client() as client:
        client.send(request(origin.at(), None, b"Content-Length: %d" % (1 << 30)))
        stage.fill_up(client, BLOCK[:32768])
        assert accepted.wait(DEADLINE)
        LEAVING[how](client)
        assert over.wait(SOON), "the upstream is still held"
        _left(stage, origin)


# Told to drain


@leaving
def test_draining_reads_and_stores_the_rest(stage: Stage, how: str) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM, chunk(EVENT))
        assert go_on.wait(DEADLINE)
        peer.send(chunk(EVENT))  # whoever is gone answers it with a reset, which the next write meets
        _wait_noticed(stage, origin)
        for _ in range(98):
            peer.send(chunk(EVENT))
        _wait_noticed(stage, origin)  # or the end might be there before that write has failed
        peer.send(chunk(EVENT), LAST_CHUNK)

    with stage.origin(script, kind="drain") as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        Body(client, headers).until(len(EVENT))
        LEAVING[how](client)
        client.close()
        _wait_noticed(stage, origin)
        go_on.set()
        recorded = _left(stage, origin)
    assert recorded.response == EVENT * 101
    assert recorded.facts["response_out_hash"] not in {None, recorded.facts["response_hash"]}


def _wait_noticed(stage: Stage, origin: Origin) -> None:
    """Until the worker must have seen what the client did: it has answered somebody else, asked later."""
    for _ in range(3):
        assert stage.exchange(request(b"/-/live", method=b"GET")).status == 200


def test_draining_what_was_held_back(stage: Stage) -> None:
    held_back = threading.Event()
    sent = []

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        sent.append(peer.fill(BLOCK))
        held_back.set()
        peer.send(BLOCK)

    with stage.origin(script, kind="drain") as origin, stage.client(receive_buffer=4096) as client:
        client.send(request(origin.at(), b"{}"))
        assert held_back.wait(DEADLINE)
        client.rst()
        recorded = _left(stage, origin)
    assert recorded.facts["response_bytes"] == sent[0] + len(BLOCK)


def test_draining_before_the_head(stage: Stage) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        asked.set()
        assert go_on.wait(DEADLINE)
        peer.send(response(EVENT))

    with stage.origin(script, kind="drain") as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        assert asked.wait(DEADLINE)
        client.rst()
        _wait_noticed(stage, origin)
        go_on.set()
        recorded = _left(stage, origin)
    assert (recorded.facts["status"], recorded.response) == (200, EVENT)


def test_an_unfinished_upload_is_not_drained(stage: Stage) -> None:
    script = Watching()
    with stage.origin(script, kind="drain") as origin, stage.client() as client:
        client.send(request(origin.at(), None, b"Transfer-Encoding: chunked"), chunk(EVENT))
        assert script.asked.wait(DEADLINE)
        client.close()
        script.wait_over()
        _left(stage, origin)
    assert not script.request.endswith(LAST_CHUNK)


# Afterwards


def test_leaving_after_the_end_is_no_leaving(stage: Stage) -> None:
    with stage.origin(Watching(response(EVENT))) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        assert client.read_message().body == EVENT
        client.rst()
        assert stage.only(origin).outcome == "completed"


def test_a_connection_that_was_left_is_not_used_again(stage: Stage) -> None:
    """What the upstream still sends must not be the next one's answer."""
    script = Watching(STREAM, chunk(b"for the one who left"))

    def other(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(b"for the next"))

    with stage.origin(script, other) as origin:
        with stage.client() as client:
            client.send(request(origin.at(), b"{}"))
            client.read_head()
        script.wait_over()
        assert stage.exchange(request(origin.at(), b"{}")).body == b"for the next"
        assert len(origin.peers) == 2

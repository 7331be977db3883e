"""Uploads go piece by piece, answers are heard at once, and one that comes early ends the upload, not the answer."""

from __future__ import annotations

import threading
import time

import pytest

from tests.flow.wire.differential import (
    Actor,
    Both,
    Run,
    answering,
    assert_same_requests,
    assert_same_responses,
    finish,
    twice,
)
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Body, Stage, chunk, request, response
from tests.support.rawhttp import DEADLINE, End, Ended, Peer

PIECES = [b"piece %d, " % number for number in range(50)]
LENGTH = b"Content-Length: %d" % len(b"".join(PIECES))
CHUNKED = b"Transfer-Encoding: chunked"
BLOCK = bytes(range(256)) * 256
EARLY = response(b"early", b"B: 1", status=b"413 Content Too Large")
framings = pytest.mark.parametrize("framing", ["length", "chunks"])


def _head(run: Run, framing: str, length: bytes = LENGTH) -> bytes:
    return request(run.at(), None, length if framing == "length" else CHUNKED)


def _packed(piece: bytes, framing: str) -> bytes:
    return piece if framing == "length" else chunk(piece)


@framings
def test_each_piece_arrives_before_the_next_is_sent(stage: Stage, framing: str) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(_head(run, framing))
        for number, piece in enumerate(PIECES, 1):
            peer.send(_packed(piece, framing))
            run.wait("a piece arrived", number)
        peer.send(LAST_CHUNK if framing == "chunks" else b"")
        assert peer.read_message().status == 200

    def origin(peer: Peer, run: Run) -> None:
        peer.read_head()
        for piece in PIECES:
            peer.read_until(_packed(piece, framing))
            run.tell("a piece arrived")
        peer.read_exactly(len(LAST_CHUNK) if framing == "chunks" else 0)
        peer.send(response())

    both = twice(stage, client, origin)
    assert_same_requests(both, chunks=True)
    assert_same_responses(both)


@framings
def test_the_head_arrives_before_the_body_is_sent(stage: Stage, framing: str) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(_head(run, framing))
        run.wait("the head arrived")
        peer.send(*[_packed(piece, framing) for piece in PIECES], LAST_CHUNK if framing == "chunks" else b"")
        peer.read_message()

    def origin(peer: Peer, run: Run) -> None:
        peer.read_until(b"\r\n\r\n")
        run.tell("the head arrived")
        peer.read_until(PIECES[-1])
        peer.read_exactly(2 + len(LAST_CHUNK) if framing == "chunks" else 0)
        peer.send(response())

    both = twice(stage, client, origin)
    assert_same_requests(both)
    assert_same_responses(both)


@framings
def test_each_piece_is_echoed_before_the_next_is_sent(stage: Stage, framing: str) -> None:
    """And the connection goes on: both sides of the exchange were complete in the end."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(_head(run, framing), _packed(PIECES[0], framing))
        _, headers = peer.read_head()
        body, expected = Body(peer, headers), PIECES[0]
        assert body.until(len(expected)) == expected
        for piece in PIECES[1:]:
            peer.send(_packed(piece, framing))
            expected += piece
            assert body.until(len(expected)) == expected
        peer.send(LAST_CHUNK if framing == "chunks" else b"")
        assert body.rest() == expected
        assert peer.send(request(run.at(), b"next")).read_message().body == b"answer"

    def origin(peer: Peer, run: Run) -> None:
        if len(run.origin.peers) == 1:
            peer.read_head()
            peer.send(STREAM)
            for piece in PIECES:
                peer.read_until(_packed(piece, framing))
                peer.send(chunk(piece))
            peer.read_exactly(len(LAST_CHUNK) if framing == "chunks" else 0)
            peer.send(LAST_CHUNK)
        answering(response(b"answer"))(peer, run)

    both = twice(stage, client, origin)
    assert_same_requests(both)
    assert_same_responses(both)
    assert [each.outcome for each in stage.recorded(both.origin, 2)] == ["completed"] * 2


# An answer before the upload is complete


def _early(*said: bytes) -> Actor:
    """An origin that answers when the first piece is here, and takes no more."""

    def origin(peer: Peer, run: Run) -> None:
        peer.read_head()
        peer.read_until(PIECES[0])
        peer.send(*said)
        finish(peer)

    return origin


ANSWERS: dict[str, tuple[bytes, ...]] = {
    "length": (EARLY,),
    "chunks": (STREAM.replace(b"200 OK", b"401 Unauthorized"), chunk(b"ear"), chunk(b"ly"), LAST_CHUNK),
    "no body": (b"HTTP/1.1 204 No Content\r\nB: 1\r\n\r\n",),
    "until close": (b"HTTP/1.1 400 Bad\r\n\r\nearly",),
}


@framings
@pytest.mark.parametrize("name", ANSWERS)
def test_an_early_answer_comes_at_once(stage: Stage, name: str, framing: str) -> None:
    """The client sends no more, so nothing but the answer itself ends the wait; then both connections end."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(_head(run, framing), _packed(PIECES[0], framing))
        peer.read_to_end()

    both = twice(stage, client, _early(*ANSWERS[name]), settled=True)
    assert_same_responses(both, framing=name != "until close")
    assert_same_requests(both)
    _assert_broken(both)


@framings
@pytest.mark.parametrize("size", [1, 64], ids=["64 kB more", "4 MB more"])
def test_who_writes_all_before_it_reads_gets_the_early_answer(stage: Stage, size: int, framing: str) -> None:
    """Most clients do; a reset behind unread bytes would take the answer from them."""
    length = b"Content-Length: %d" % (len(PIECES[0]) + len(BLOCK) * size + 1)

    def client(peer: Peer, run: Run) -> None:
        peer.send(_head(run, framing, length), _packed(PIECES[0], framing))
        for _ in range(size):
            peer.send(_packed(BLOCK, framing))
        assert peer.read_message().body == b"early"
        peer.read_to_end()

    both = twice(stage, client, _early(EARLY), settled=True)
    assert_same_responses(both)
    _assert_broken(both)


def test_who_goes_on_sending_is_let_go(stage: Stage) -> None:
    """Nobody can send for ever to somebody who has answered."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(_head(run, "length", b"Content-Length: %d" % (1 << 40)), PIECES[0])
        assert peer.read_message().body == b"early"
        if run.proxied:
            _send_on(peer, BLOCK)

    both = twice(stage, client, _early(EARLY), settled=True)
    assert_same_responses(both)
    (seen,) = both.proxied.connections
    assert seen.messages == []


def _send_on(peer: Peer, data: bytes) -> None:
    end = time.monotonic() + DEADLINE
    try:
        while time.monotonic() < end:
            peer.send(data)
            threading.Event().wait(0.01)  # a slow sender: what is swallowed has no end of its own
    except Ended:
        return
    pytest.fail("it is still read from")


def test_a_long_early_answer_comes_whole(stage: Stage) -> None:
    """Its end, not its beginning, ends the upload."""
    whole = BLOCK * 40

    def client(peer: Peer, run: Run) -> None:
        peer.send(_head(run, "chunks"), chunk(PIECES[0]))
        _, headers = peer.read_head()
        body = Body(peer, headers)
        for count in range(1, 41):
            body.until(count * len(BLOCK))
            peer.send(chunk(PIECES[0]))
        assert body.rest() == whole
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        peer.read_head()
        peer.send(STREAM)
        for _ in range(40):
            peer.read_until(chunk(PIECES[0]))
            peer.send(chunk(BLOCK))
        peer.read_until(chunk(PIECES[0]))
        peer.send(LAST_CHUNK)
        finish(peer)

    both = twice(stage, client, origin, settled=True)
    assert_same_responses(both)
    assert_same_requests(both)
    _assert_broken(both)


def test_another_request_behind_an_unfinished_one_is_no_request(stage: Stage) -> None:
    """What comes after an early answer is the rest of a body, whatever it looks like."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(_head(run, "length", b"Content-Length: 100000"), PIECES[0])
        assert peer.read_message().body == b"early"
        try:
            peer.send(request(run.at(b"/hidden"), b"{}"))
        except Ended:
            pass  # it was let go already
        peer.read_to_end()

    both = twice(stage, client, _early(EARLY), settled=True)
    assert_same_responses(both)
    _assert_broken(both)
    assert b"hidden" not in both.proxied.connections[0].received


def _assert_broken(both: Both) -> None:
    """That the upstream never got a whole request, and the client a whole response and then a FIN."""
    (seen,) = both.proxied.connections
    assert seen.messages == []
    assert seen.ended is not None
    assert len(both.proxied.responses) == 1
    assert (both.proxied.client.rest, both.proxied.client.ended) == (b"", End.FIN)

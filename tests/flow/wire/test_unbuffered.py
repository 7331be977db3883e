"""Every piece of a stream is with the other side before the next one is sent, however small, packed, or late it is."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Body, Stage, chunk, request
from tests.support.rawhttp import DEADLINE, Peer

EVENTS = [b'data: {"id": %d, "delta": "token %d"}\n\n' % (number, number) for number in range(200)]
SILENCE = 3.0
_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
_UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@dataclass(frozen=True)
class Stream:
    """A stream as its pieces stand on the wire: what each adds to the body, and the bytes that bring it there."""

    head: bytes
    pieces: list[tuple[bytes, bytes]]
    end: bytes = b""

    @property
    def body(self) -> bytes:
        return b"".join(added for added, _ in self.pieces)


class Acknowledged:
    """A script that sends the next piece only when the client has told that it has the one before."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._arrived = threading.Semaphore(0)

    def acknowledge(self) -> None:
        self._arrived.release()

    def __call__(self, peer: Peer) -> None:
        peer.read_message()
        peer.send(self._stream.head)
        for _, wire in self._stream.pieces:
            peer.send(wire)
            assert self._arrived.acquire(timeout=DEADLINE), "the client never got it"
        peer.send(self._stream.end)


def _gzipped() -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    for event in EVENTS:
        yield packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


def _chunked(pieces: list[bytes]) -> Stream:
    return Stream(STREAM, [(each, chunk(each)) for each in pieces], LAST_CHUNK)


def _one_byte() -> Stream:
    """Each event as chunks of one byte."""
    wires = [b"".join(chunk(each[at : at + 1]) for at in range(len(each))) for each in EVENTS]
    return Stream(STREAM, list(zip(EVENTS, wires, strict=True)), LAST_CHUNK)


def _byte_by_byte() -> Stream:
    """A chunk of one byte is a piece of its own."""
    return _chunked([bytes([byte]) for byte in b"".join(EVENTS[:8])])


def _within_one_chunk() -> Stream:
    """One chunk that is not complete before the stream is; its size comes with the first piece."""
    size = b"%x\r\n" % len(b"".join(EVENTS))
    pieces = [(each, each) for each in EVENTS]
    return Stream(STREAM, [(EVENTS[0], size + EVENTS[0]), *pieces[1:]], b"\r\n" + LAST_CHUNK)


def _unpacked(head: bytes) -> Stream:
    return Stream(head, [(each, each) for each in EVENTS])


STREAMS: dict[str, Callable[[], Stream]] = {
    "chunks": lambda: _chunked(EVENTS),
    "gzip with sync flushes": lambda: _chunked(list(_gzipped())),
    "chunks of one byte": _one_byte,
    "byte by byte": _byte_by_byte,
    "within one chunk": _within_one_chunk,
    "content-length": lambda: _unpacked(_LENGTH % len(b"".join(EVENTS))),
    "until close": lambda: _unpacked(_UNTIL_CLOSE),
}


@pytest.mark.parametrize("name", STREAMS)
def test_each_piece_arrives_before_the_next_is_sent(stage: Stage, name: str) -> None:
    stream = STREAMS[name]()
    script = Acknowledged(stream)
    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}", b"Accept-Encoding: gzip"))
        start, headers = client.read_head()
        assert start.startswith(b"HTTP/1.1 200")
        body, size = Body(client, headers), 0
        for added, _ in stream.pieces:
            size += len(added)
            assert len(body.until(size)) == size, "more than was sent"
            script.acknowledge()
        assert body.rest() == stream.body
        recorded = stage.only(origin)
    assert recorded.response == stream.body
    assert recorded.facts["response_chunks"] >= len(stream.pieces)


def test_the_head_arrives_before_any_of_the_body(stage: Stage) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM)
        assert go_on.wait(DEADLINE)
        peer.send(chunk(b"late"), LAST_CHUNK)

    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        assert not client.has_arrived()
        go_on.set()
        assert Body(client, headers).rest() == b"late"


def test_an_upload_goes_on_piece_by_piece_while_the_answer_comes(stage: Stage) -> None:
    """Full duplex: the upstream answers each piece before it gets the next."""
    rounds = 100

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(STREAM)
        for _ in range(rounds):
            size = int(peer.read_until(b"\r\n")[:-2], 16)
            peer.send(chunk(b"got " + peer.read_exactly(size)))
            peer.read_exactly(2)
        assert peer.read_exactly(len(LAST_CHUNK)) == LAST_CHUNK
        peer.send(LAST_CHUNK)

    with stage.origin(script) as origin, stage.client() as client:
        head = b"POST %b HTTP/1.1\r\nHost: wiretape.test\r\nTransfer-Encoding: chunked\r\n\r\n" % origin.at()
        client.send(head, chunk(b"piece 0"))
        _, headers = client.read_head()
        body, expected = Body(client, headers), b""
        for number in range(rounds):
            if number:
                client.send(chunk(b"piece %d" % number))
            expected += b"got piece %d" % number
            assert body.until(len(expected)) == expected
        client.send(LAST_CHUNK)
        assert body.rest() == expected
        recorded = stage.only(origin)
    assert recorded.response == expected
    assert recorded.request == b"".join(b"piece %d" % number for number in range(rounds))


def test_silence_breaks_nothing(stage: Stage) -> None:
    """Before the head, in the midst, and before the end: all silent at the same time, on a connection each."""
    silence = threading.Event()

    def silent_after(said: bytes, rest: bytes) -> Callable[[Peer], None]:
        def script(peer: Peer) -> None:
            peer.read_message()
            peer.send(said)
            assert silence.wait(DEADLINE)
            peer.send(rest)

        return script

    one, two = chunk(b"one"), chunk(b"two")
    framings = [[STREAM, one, two, LAST_CHUNK], [_UNTIL_CLOSE, b"one", b"two"]]
    scripts = [
        silent_after(b"".join(parts[:stop]), b"".join(parts[stop:])) for parts in framings for stop in range(len(parts))
    ]
    with stage.origin(*scripts) as origin, ExitStack() as stack:
        clients = [stack.enter_context(stage.client()) for _ in scripts]
        for number, client in enumerate(clients, 1):
            client.send(request(origin.at(), b"{}"))
            origin.wait_connections(number)
        assert not silence.wait(SILENCE)
        silence.set()
        for client in clients:
            assert client.read_message().body == b"onetwo"
        assert [each.outcome for each in stage.recorded(origin, len(scripts))] == ["completed"] * len(scripts)

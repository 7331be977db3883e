"""However the upstream frames a body, the client gets the same one, framed in a way that its version of HTTP knows."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.flow.wire.differential import Actor, Run, answering, assert_same_responses, twice
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Stage, chunk, request, response
from tests.support.rawhttp import End, Peer

BODY = b"answer, and more of it"
_OLD = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"
_UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@dataclass(frozen=True)
class Framed:
    """An answer on the wire; `length` where the client can know the body's."""

    answer: bytes
    body: bytes = BODY
    length: bool = False


def _extended(extension: bytes) -> bytes:
    half = len(BODY) // 2
    parts = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in (BODY[:half], BODY[half:])]
    return STREAM + b"".join(parts) + b"0" + extension + b"\r\n\r\n"


FRAMINGS: dict[str, Framed] = {
    "length": Framed(response(BODY), length=True),
    "length 0": Framed(response(b""), b"", length=True),
    "chunks": Framed(STREAM + chunk(BODY[:7]) + chunk(BODY[7:]) + LAST_CHUNK),
    "no chunks": Framed(STREAM + LAST_CHUNK, b""),
    "chunk sizes written oddly": Framed(STREAM + b"0000016\r\n" + BODY + b"\r\n000\r\n\r\n"),
    "chunk extensions": Framed(_extended(b";name=value;other")),
    "quoted chunk extensions": Framed(_extended(b';name="a b,c=\xfc"')),
    "until close": Framed(_UNTIL_CLOSE + b"\r\n" + BODY),
    "nothing until close": Framed(_UNTIL_CLOSE + b"\r\n", b""),
    "Connection: close": Framed(response(BODY, b"Connection: close"), length=True),
    "HTTP/1.0": Framed(_OLD + b"\r\n" + BODY),
    "HTTP/1.0 with a length": Framed(_OLD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY, length=True),
    "HTTP/1.0 that keeps alive": Framed(
        _OLD + b"Connection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY, length=True
    ),
    "HTTP/1.0 with an error": Framed(b"HTTP/1.0 503 Busy\r\nRetry-After: 1\r\n\r\n" + BODY),
}
framed = pytest.mark.parametrize("name", FRAMINGS)


def _asking(version: bytes, *headers: bytes) -> Actor:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}", *headers).replace(b" HTTP/1.1", b" HTTP/" + version)).read_message()

    return client


@framed
@pytest.mark.parametrize("send", [Peer.send, Peer.send_bytewise], ids=["at once", "byte by byte"])
def test_a_client_of_http_1_1_gets_a_length_or_chunks(stage: Stage, name: str, send: Actor) -> None:
    case = FRAMINGS[name]

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        send(peer, case.answer)  # type: ignore[arg-type] # a method of Peer

    both = twice(stage, _asking(b"1.1"), origin)
    assert_same_responses(both, framing=False)
    (answer,) = both.proxied.responses
    assert answer.body == case.body
    assert answer.all("transfer-encoding") == ([] if case.length else [b"chunked"])
    assert answer.all("content-length") == ([b"%d" % len(case.body)] if case.length else [])
    assert answer.all("connection") == []
    assert both.proxied.client.rest == b""
    recorded = stage.only(both.origin)
    assert (recorded.outcome, recorded.response) == ("completed", case.body)


@framed
@pytest.mark.parametrize("alive", [False, True], ids=["usual", "keep-alive"])
def test_a_client_of_http_1_0_gets_no_chunks(stage: Stage, name: str, alive: bool) -> None:
    """A length, or a body that the end of the connection ends, and then it must be a FIN."""
    case = FRAMINGS[name]
    headers = [b"Connection: keep-alive"] if alive else []
    both = twice(stage, _asking(b"1.0", *headers), answering(case.answer, times=1))
    assert_same_responses(both, framing=False)
    (answer,) = both.proxied.responses
    assert answer.body == case.body
    assert answer.chunks is None
    assert answer.all("transfer-encoding") == []
    assert answer.all("content-length") == ([b"%d" % len(case.body)] if case.length else [])
    kept = alive and case.length
    assert (b"keep-alive" in [value.lower() for value in answer.all("connection")]) is kept
    if not case.length:
        assert both.proxied.client.ended is End.FIN


@framed
@pytest.mark.parametrize("alive", [False, True], ids=["usual", "keep-alive"])
def test_a_connection_of_http_1_0_goes_on_if_it_may(stage: Stage, name: str, alive: bool) -> None:
    case = FRAMINGS[name]
    headers = [b"Connection: Keep-Alive"] if alive else []

    def origin(peer: Peer) -> None:
        peer.read_message()
        peer.send(case.answer)

    with stage.origin(origin) as upstream, stage.client() as client:
        for _ in range(3 if alive and case.length else 1):
            client.send(request(upstream.at(), b"{}", *headers).replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert client.read_message().body == case.body
            upstream.wait_idle()
        if alive and case.length:
            assert not client.has_arrived()
        else:
            assert client.read_to_end() == b""
            assert client.ended is End.FIN


@pytest.mark.parametrize("name", ["chunk extensions", "quoted chunk extensions"])
def test_chunk_extensions_stay_here(stage: Stage, name: str) -> None:
    """They are for the neighbour (RFC 9112, 7.1.1)."""
    both = twice(stage, _asking(b"1.1"), answering(FRAMINGS[name].answer))
    assert b";name" in both.direct.client.received
    assert b";name" not in both.proxied.client.received
    assert b"".join(both.proxied.responses[0].chunks or []) == BODY


def test_no_piece_of_a_body_ends_it(stage: Stage) -> None:
    """An upstream's read that brings framing and no data must not become a chunk of no bytes."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}")).read_head()
        for number in range(10):
            peer.read_until(b"data %d" % number)
            run.tell("read")
        peer.read_until(LAST_CHUNK)

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(STREAM)
        for number in range(10):
            piece = chunk(b"data %d" % number)
            for cut in (piece[:1], piece[1:3], piece[3:-2]):
                peer.send(cut)
            run.wait("read", number + 1)
            peer.send(piece[-2:])
        peer.send(b"0").send(b"\r\n").send(b"\r\n")

    assert_same_responses(twice(stage, client, origin), framing=False)

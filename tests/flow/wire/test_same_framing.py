"""How long a body is goes upstream as the client said it; what leaves that open is refused before any upstream."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import Run, assert_same_requests, assert_same_responses, refused, twice
from tests.flow.wire.stage import LAST_CHUNK, Stage, request
from tests.support.rawhttp import Peer

BODY = b"hello"
CHUNKED = b"5\r\nhello\r\n" + LAST_CHUNK

FRAMINGS: dict[str, tuple[tuple[bytes, ...], bytes]] = {
    "a length": ((b"A: 1", b"Content-Length: 5", b"B: 2"), BODY),
    "a length in lower case": ((b"content-length: 5",), BODY),
    "a length in upper case": ((b"CONTENT-LENGTH: 5",), BODY),
    "a length without a blank": ((b"Content-Length:5",), BODY),
    "a length among blanks": ((b"Content-Length: \t 5 \t",), BODY),
    "a length with zeros before it": ((b"Content-Length: 0005",), BODY),
    "a length of zero": ((b"Content-Length: 0",), b""),
    "a length of zeros": ((b"Content-Length: 000",), b""),
    "chunks": ((b"A: 1", b"Transfer-Encoding: chunked", b"B: 2"), CHUNKED),
    "chunks in lower case": ((b"transfer-encoding: chunked",), CHUNKED),
    "chunks in upper case": ((b"TRANSFER-ENCODING: CHUNKED",), CHUNKED),
    "chunks behind blanks": ((b"Transfer-Encoding: \t chunked",), CHUNKED),
    "chunks without a blank": ((b"Transfer-Encoding:chunked",), CHUNKED),
    "no chunks": ((b"Transfer-Encoding: chunked",), LAST_CHUNK),
    "none": ((b"A: 1",), b""),
    "a type, and no body": ((b"Content-Type: application/json",), b""),
    "a length that Connection names": ((b"Connection: content-length", b"Content-Length: 5"), BODY),
    "chunks that Connection names": ((b"Connection: transfer-encoding", b"Transfer-Encoding: chunked"), CHUNKED),
    "a trailer announced, and a length": ((b"Trailer: X-Sum", b"Content-Length: 5"), BODY),
    "an encoding of the content": ((b"Content-Encoding: chunked", b"Content-Length: 5"), BODY),
}
METHODS = [b"POST", b"GET", b"DELETE", b"OPTIONS", b"PUT"]


@pytest.mark.parametrize("name", FRAMINGS)
def test_a_framing_stays(stage: Stage, name: str) -> None:
    """With any method, on one connection: each request proves that the one before was understood to its end."""
    lines, body = FRAMINGS[name]

    def client(peer: Peer, run: Run) -> None:
        for method in METHODS:
            peer.send(request(run.at(), None, *lines, method=method), body)
            assert peer.read_message().status == 200

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)
    assert len(both.proxied.requests) == len(METHODS)


@pytest.mark.parametrize("lines", [(), (b"Content-Length: 5",)], ids=["no body", "body"])
def test_a_framing_of_http_1_0_stays(stage: Stage, lines: tuple[bytes, ...]) -> None:
    def client(peer: Peer, run: Run) -> None:
        head = request(run.at(), None, *lines).replace(b"HTTP/1.1", b"HTTP/1.0")
        peer.send(head, BODY if lines else b"")
        assert peer.read_message().status == 200

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)


REFUSED: dict[str, tuple[bytes, ...]] = {
    "a length and chunks": (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunks and a length": (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "chunks and a length of zero": (b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    "chunks and a length with fields between": (b"Transfer-Encoding: chunked", b"A: 1", b"Content-Length: 15"),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked",),
    "chunked, gzip": (b"Transfer-Encoding: chunked, gzip",),
    "gzip": (b"Transfer-Encoding: gzip",),
    "gzip and a length": (b"Transfer-Encoding: gzip", b"Content-Length: 5"),
    "identity": (b"Transfer-Encoding: identity",),
    "identity and a length": (b"Transfer-Encoding: identity", b"Content-Length: 5"),
    "identity, chunked": (b"Transfer-Encoding: identity, chunked",),
    "chunked, identity": (b"Transfer-Encoding: chunked, identity",),
    "chunked, chunked": (b"Transfer-Encoding: chunked, chunked",),
    "chunked twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunked twice, in another case": (b"Transfer-Encoding: chunked", b"TRANSFER-ENCODING: Chunked"),
    "gzip, then chunked": (b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
    "chunked, then identity": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "chunked, then nothing": (b"Transfer-Encoding: chunked", b"Transfer-Encoding:"),
    "chunked with a parameter": (b"Transfer-Encoding: chunked;q=1",),
    "chunked with a comma": (b"Transfer-Encoding: chunked,",),
    "chunked behind a comma": (b"Transfer-Encoding: ,chunked",),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"',),
    "chunked behind a tab in a word": (b"Transfer-Encoding: x\tchunked",),
    "xchunked": (b"Transfer-Encoding: xchunked",),
    "chunkedx": (b"Transfer-Encoding: chunkedx",),
    "chunk": (b"Transfer-Encoding: chunk",),
    "chunked beyond ASCII": (b"Transfer-Encoding: \xa0chunked",),
    "chunked behind a vertical tab": (b"Transfer-Encoding: \x0bchunked",),
    "an empty coding": (b"Transfer-Encoding:",),
    "an unknown coding": (b"Transfer-Encoding: foo",),
    "lengths that differ": (b"Content-Length: 5", b"Content-Length: 6"),
    "lengths that differ, apart": (b"Content-Length: 5", b"A: 1", b"content-length: 0"),
    "the same length twice": (b"Content-Length: 5", b"Content-Length: 5"),
    "the same length in another form": (b"Content-Length: 5", b"Content-Length: 05"),
    "a list of lengths": (b"Content-Length: 5, 5",),
    "a list of other lengths": (b"Content-Length: 5, 6",),
    "a negative length": (b"Content-Length: -5",),
    "a negative zero": (b"Content-Length: -0",),
    "a signed length": (b"Content-Length: +5",),
    "a hexadecimal length": (b"Content-Length: 0x5",),
    "a hexadecimal digit": (b"Content-Length: a",),
    "a fraction": (b"Content-Length: 5.0",),
    "an exponent": (b"Content-Length: 5e0",),
    "an underscore": (b"Content-Length: 1_0",),
    "a blank between digits": (b"Content-Length: 5 5",),
    "a tab between digits": (b"Content-Length: 5\t5",),
    "a word": (b"Content-Length: five",),
    "a length and a word": (b"Content-Length: 5 bytes",),
    "a length and a semicolon": (b"Content-Length: 5;",),
    "quotes": (b'Content-Length: "5"',),
    "no length": (b"Content-Length:",),
    "a blank length": (b"Content-Length:  \t ",),
    "no length, then one": (b"Content-Length:", b"Content-Length: 5"),
    "digits beyond ASCII": ("Content-Length: ５".encode(),),  # noqa: RUF001 - the very digit that int() takes
    "a superscript": (b"Content-Length: \xb2",),
    "2 to the 64th": (b"Content-Length: 18446744073709551616",),
    "2 to the 64th and 5": (b"Content-Length: 18446744073709551621",),
    "2 to the 32nd, a million times": (b"Content-Length: 4294967296000000000000",),
    "a huge length": (b"Content-Length: " + b"9" * 40,),
    "a length of a thousand digits": (b"Content-Length: " + b"1" * 1000,),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_framing_that_is_none(stage: Stage, name: str) -> None:
    refused(stage, lambda run: request(run.at(), None, *REFUSED[name]) + CHUNKED)


@pytest.mark.parametrize("name", ["a length and chunks", "gzip", "the same length twice", "a negative length"])
def test_nor_with_a_method_that_has_no_body(stage: Stage, name: str) -> None:
    refused(stage, lambda run: request(run.at(), None, *REFUSED[name], method=b"GET") + CHUNKED)


@pytest.mark.parametrize("name", ["a length and chunks", "gzip, chunked", "lengths that differ", "a word"])
def test_nor_from_http_1_0(stage: Stage, name: str) -> None:
    def data(run: Run) -> bytes:
        return request(run.at(), None, *REFUSED[name]).replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKED

    refused(stage, data)


def test_what_is_hidden_in_a_body_is_no_request(stage: Stage) -> None:
    """Two readers, one of whom takes the body for the next request: the smuggler's way (RFC 9112, 11.2)."""

    def data(run: Run) -> bytes:
        hidden = request(run.at(b"/hidden"), method=b"GET")
        return request(run.at(), None, b"Content-Length: 5", b"Transfer-Encoding: chunked") + LAST_CHUNK + hidden

    refused(stage, data)

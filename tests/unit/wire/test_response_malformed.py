"""Responses that are none: malformed whatever the cutting, and nothing endless is kept."""

from __future__ import annotations

import time

import pytest

from proxy.wire.interface import UpstreamError
from proxy.wire.response import MAX_HEAD_BYTES, ResponseParser
from tests.unit.wire.parsing import CHUNKED, OK, cut, cuttings, feed

BAD = {
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status below 100": b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\n",
    "status in letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "no status": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "version 2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version 0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version 1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version 1": b"HTTP/1 200 OK\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "rtsp": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "ice": b"ICE/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "icy": b"ICY 200 OK\r\n\r\n",
    "two blanks": b"HTTP/1.1  200 OK\r\n\r\n",
    "a tab": b"HTTP/1.1\t200 OK\r\n\r\n",
    "a control in the reason": b"HTTP/1.1 200 O\x01K\r\n\r\n",
    "empty lines before": b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "html": b"<html>",
    "tls": b"\x15\x03\x01\x00\x02\x02\x46",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare LF in a header": OK + b"A: b\nContent-Length: 0\r\n\r\n",
    "bare CR in a header": OK + b"A: b\rc\r\n\r\n",
    "obs-fold": OK + b"A: b\r\n c\r\n\r\n",
    "a header that begins with a blank": OK + b" A: b\r\n\r\n",
    "NUL": OK + b"A: b\0c\r\n\r\n",
    "a blank before the colon": OK + b"A : b\r\n\r\n",
    "no colon": OK + b"Abc\r\n\r\n",
    "no name": OK + b": b\r\n\r\n",
    "a bad header of an interim response": b"HTTP/1.1 103 E\r\nA : b\r\n\r\n",
    "gzip": OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, chunked": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked with a comma": OK + b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nabc",
    "no coding": OK + b"Transfer-Encoding:\r\n\r\n",
    "an unknown coding for 304": b"HTTP/1.1 304 No\r\nTransfer-Encoding: foo\r\n\r\n",
    "both": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "both, turned": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": OK + b"Content-Length: -1\r\n\r\n",
    "a signed length": OK + b"Content-Length: +1\r\n\r\nx",
    "a length in hex": OK + b"Content-Length: 0x1\r\n\r\nx",
    "no length": OK + b"Content-Length:\r\n\r\nx",
    "a list of lengths": OK + b"Content-Length: 1, 1\r\n\r\nx",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "the same length twice": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a huge length": OK + b"Content-Length: 99999999999999999999\r\n\r\nx",
    "a chunk size in letters": CHUNKED + b"zz\r\n",
    "a negative chunk size": CHUNKED + b"-1\r\n",
    "a huge chunk size": CHUNKED + b"fffffffffffffffff\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\nabc\r\n",
    "chunks with bare LF": CHUNKED + b"1\na\n0\n\n",
    "a blank behind a chunk size": CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
    "obs-fold in a trailer": CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nxx",
    "101 without a protocol": b"HTTP/1.1 101 Switching\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_malformed_whatever_the_cutting(data: bytes) -> None:
    for pieces in cuttings(data):
        with pytest.raises(UpstreamError) as raised:
            feed(*pieces)
        assert raised.value.code == "malformed"
        assert "upstream" in str(raised.value)


@pytest.mark.parametrize("name", [name for name in BAD if name != "101 unasked"])
def test_malformed_for_any_kind_of_request(name: str) -> None:
    for head, upgrade in ((True, False), (False, True)):
        if head and BAD[name].startswith(CHUNKED):
            continue  # the chunks are nobody's then
        with pytest.raises(UpstreamError):
            feed(BAD[name], head=head, upgrade=upgrade)


def test_what_was_malformed_in_the_body_came_after_what_was_not() -> None:
    """The head and the bytes before are there to be passed on."""
    parser = ResponseParser(head_request=False)
    with pytest.raises(UpstreamError):
        parser.feed(CHUNKED + b"3\r\nabc\r\nzz\r\n")
    assert parser.head is not None
    assert (b"".join(parser.parts), parser.complete, parser.reusable) == (b"abc", False, False)


def head_of(size: int) -> bytes:
    """A response whose header fields are `size` bytes, in headers of 1000."""
    lines = b"".join(b"X-%04d: %b\r\n" % (number, b"v" * 990) for number in range(size // 1000))
    return OK + lines + b"Content-Length: 1\r\n\r\nx"


@pytest.mark.parametrize("size", [1000, 65536, 1 << 20])
def test_the_heads_limit_does_not_depend_on_the_cutting(size: int) -> None:
    made = feed(*cut(head_of(MAX_HEAD_BYTES - 2000), size))
    assert (made.complete, len(made.final.headers)) == (True, (MAX_HEAD_BYTES - 2000) // 1000 + 1)
    with pytest.raises(UpstreamError, match="head is over"):
        feed(*cut(head_of(MAX_HEAD_BYTES + 2000), size))


def test_a_head_in_small_pieces_costs_no_more_than_it_must() -> None:
    """What was looked at need not be looked at again with each piece: everybody else waits meanwhile."""
    pieces = cut(head_of(MAX_HEAD_BYTES - 2000), 64)
    began = time.process_time()
    assert feed(*pieces).complete
    assert time.process_time() - began < 2.0, "CPU seconds for four thousand pieces"


ENDLESS = {
    "a header": (OK, b"X: ", b"v" * 1000),
    "a name": (OK, b"", b"n" * 1000),
    "a reason": (b"HTTP/1.1 200 ", b"", b"r" * 1000),
    "headers": (OK, b"", b"A: b\r\n" * 100),
    "an interim response": (b"HTTP/1.1 103 E\r\n", b"", b"A: b\r\n" * 100),
    "a trailer": (CHUNKED + b"0\r\nX: ", b"", b"v" * 1000),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"", b"A: b\r\n" * 100),
    "a chunk's extension": (CHUNKED + b"1;", b"", b"e" * 1000),
}


@pytest.mark.parametrize(("begin", "then", "more"), ENDLESS.values(), ids=ENDLESS)
def test_nothing_endless_is_kept(begin: bytes, then: bytes, more: bytes) -> None:
    pieces = [begin, then, *[more] * (1 + 2 * MAX_HEAD_BYTES // len(more))]
    with pytest.raises(UpstreamError, match="is over"):
        feed(*filter(None, pieces))


@pytest.mark.parametrize(
    "begin", [CHUNKED, OK + b"\r\n", OK + b"Content-Length: 99999999\r\n\r\n"], ids=["chunks", "close", "length"]
)
def test_a_body_has_no_limit(begin: bytes) -> None:
    parser = ResponseParser(head_request=False)
    parser.feed(begin)
    more = b"1\r\nx\r\n" * 500 if begin is CHUNKED else b"x" * 3000
    for _ in range(1000):
        parser.feed(more)
        assert b"".join(parser.parts)
        parser.parts = []
    assert parser.complete is False

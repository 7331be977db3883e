"""A response that two readers could understand in two ways is passed on in none: a 502, or a stream that breaks."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import error_type
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Stage, chunk, request, response
from tests.support.rawhttp import Ended, Peer

EVENT = b'data: {"n": 1}\n\n'


def _head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, *lines, b"", b""])


def _status(line: bytes) -> bytes:
    return _head(b"Content-Length: 0", status=line)


# Beside those of test_abnormal_end.py.
HEADS: dict[str, bytes] = {
    "status 099": _status(b"HTTP/1.1 099 OK"),
    "status 1000": _status(b"HTTP/1.1 1000 OK"),
    "a status with a sign": _status(b"HTTP/1.1 +20 OK"),
    "a status with a point": _status(b"HTTP/1.1 200.1 OK"),
    "a status behind two blanks": _status(b"HTTP/1.1  200 OK"),
    "no status, but a reason": _status(b"HTTP/1.1 OK"),
    "ICE": _status(b"ICE/1.0 200 OK"),
    "ICY": _status(b"ICY 200 OK"),
    "another protocol": _status(b"SIP/2.0 200 OK"),
    "a small http": _status(b"http/1.1 200 OK"),
    "HTTP/0.9": _status(b"HTTP/0.9 200 OK"),
    "HTTP/1.2": _status(b"HTTP/1.2 200 OK"),
    "HTTP/2": _status(b"HTTP/2 200 OK"),
    "HTTP/3.0": _status(b"HTTP/3.0 200 OK"),
    "a version of letters": _status(b"HTTP/x.y 200 OK"),
    "a bare CR in the reason": _status(b"HTTP/1.1 200 O\rK"),
    "a request": b"GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a folded header": _head(b"A: one", b" two", b"Content-Length: 0"),
    "a folded header, with a tab": _head(b"A: one", b"\ttwo", b"Content-Length: 0"),
    "a fold before the first header": _head(b" A: one", b"Content-Length: 0"),
    "bare LF": _head(b"A: one", b"Content-Length: 0").replace(b"\r\n", b"\n"),
    "one bare LF": _head(b"A: one\nB: two", b"Content-Length: 0"),
    "bare LF behind the head": _head(b"Content-Length: 0").removesuffix(b"\r\n") + b"\n",
    "a bare CR": _head(b"A: one\rB: two", b"Content-Length: 0"),
    "a space before the colon": _head(b"Content-Length : 0", b"A: one"),
    "a name of no token": _head(b"A(b): one", b"Content-Length: 0"),
    "a name that is not ASCII": _head(b"Stra\xdfe: one", b"Content-Length: 0"),
    "a control in a value": _head(b"A: one\x07", b"Content-Length: 0"),
    "a length twice": _head(b"Content-Length: 2", b"Content-Length: 3") + b"{}",
    "a list of lengths": _head(b"Content-Length: 2, 3") + b"{}",
    "a length with a plus": _head(b"Content-Length: +2") + b"{}",
    "a length in hex": _head(b"Content-Length: 0x2") + b"{}",
    "a length with a blank inside": _head(b"Content-Length: 2 2") + b"{}",
    "no number for a length": _head(b"Content-Length:") + b"{}",
    "chunked and a length": _head(b"Transfer-Encoding: chunked", b"Content-Length: 2") + chunk(b"{}") + LAST_CHUNK,
    "chunked twice": _head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + LAST_CHUNK,
    "chunked, chunked": _head(b"Transfer-Encoding: chunked, chunked") + LAST_CHUNK,
    "chunked, and then something": _head(b"Transfer-Encoding: chunked, gzip") + LAST_CHUNK,
    "almost chunked": _head(b"Transfer-Encoding: xchunked") + LAST_CHUNK,
    "chunked with a control": _head(b"Transfer-Encoding: \x0bchunked") + LAST_CHUNK,
    "identity": _head(b"Transfer-Encoding: identity") + b"{}",
    "no name for a framing": _head(b"Transfer-Encoding:") + b"{}",
    "a head over 256 KiB": _head(*[b"A-%d: %b" % (number, b"x" * 1000) for number in range(270)], b"Content-Length: 0"),
    "hints over 256 KiB": _head(*[b"Link: " + b"x" * 1000] * 270, status=b"HTTP/1.1 103 Hints") + response(),
}


@pytest.mark.parametrize("name", HEADS)
def test_before_the_head_it_is_a_502(stage: Stage, name: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        try:
            peer.send(HEADS[name]).read_to_end()  # it does not end first
        except Ended:
            pass  # nobody wanted to have all of it

    with stage.origin(script) as origin:
        answer = stage.exchange(request(origin.at(), b"{}"))
        recorded = stage.only(origin)
        origin.wait_idle()
        assert len(origin.peers) == 1
    assert (answer.status, error_type(answer)) == (502, "wiretape_upstream_broken")
    assert (recorded.outcome, recorded.facts["status"], recorded.response) == ("upstream_failed", None, b"")
    assert recorded.facts["error"].startswith("malformed: ")


BODIES: dict[str, bytes] = {
    "a chunk's size behind a bare LF": b"%x\r\n%b\n" % (len(EVENT), EVENT) + chunk(EVENT),
    "a bare LF behind a size": b"%x\n%b\r\n" % (len(EVENT), EVENT),
    "a blank before a size": b" " + chunk(EVENT),
    "a sign before a size": b"+" + chunk(EVENT),
    "0x before a size": b"0x" + chunk(EVENT),
    "an underscore in a size": b"1_0\r\n" + EVENT[:10],
    "a chunk that is longer than it says": b"%x\r\n%b" % (len(EVENT) - 1, EVENT) + b"\r\n" + LAST_CHUNK,
    "a size of 2^64": b"10000000000000000\r\n" + EVENT,
    "a size of 2^64 behind zeros": b"000010000000000000000\r\n" + EVENT,
    "a control in an extension": b"%x;a=\0\r\n" % len(EVENT) + EVENT + b"\r\n",
    "a folded trailer": b"0\r\nA: one\r\n two\r\n\r\n",
    "a trailer without a colon": b"0\r\nnonsense\r\n\r\n",
    "a space in a trailer's name": b"0\r\nA B: one\r\n\r\n",
    "trailers over 256 KiB": b"0\r\n" + b"A: %b\r\n" % (b"x" * 1000) * 270 + b"\r\n",
    "an endless trailer": b"0\r\nA: " + b"x" * 400_000,
}


@pytest.mark.parametrize("asking", [[], [b"TE: trailers", b"Connection: TE"]], ids=["silent", "asking for trailers"])
@pytest.mark.parametrize("name", BODIES)
def test_behind_the_head_the_stream_breaks(stage: Stage, name: str, asking: list[bytes]) -> None:
    """What was good of it has arrived, and no end."""

    def script(peer: Peer) -> None:
        peer.read_message()
        try:
            peer.send(STREAM, chunk(EVENT), BODIES[name]).read_to_end()
        except Ended:
            pass  # nobody wanted to have all of it

    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}", *asking))
        start, _ = client.read_head()
        assert start == b"HTTP/1.1 200 OK"
        came = client.read_to_end()
        recorded = stage.only(origin)
        origin.wait_idle()
    assert came.startswith(b"%x\r\n%b" % (len(EVENT), EVENT)) or EVENT in came
    assert b"\r\n0\r\n" not in came
    assert (recorded.outcome, recorded.facts["status"]) == ("upstream_failed", 200)
    assert recorded.facts["error"].startswith("malformed: ")
    assert recorded.response.startswith(EVENT)

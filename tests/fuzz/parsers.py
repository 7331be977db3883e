"""Feeds bytes to one parser in two cuttings: both must mean the same, and nothing but the parser's own error is raised.

Must not know the fuzzer.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.wire.chunked import ChunkedBody
from proxy.wire.interface import RequestError, UpstreamError
from proxy.wire.request import check_unfinished, parse_head, without_blank_lines
from proxy.wire.response import ResponseParser

LIMIT = 4096

Parser = Callable[[bytes], None]
"""Its first byte chooses where the rest is cut. Raises AssertionError where the two cuttings differ."""


def request(data: bytes) -> None:
    """A request head: what may still become one is not refused beforehand."""
    head = without_blank_lines(data)
    end = head.find(b"\r\n\r\n")
    try:
        if end < 0:
            check_unfinished(head, LIMIT)
            return
        parsed = parse_head(head[: end + 4], 100)
    except RequestError:
        return
    assert not (parsed.chunked and parsed.length is not None)
    for size in range(end + 4):
        check_unfinished(head[:size], max(LIMIT, len(head)))


def chunked(data: bytes) -> None:
    whole, cut = (_chunked(pieces) for pieces in _cuttings(data))
    assert whole == cut, f"{whole} and {cut}"


def response(data: bytes) -> None:
    for head in (False, True):
        whole, cut = (_response(pieces, head=head) for pieces in _cuttings(data))
        assert whole == cut, f"{whole} and {cut}"


PARSERS: dict[str, Parser] = {"request": request, "chunked": chunked, "response": response}

SEEDS: dict[str, list[bytes]] = {
    "request": [
        b"POST /up/v1/x?a=%2F HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        b"\r\nGET /up HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade, te\r\nTE: trailers\r\n\r\n",
        b"M-SEARCH * HTTP/1.0\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    ],
    "chunked": [b"\x035\r\nhello\r\n0\r\n\r\nGET", b'\x082;a="b"\r\nhi\r\n00\r\nX-Sum: 1\r\nA:\r\n\r\n'],
    "response": [
        b"\x20HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP",
        b"\x08HTTP/1.1 103 E\r\nLink: a\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"\x40HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
        b"\x10HTTP/1.0 404\r\nConnection: keep-alive\r\n\r\nuntil it closes",
        b"\x10HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n",
    ],
}


def _cuttings(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """All at once, and in two or in single bytes."""
    place, data = (data[0], data[1:]) if data else (0, b"")
    if place < 255:
        return [data], [data[:place], data[place:]]
    return [data], [data[at : at + 1] for at in range(len(data))]


def _chunked(pieces: list[bytes]) -> object:
    body = ChunkedBody(LIMIT)
    came, behind = b"", b""
    try:
        for piece in pieces:
            if body.complete:
                behind += piece
            elif piece:
                came += body.feed(piece)
                behind = body.surplus
    except RequestError:
        return "refused"
    return came, body.complete, body.trailers, behind


def _response(pieces: list[bytes], *, head: bool) -> object:
    parser = ResponseParser(head_request=head)
    came = b""
    broken = False
    try:
        for piece in pieces:
            if piece and not broken:
                parser.feed(piece)
                came += b"".join(parser.parts)
                parser.parts.clear()
    except UpstreamError:
        return "malformed"
    interims = [(each.status, each.headers) for each in parser.interims]
    found = parser.head and (parser.head.status, parser.head.reason, parser.head.headers, parser.head.bodiless)
    return interims, found, came, parser.complete, parser.trailers, parser.surplus, parser.reusable

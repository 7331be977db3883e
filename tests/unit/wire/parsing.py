"""Feeds a response parser, and keeps what it tells apart from how the bytes were cut."""

from __future__ import annotations

from typing import NamedTuple

from proxy.wire.interface import RawHeaders, UpstreamError, UpstreamResponse
from proxy.wire.response import ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


class Parsed(NamedTuple):
    """`reusable`: whether the connection may carry another request."""

    interims: list[UpstreamResponse]
    head: UpstreamResponse | None
    body: bytes
    trailers: RawHeaders
    complete: bool
    until_close: bool
    upgraded: bool
    surplus: bool
    reusable: bool

    @property
    def final(self) -> UpstreamResponse:
        assert self.head is not None
        return self.head


def feed(*pieces: bytes, head: bool = False, upgrade: bool = False) -> Parsed:
    """All that a parser makes of the pieces, fed or asked first whether they are body only. Raises UpstreamError."""
    results: list[Parsed | UpstreamError] = []
    for asked in (False, True):
        try:
            results.append(_feed(pieces, head=head, upgrade=upgrade, asked=asked))
        except UpstreamError as error:
            results.append(error)
    fed, made = results
    assert made == fed or str(made) == str(fed)
    if isinstance(made, UpstreamError):
        raise made
    return made


def _feed(pieces: tuple[bytes, ...], *, head: bool, upgrade: bool, asked: bool) -> Parsed:
    parser = ResponseParser(head_request=head, upgrade=upgrade)
    interims: list[UpstreamResponse] = []
    body = b""
    for piece in pieces:
        under_way = asked and parser.head is not None and not parser.complete and not parser.upgraded
        if under_way and (only := parser.only_body(piece)):
            body += only
            continue
        parser.feed(piece)
        assert all(parser.parts), "an empty part"
        interims += parser.interims
        body += b"".join(parser.parts)
        parser.interims, parser.parts = [], []
    return Parsed(
        interims,
        parser.head,
        body,
        parser.trailers,
        parser.complete,
        parser.until_close,
        parser.upgraded,
        parser.surplus,
        parser.reusable,
    )


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    inside = sorted({place % len(data) for place in places} - {0}) if data else []
    return [data[begin:end] for begin, end in zip([0, *inside], [*inside, len(data)], strict=True)]


def cuttings(data: bytes) -> list[list[bytes]]:
    """At once, at any one place, and byte by byte."""
    return [[data], *([data[:place], data[place:]] for place in range(1, len(data))), cut(data, 1)]

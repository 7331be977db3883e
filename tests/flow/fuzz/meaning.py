"""What the bytes of a response mean by RFC 9112, read anew in the plainest way. Must not know the project's code."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.rawhttp import RawHeaders

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = re.compile(rb"(%b):([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
_VALUE = rb"(?:%b|\"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*\")" % _TOKEN
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*%b)?)*\r\n" % (_TOKEN, _VALUE))


@dataclass(frozen=True)
class Meaning:
    """A final response. `rest` are the bytes behind it; `until_close`: only the connection's end ends the body;
    `keeps`: the connection may carry another exchange."""

    status: int
    reason: bytes
    headers: RawHeaders
    interims: list[int]
    body: bytes
    rest: bytes
    until_close: bool
    keeps: bool


class _Nothing(Exception):
    """There is no whole message."""


def meaning(data: bytes, method: bytes) -> Meaning | None:
    """Of what answers a request that asked for no upgrade; None: the message is not whole, or none at all."""
    interims: list[int] = []
    try:
        while True:
            old, status, reason, headers, data = _head(data)
            if status == 101:
                return None
            if status >= 200:
                break
            interims.append(status)
        named = [(name.lower(), value) for name, value in headers]
        codings = [value.lower() for name, value in named if name == b"transfer-encoding"]
        lengths = [value for name, value in named if name == b"content-length"]
        options = [each.strip().lower() for name, value in named if name == b"connection" for each in value.split(b",")]
        if codings not in ([], [b"chunked"]) or len(lengths) + len(codings) > 1:
            return None
        if lengths and not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            return None
        keeps = b"close" not in options and (not old or (b"keep-alive" in options and not codings))
        body, rest, until_close = _body(data, codings, lengths, bodiless=method == b"HEAD" or status in (204, 304))
    except _Nothing:
        return None
    return Meaning(status, reason, headers, interims, body, rest, until_close, keeps and not rest and not until_close)


def _head(data: bytes) -> tuple[bool, int, bytes, RawHeaders, bytes]:
    head, found, rest = data.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    line = _STATUS.fullmatch(start)
    if not found or line is None:
        raise _Nothing
    return line[1] == b"0", int(line[2]), line[3] or b"", [_field(each) for each in lines], rest


def _field(line: bytes) -> tuple[bytes, bytes]:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise _Nothing
    return field[1], field[2].strip(b" \t")


def _body(data: bytes, codings: list[bytes], lengths: list[bytes], *, bodiless: bool) -> tuple[bytes, bytes, bool]:
    """The body, what is behind it, and whether it is the connection that ends it."""
    if bodiless:
        return b"", data, False
    if lengths:
        size = int(lengths[0])
        if len(data) < size:
            raise _Nothing
        return data[:size], data[size:], False
    if not codings:
        return data, b"", True
    body = b""
    while True:
        line = _SIZE.match(data)
        if line is None:
            raise _Nothing
        size, data = int(line[1], 16), data[line.end() :]
        if not size:
            return body, _behind_trailers(data), False
        if data[size : size + 2] != b"\r\n":
            raise _Nothing
        body, data = body + data[:size], data[size + 2 :]


def _behind_trailers(data: bytes) -> bytes:
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found:
            raise _Nothing
        if not line:
            return data
        if _field(line)[0].lower() in (b"content-length", b"transfer-encoding"):
            raise _Nothing  # RFC 9110, 6.5.1: no trailer may frame a message

"""Reads header fields: llhttp judges a line that frames or switches, the grammar of RFC 9110, 5.5 any other, and a line
that passed is known from then on.

Programs send the same lines with every request, and servers with every response; to look one up costs a tenth of
parsing it. Equal lines give the same tuple, so whoever works something out from a field can remember it by that.
Bytes in, fields out; must not know sockets or event loops.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import httptools

from proxy.wire.interface import RawHeaders

REMEMBERED = 4096  # lines; then all are forgotten, and those in use are soon known again
LONGEST = 1024  # bytes of a line that is remembered

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
# To make a parser for one line costs eight times as much as to match it, and dates and ids are new in every response.
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"proxy-connection", b"upgrade"))

BARE_END = re.compile(rb"\r[^\n]|(?<!\r)\n")  # a line's end that is not CR LF

T = TypeVar("T")


class BadField(ValueError):
    """A line is no header field."""


class ByName(dict[bytes, T]):
    """What `judge` says of a header's name in lower case, remembered by the name as it stands."""

    def __init__(self, judge: Callable[[bytes], T]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: bytes) -> T:
        if len(self) >= REMEMBERED:
            self.clear()
        found = self[name] = self._judge(name.lower())
        return found


class FieldReader:
    """`start` is a start line that llhttp wants to see before fields, `parser` makes one for a callbacks object."""

    def __init__(
        self, start: bytes, parser: Callable[[object], httptools.HttpRequestParser | httptools.HttpResponseParser]
    ) -> None:
        self._start = start
        self._parser = parser
        self._known: dict[bytes, tuple[bytes, bytes]] = {}

    def read(self, block: bytes) -> RawHeaders:
        """`block`: whole lines, CR LF between them and none at the end; names and values without the blanks around
        them. Raises BadField."""
        if not block:
            return []
        get, learn = self._known.get, self._learn
        return [get(line) or learn(line) for line in block.split(b"\r\n")]

    def _learn(self, line: bytes) -> tuple[bytes, bytes]:
        plain = _FIELD.fullmatch(line)
        if plain is None:
            raise BadField("not a valid header field")
        name, value = plain.groups()
        if name.lower() in _FRAMING:
            self._judge(line)
        field = (name, value.rstrip(b" \t"))
        if len(line) <= LONGEST:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[line] = field
        return field

    def _judge(self, line: bytes) -> None:
        """Raises BadField for what llhttp does not take."""
        judge = _Judge()
        try:
            self._parser(judge).feed_data(b"%b%b\r\n\r\n" % (self._start, line))
        except httptools.HttpParserUpgrade:
            pass  # the line alone is what was asked about
        except httptools.HttpParserError:
            raise BadField("not a valid header field") from None
        if len(judge.headers) != 1:
            raise BadField("not a valid header field")


class _Judge:
    """llhttp's callbacks."""

    def __init__(self) -> None:
        self.headers: RawHeaders = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def for_requests() -> FieldReader:
    return FieldReader(b"POST / HTTP/1.1\r\n", httptools.HttpRequestParser)


def for_responses() -> FieldReader:
    return FieldReader(b"HTTP/1.1 200 OK\r\n", httptools.HttpResponseParser)

"""Reads one HTTP/1.1 response: the status line by the grammar of RFC 9112, 4, fields and chunks by llhttp.

The rules that llhttp leaves to its user are here too.

Bytes in; heads, body parts, completeness out. Must not know sockets or event loops.
"""

from __future__ import annotations

import re

import httptools

from proxy.wire.fields import BARE_END, REMEMBERED, BadField, ByName, for_responses
from proxy.wire.interface import RawHeaders, UpstreamError, UpstreamResponse

MAX_HEAD_BYTES = 256 * 1024

_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_SPECIAL = ByName(
    lambda name: name if name in (b"content-length", b"transfer-encoding", b"connection", b"upgrade") else b""
)
_FIELDS = for_responses()


class _Sizes(dict[bytes, int]):
    """Chunk sizes by the lines that say them; -1 for a line that is not just a size above 0."""

    def __missing__(self, line: bytes) -> int:
        size = int(line, 16) if _SIZE.fullmatch(line) else 0
        if len(self) >= REMEMBERED:
            self.clear()
        found = self[line] = size or -1
        return found


_sizes = _Sizes()


class ResponseParser:
    """For one response. After each `feed`: `interims` and `parts` (the caller takes them out), `head` once it is whole,
    `complete`. `upgraded`: the head is a 101, and what follows belongs to no parser; `parts` begins with it."""

    __slots__ = (
        "_chunked",
        "_head_request",
        "_held",
        "_keep_alive",
        "_left",
        "_upgrade",
        "begun",
        "complete",
        "head",
        "interims",
        "parts",
        "surplus",
        "trailers",
        "until_close",
        "upgraded",
    )

    def __init__(self, *, head_request: bool, upgrade: bool = False) -> None:
        self.interims: list[UpstreamResponse] = []
        self.head: UpstreamResponse | None = None
        self.parts: list[bytes] = []
        self.trailers: RawHeaders = []
        self.begun = False  # a byte has come
        self.complete = False
        self.surplus = False  # bytes came behind the response: they belong to nobody
        self.until_close = False  # only the end of the connection ends the body
        self.upgraded = False
        self._head_request = head_request
        self._upgrade = upgrade
        self._held = b""  # the beginning of a head
        self._left = 0  # bytes of a body with a length that are still to come
        self._chunked: _ChunkedBody | None = None
        self._keep_alive = False

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self.complete and self._keep_alive and not self.surplus and not self.until_close

    def feed(self, data: bytes) -> None:
        """Raises UpstreamError(`malformed`)."""
        self.begun = True
        if self.head is None:
            data = self._read_heads(data)
            if self.head is None:
                return
        if not data:
            return
        if self.complete:
            self.surplus = True
        elif self._chunked is not None:
            self._chunked.feed(data, self.parts)
            if self._chunked.complete:
                self.complete = True
                self.surplus = self._chunked.surplus
                self.trailers = self._chunked.trailers
        elif self.until_close or self.upgraded:
            self.parts.append(data)
        else:
            self.surplus = len(data) > self._left
            self.parts.append(data[: self._left] if self.surplus else data)
            self._left -= len(data)
            self.complete = self._left <= 0

    def only_body(self, data: bytes) -> bytes:
        """The body bytes in `data`, where it holds nothing else and the response goes on behind it; empty: it must be
        fed. Most reads of a stream are one chunk as it was written: there is nothing to be parsed."""
        chunked = self._chunked
        if chunked is not None:
            return chunked.only_chunk(data)
        if len(data) < self._left:
            self._left -= len(data)
            return data
        return b""

    def _read_heads(self, data: bytes) -> bytes:
        """Up to and with the final head; what is left of `data` is behind it."""
        seen = len(self._held)  # what was looked at already; a head in small pieces must not cost its square
        if seen:
            data, self._held = self._held + data, b""
        while self.head is None:
            end = data.find(b"\r\n\r\n", max(0, seen - 3))
            if end < 0 or end + 4 > MAX_HEAD_BYTES:
                _check_unfinished(data, seen)
                self._held = data
                return b""
            self._read_head(data[: end + 4])
            data, seen = data[end + 4 :], 0
        return data

    def _read_head(self, head: bytes) -> None:
        line = _LINE.match(head)
        if line is None:
            raise _malformed("the upstream's status line is not valid HTTP/1.1")
        minor, code, reason = line.groups()
        status = int(code)
        try:
            headers = _FIELDS.read(head[line.end() : -4])
        except BadField:
            raise _malformed("a line of the upstream's response head is not a valid header") from None
        response = UpstreamResponse(status, reason or b"", headers, True)
        if status == 101:
            if not self._upgrade or not any(_SPECIAL[name] == b"upgrade" for name, _ in headers):
                raise _malformed("the upstream switched protocols without being asked")
            self.upgraded = True
        elif status < 200:
            self.interims.append(response)
            return
        else:
            self._frame(response, old=minor == b"0")
        self.head = response

    def _frame(self, response: UpstreamResponse, *, old: bool) -> None:
        """How the body ends (RFC 9112, 6.3), and whether the connection stays."""
        length: int | None = None
        codings: list[bytes] = []
        options: list[bytes] = []
        for header in response.headers:
            special = _SPECIAL[header[0]]
            if not special:
                continue
            if special == b"content-length":
                if length is not None or not _LENGTH.fullmatch(header[1]):
                    raise _malformed("the upstream's Content-Length is not one number")
                length = int(header[1])
            elif special == b"transfer-encoding":
                codings.append(header[1].lower())
            elif special == b"connection":
                options += [option.strip().lower() for option in header[1].split(b",")]
        if codings and length is not None:
            raise _malformed("the upstream's response has both Content-Length and Transfer-Encoding")
        if codings and codings != [b"chunked"]:
            raise _malformed("the upstream used a Transfer-Encoding other than chunked")
        # HTTP/1.0 has no chunks: such a connection must not be trusted any further (RFC 9112, 6.1).
        self._keep_alive = b"close" not in options and (not old or (b"keep-alive" in options and not codings))
        if self._head_request or response.status in (204, 304):
            self.complete = True
            return
        response.bodiless = False
        if codings:
            self._chunked = _ChunkedBody()
        elif length is None:
            self.until_close = True
        else:
            self._left = length
            self.complete = not length


class _ChunkedBody:
    """llhttp's callbacks for a chunked body, which it gets behind a head of ours."""

    def __init__(self) -> None:
        self.complete = False
        self.surplus = False
        self.trailers: RawHeaders = []
        self._parts: list[bytes] = []
        self._in_body = False
        self._last = b""  # of all that came
        self._fields = 0  # bytes of trailers
        self._bodiless = 0  # bytes since the last that belonged to a body
        self._between = False  # llhttp's last word was the end of a chunk
        self._at_chunk = True  # the next byte is the first of a chunk's head
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)
        self._in_body = True

    def only_chunk(self, data: bytes) -> bytes:
        """The bytes of the one chunk that `data` is, of which llhttp hears nothing then; empty where it is not that."""
        if not self._at_chunk:
            return b""
        line = data.find(b"\r\n", 0, 10)
        if line > 0 and len(data) - line == _sizes[data[:line]] + 4 and data.endswith(b"\r\n"):
            self._last = data[-6:]
            return data[line + 2 : -2]
        return b""

    def feed(self, data: bytes, parts: list[bytes]) -> None:
        """Raises UpstreamError."""
        self._parts = parts
        self._bodiless += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise _malformed(f"the upstream's chunks are not valid HTTP/1.1: {error}") from None
            self.surplus = True
        # llhttp passes over empty lines behind a message without a word.
        self._last = (self._last + data)[-6:]
        self._at_chunk = self._between and data.endswith(b"\r\n")
        if self.complete and (not self._last.endswith(b"\r\n\r\n") or self._last == b"\r\n" * 3):
            self.surplus = True
        # What llhttp holds back of a single endless trailer is in no list yet.
        self._limit(self._bodiless)

    def _limit(self, size: int) -> None:
        if size > MAX_HEAD_BYTES and not self.complete:
            raise _malformed(f"the upstream's response trailer section is over {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        if self.complete:
            self.surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body and not self.complete:
            self.trailers.append((name, value.strip(b" \t")))
            self._fields += len(name) + len(value) + 4
            self._limit(self._fields)

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self._parts.append(data)
            self._bodiless = 0

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_message_complete(self) -> None:
        self.complete = True
        self._between = False


def _check_unfinished(data: bytes, seen: int) -> None:
    """Say at once what can never become a good head, looking at what comes behind `seen` bytes."""
    if len(data) > MAX_HEAD_BYTES:
        raise _malformed(f"the upstream's response head is over {MAX_HEAD_BYTES} bytes")
    if data and not b"HTTP/".startswith(data[:5]):
        raise _malformed("the upstream's status line is not valid HTTP/1.1")
    if BARE_END.search(data, max(0, seen - 1)):
        raise _malformed("lines of the upstream's response head do not end with CR LF")


def _malformed(text: str) -> UpstreamError:
    return UpstreamError("malformed", text)

"""Undoes the chunked framing of a request body (RFC 9112, 7.1), and knows to the byte where it ends.

llhttp would not say where in the data the body ended, and behind it may stand another request. Strict: what two
readers could understand in two ways is refused. Bytes in, bytes out; must not know sockets or event loops.
"""

from __future__ import annotations

import re

from proxy.wire.fields import BARE_END
from proxy.wire.interface import RawHeaders
from proxy.wire.request import bad_request, parse_trailers

MAX_LINE = 4096  # bytes of a chunk's size and extensions

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")


class ChunkedBody:
    """One body. `feed` gives its bytes; once `complete`, `trailers` are there, and `surplus` is what came behind it.

    A trailer section of more than `max_trailers` bytes is refused.
    """

    def __init__(self, max_trailers: int) -> None:
        self.complete = False
        self.trailers: RawHeaders = []
        self.surplus = b""
        self._held = b""  # the beginning of a line that is not whole yet
        self._seen = 0  # its length when the latest bytes came: small pieces must not cost its square
        self._left = 0  # bytes of the chunk under way that are still to come
        self._closing = False  # the chunk's data came, its CRLF did not yet
        self._in_trailers = False
        self._max_trailers = max_trailers

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`. Raises RequestError."""
        parts: list[bytes] = []
        at = 0
        self._seen = len(self._held)
        if self._held:
            data, self._held = self._held + data, b""
        while at < len(data) and not self.complete:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                self._closing = not self._left
            else:
                step = self._read_line(data, at)
                if not step:
                    self._held = data[at:]
                    break
                at += step
        if self.complete:
            self.surplus = data[at:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_line(self, data: bytes, at: int) -> int:
        """How many bytes of `data` were taken; 0 where more are needed first."""
        if self._closing:
            return self._read_crlf(data, at)
        if self._in_trailers:
            return self._read_trailers(data, at)
        found = _SIZE.match(data, at)
        if found is None:
            # A line that is whole, or can never be one, is wrong; else the rest of it is still to come.
            if len(data) - at > MAX_LINE or b"\n" in data[at:] or not _may_begin_size(data[at:]):
                raise bad_request("the size of a chunk is not valid")
            return 0
        if found.end() - at > MAX_LINE:
            raise bad_request("the size of a chunk is not valid")
        self._left = int(found[1], 16)
        self._in_trailers = not self._left
        return found.end() - at

    def _read_crlf(self, data: bytes, at: int) -> int:
        if not b"\r\n".startswith(data[at : at + 2]):
            raise bad_request("a chunk is longer than it says")
        if len(data) - at < 2:
            return 0
        self._closing = False
        return 2

    def _read_trailers(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self.complete = True
            return 2
        end = data.find(b"\r\n\r\n", at)
        if (end + 4 if end >= 0 else len(data)) - at > self._max_trailers:
            raise bad_request(f"the request's trailers are over {self._max_trailers} bytes (max_head)")
        if end < 0:
            if BARE_END.search(data, max(at, self._seen - 1)):
                raise bad_request("the request's trailers are not valid")
            return 0
        self.trailers = parse_trailers(data[at : end + 4])
        self.complete = True
        return end + 4 - at


def _may_begin_size(line: bytes) -> bool:
    return re.fullmatch(rb"[0-9A-Fa-f]{1,15}(?:[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?)?", line) is not None

"""JSON that comes in pieces: lines (NDJSON) and the elements of one array, however the bytes are cut.

Pure; must not know what the JSON says. Memory is bounded by the largest element, and by MAX_ELEMENT.
"""

from __future__ import annotations

import re

MAX_ELEMENT = 64 * 2**20
"""Most bytes that one line or element may have; a larger one is left out, and `problem` says so."""

_OUTSIDE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')


class LineParser:
    """NDJSON: gives the lines that are not blank, without their ends."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self._rest: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether a line has begun."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in these bytes."""
        lines = data.split(b"\n")
        lines[0] = b"".join((*self._rest, lines[0])) if len(lines) > 1 else lines[0]
        rest = lines.pop()
        if lines:
            self._rest, self._size = [], 0
        self._size += len(rest)
        if self._size > MAX_ELEMENT:
            self._rest = []
            self.problem = f"a line of more than {MAX_ELEMENT // 2**20} MiB was left out"
        elif rest:
            self._rest.append(rest)
        return [line for line in (each.strip() for each in lines) if line]

    def finish(self) -> list[bytes]:
        """The last line, which may lack its end; half a line is for the caller to tell from a whole one."""
        rest = b"".join(self._rest).strip()
        self._rest = []
        return [rest] if rest else []


class ArrayParser:
    """One JSON array: gives each object or array that is an element, as soon as it is whole.

    Numbers and strings among the elements are passed over. `closed`: the array's own end was seen. An element of more
    than `limit` bytes (else MAX_ELEMENT) is left out.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.closed = False
        self._limit = MAX_ELEMENT if limit is None else limit
        self.problem: str | None = None
        self._buffer = bytearray()
        self._at = 0  # of the buffer, this much is looked through
        self._start = -1  # where the element under way begins
        self._depth = 0
        self._in_string = False

    @property
    def pending(self) -> bool:
        """Whether an element has begun."""
        return self._start >= 0

    def feed(self, data: bytes) -> list[bytes]:
        """The elements that end in these bytes."""
        self._buffer += data
        found: list[bytes] = []
        while not self.closed and self._step(found):
            pass
        self._forget()
        return found

    def _step(self, found: list[bytes]) -> bool:
        """Go on to the next byte that matters; False when there is none yet."""
        pattern = _IN_STRING if self._in_string else _OUTSIDE
        match = pattern.search(self._buffer, self._at)
        if match is None:
            self._at = len(self._buffer)
            return False
        at, sign = match.start(), match.group()
        if sign == b"\\":
            if at + 1 >= len(self._buffer):
                self._at = at  # what it escapes has not come
                return False
            self._at = at + 2
            return True
        self._at = at + 1
        if sign == b'"':
            self._in_string = not self._in_string
        elif sign in (b"{", b"["):
            if self._depth == 1:
                self._start = at
            self._depth += 1
        else:
            self._depth -= 1
            if self._depth == 1 and self._start >= 0:
                found.append(bytes(self._buffer[self._start : at + 1]))
                self._start = -1
            elif self._depth <= 0:
                self.closed = True
        return True

    def _forget(self) -> None:
        """Drop what no element needs any more."""
        if self._start >= 0 and self._at - self._start > self._limit:
            self.problem = f"an element of more than {self._limit // 2**20} MiB was left out"
            self._start = -1
        keep = self._start if self._start >= 0 else self._at
        if keep > 0:
            del self._buffer[:keep]
            self._at -= keep
            self._start = 0 if self._start >= 0 else -1

"""Cuts an HTTP Archive into its entries, however large it is: memory holds one of them. Pure but for reading the file.

Must not know what an entry says; that is har_entry.py's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from proxy.errors import UsageError
from proxy.interpret.pieces import ArrayParser

LONGEST = 512 * 2**20
"""Bytes of the longest entry that is read."""

MAX_HEAD = 16 * 2**20
"""Bytes that may stand before the entries: who wrote it, and which pages there were."""

_MAX_DEPTH = 1000
_STEP = 2**18
# A whole string, or the beginning of one that goes on; and what gives JSON its structure.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\]:,]', re.DOTALL)
_PLACE = [b'"log"', b'"entries"']


class BadArchive(UsageError):
    """An archive, or an entry of it, that cannot be understood; the text says which."""


def entries(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """The entries of an archive as they are asked for: number, what it says, and its text. Raises BadArchive."""
    head = _Head()
    begun = b""
    while not begun:
        data = file.read(_STEP)
        if not data:
            raise BadArchive("it is no HTTP Archive: it has no log.entries")
        begun = head.feed(data)
    array, number = ArrayParser(LONGEST), 0
    while True:
        for text in array.feed(begun):
            number += 1
            yield number, _decoded(number, text), text
        if array.problem is not None:
            raise BadArchive(f"entry {number + 1} has more than {LONGEST // 2**20:,} MiB")
        if array.closed:
            return
        begun = file.read(_STEP)
        if not begun:
            where = f"in entry {number + 1}" if array.pending else f"after entry {number}"
            raise BadArchive(f"the archive is cut off {where}")


def _decoded(number: int, text: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        found = _decoded_leniently(number, text)
    if not isinstance(found, dict):
        raise BadArchive(f"entry {number} is no object")
    return found


def _decoded_leniently(number: int, text: bytes) -> Any:
    """With half a surrogate pair, which browsers write where a text was cut, replaced."""
    try:
        return json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        raise BadArchive(f"entry {number} is no JSON") from None


class _Head:
    """Looks for the array `log.entries`, by the keys and brackets before it."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._keys: list[bytes] = []  # the key under way in each object that is open; empty in an array
        self._last = b""

    def feed(self, data: bytes) -> bytes:
        """What there is from the array's `[` on; nothing while it has not come. Raises BadArchive."""
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        if len(self._buffer) > MAX_HEAD:
            raise BadArchive("it is no HTTP Archive: its entries do not begin where they should")
        while (token := _TOKEN.search(self._buffer, self._at)) is not None:
            sign = token[0]
            if sign == b'"':
                self._at = token.start()
                return b""
            self._at = token.end()
            if sign == b"[" and self._keys == _PLACE:
                return self._buffer[token.start() :]
            self._take(sign)
        self._at = len(self._buffer)
        return b""

    def _take(self, sign: bytes) -> None:
        if sign in (b"{", b"["):
            self._keys.append(b"")
        elif sign in (b"}", b"]"):
            del self._keys[-1:]
        elif sign == b":" and self._keys:
            self._keys[-1] = self._last
        else:
            self._last = sign
        if not 0 < len(self._keys) <= _MAX_DEPTH:
            raise BadArchive("it is no HTTP Archive: it has no log.entries")

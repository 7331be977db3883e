"""Bodies before they are read: gathered whole where they are one JSON, looked at from the front where headers lie.

Pure; must not know what a body says.
"""

from __future__ import annotations

from collections.abc import Iterator

from proxy.interpret import headers
from proxy.interpret.meaning import Pairs
from proxy.interpret.values import BOM

MAX_JSON = 64 * 2**20
"""Most bytes that a body may have which is one JSON: such a one is held in memory whole."""

NOT_JSON = ("multipart/", "image/", "audio/", "video/", "application/zip", "application/pdf", "text/html")
"""What media types begin with of bodies that are never one JSON."""

_ENOUGH = 8  # bytes tell what a body is
_BLANKS = b" \t\r\n"
_BEGINNING = 1024  # bytes of it are kept


class Joined:
    """A body that is gathered whole, if it is not too large."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.too_large = False
        self._size = 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_JSON:
            self.too_large = True
            self.parts = []
        elif data:
            self.parts.append(data)

    def joined(self) -> bytes:
        """All of it; it is given away."""
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Started:
    """Pieces whose beginning has been looked at: `beginning` is what comes first, at least a few bytes unless there are
    no more. Blanks before it are dropped (DeepSeek sends them while one waits); a byte order mark is passed over."""

    def __init__(self, pieces: Iterator[tuple[int, bytes]]) -> None:
        self._pieces = pieces
        self._held: list[tuple[int, bytes]] = []
        self.beginning = b""
        self.blanks = 0  # that were dropped

    def look(self) -> None:
        for at_us, data in self._pieces:
            if not self._held:
                size = len(data)
                data = data.lstrip(_BLANKS)
                self.blanks += size - len(data)
                if not data:
                    continue
            self._held.append((at_us, data))
            self.beginning = (self.beginning + data[:_BEGINNING]).removeprefix(BOM).lstrip(_BLANKS)[:_BEGINNING]
            if len(self.beginning) >= _ENOUGH:
                break

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        yield from self._held
        self._held = []
        yield from self._pieces


def content_type(pairs: Pairs) -> str:
    """The media type of a body by its headers, in lower case and without parameters; empty if there is none."""
    return (headers.value_of(pairs, "content-type") or "").partition(";")[0].strip().lower()

"""Reads journals: which there are, whether their worker lives, and their records from a position on.

Must not know what payloads mean, nor databases, nor an event loop. Never writes but for `Segment.remove`.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from proxy.journal.record import (
    MAX_HEAD,
    PREAMBLE_MAX,
    Damage,
    NeedData,
    Preamble,
    Record,
    UnknownVersion,
    decode,
    decode_at,
    decode_preamble,
    resynchronise,
)

BLOCK = 1024 * 1024
_NAME = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})-([0-9]{6,})\.journal")


def journals(folder: Path) -> dict[UUID, list[int]]:
    """The journals of a folder: worker → its segments in order. Oldest worker first."""
    found: dict[UUID, list[int]] = {}
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return found
    for name in names:
        match = _NAME.fullmatch(name)
        if match is not None:
            found.setdefault(UUID(match[1]), []).append(int(match[2]))
    for segments in found.values():
        segments.sort()
    return found


class Segment:
    """One file of a journal, open for reading.

    `begin` is where records start. A file whose preamble is damaged in both copies has `preamble` None: nothing in it
    can be checked. Raises OSError and UnknownVersion.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.preamble: Preamble | None = None
        self.begin = 0
        try:
            decoded = decode_preamble(os.pread(self._fd, 2 * PREAMBLE_MAX, 0))
        except (UnknownVersion, OSError):
            os.close(self._fd)
            raise
        if decoded is not None:
            self.preamble, self.begin = decoded

    def close(self) -> None:
        os.close(self._fd)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def is_written(self) -> bool:
        """Whether a living worker holds this segment."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def read(self, position: int, limit: int = 8 * BLOCK) -> Iterator[Record | Damage]:
        """Records and damage from `position` on, about `limit` bytes of them; ends before what is not whole yet."""
        if self.preamble is None:
            return
        seed = self.preamble.seed
        start = max(position, self.begin)
        stop = start + limit
        base, data = start, b""
        while start < stop:
            item: Record | Damage | NeedData | None
            if base <= start and (item := decode_at(seed, data, base, start)).__class__ is Record:
                yield item
                start = item.end
                continue
            item = decode(seed, data, base, start) if base <= start else resynchronise(seed, data, base, start, base)
            if isinstance(item, NeedData):
                origin = item.scanned
                more = os.pread(self._fd, max(item.wanted - origin, BLOCK), origin)
                if origin + len(more) <= base + len(data):
                    return
                base, data = origin, more
                continue
            if isinstance(item, Damage) and not self._confirmed(seed, item):
                # A live writer took a short write back and wrote over it while we looked: look again.
                base, data = start, b""
                continue
            yield item
            start = item.end

    def tail(self, position: int) -> Damage | None:
        """What is left behind the last whole record of a segment that nobody writes any more: a torn tail, or None."""
        size = self.size()
        if self.preamble is None:
            return Damage(0, size, "both copies of the first line are damaged") if position < size else None
        position = max(position, self.begin)
        return Damage(position, size, "torn tail") if position < size else None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _confirmed(self, seed: int, damage: Damage) -> bool:
        size = MAX_HEAD if damage.exchange is None else damage.end - damage.offset
        again = decode_at(seed, os.pread(self._fd, size, damage.offset), damage.offset, damage.offset)
        return again is None or isinstance(again, Damage)

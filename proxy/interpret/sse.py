"""Server-sent events (WHATWG HTML, 9.2.6 "interpreting an event stream"): bytes in, events out, however they are cut.

Pure; must not know JSON or any provider. Memory is bounded by the largest event, and by MAX_EVENT.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_EVENT = 64 * 2**20
"""Most bytes that one event may have; a larger one is left out, and `problem` says so."""

MAX_STRAY = 2**20
"""Most bytes that are kept of lines that are no field of an event stream."""

_BOM = b"\xef\xbb\xbf"
_IGNORED = frozenset((b"id", b"retry"))
_FIELDS = _IGNORED | {b"", b"data", b"event"}


class Event(NamedTuple):
    """A dispatched event. `data` is as it came: its UTF-8 may be broken."""

    name: str
    data: bytes


class SseParser:
    """Feed it bytes; it gives the events that they end.

    `comments`: lines that began with a colon. `stray`: lines that are no field, as they came; a body that is no event
    stream in spite of its content-type is found there. `unfinished`: an event had begun when the stream ended.
    """

    def __init__(self) -> None:
        self.comments = 0
        self.stray = bytearray()
        self.unfinished = False
        self.problem: str | None = None
        self._start: bytes | None = b""  # until it is known whether a byte order mark is there
        self._after_cr = False
        self._line: list[bytes] = []  # a line that has no end yet
        self._line_size = 0
        self._size = 0  # of the data of the event under way
        self._name = b""
        self._data: list[bytes] = []
        self._too_large = False

    @property
    def pending(self) -> bool:
        """Whether an event has begun."""
        return bool(self._line or self._data or self._name)

    def feed(self, data: bytes) -> list[Event]:
        """The events whose blank line is in these bytes."""
        if self._start is not None:
            # 1. One leading byte order mark is dropped, also when it comes in pieces.
            data = self._start + data
            if len(data) < 3 and _BOM.startswith(data):
                self._start = data
                return []
            self._start = None
            data = data.removeprefix(_BOM)
        if self._after_cr and data:
            # 2. A line ends at once at a CR; an LF right behind it belongs to it.
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        rest = lines.pop()
        events: list[Event] = []
        if lines:
            if self._line:
                self._line.append(lines[0])
                lines[0] = b"".join(self._line)
                self._line, self._line_size = [], 0
            self._take(lines, events)
        if rest:
            self._keep(rest)
        return events

    def finish(self) -> None:
        """6. The end: what has no blank line behind it is discarded."""
        self.unfinished = bool(self._line or self._data or self._name)
        line = b"".join(self._line)
        self._line = []
        if line.partition(b":")[0] not in _FIELDS:
            self._keep_stray(line)

    def _take(self, lines: list[bytes], events: list[Event]) -> None:
        for line in lines:
            # 3. and 4., the usual ones first.
            if line.startswith(b"data:"):
                self._append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                self._dispatch(events)
            elif line.startswith(b"event:"):
                self._name = line[7:] if line[6:7] == b" " else line[6:]
            elif line.startswith(b":"):
                self.comments += 1
            elif line == b"data":
                self._append(b"")
            elif line == b"event":
                self._name = b""
            elif line.partition(b":")[0] not in _IGNORED:
                self._keep_stray(line + b"\n")

    def _append(self, value: bytes) -> None:
        self._size += len(value)
        if self._size > MAX_EVENT:
            self._skip()
        else:
            self._data.append(value)

    def _dispatch(self, events: list[Event]) -> None:
        # 5. Only if there was data; otherwise everything is forgotten.
        if self._data and not self._too_large:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            name = self._name
            events.append(Event(name.decode("utf-8", "replace") if name else "message", data))
        self._data = []
        self._name = b""
        self._size = 0
        self._too_large = False

    def _keep(self, piece: bytes) -> None:
        """A piece of a line whose end has not come."""
        self._line_size += len(piece)
        if self._size + self._line_size > MAX_EVENT:
            self._skip()
            # Enough of the line stays for it to be told from a blank one.
            self._line = [(self._line or [piece])[0][:6]]
        else:
            self._line.append(piece)

    def _skip(self) -> None:
        self._too_large = True
        self._data = []
        self.problem = f"an event of more than {MAX_EVENT // 2**20} MiB was left out"

    def _keep_stray(self, line: bytes) -> None:
        if line and len(self.stray) < MAX_STRAY:
            self.stray += line[:MAX_STRAY]

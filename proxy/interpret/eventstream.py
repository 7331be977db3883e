"""The event stream of AWS (`application/vnd.amazon.eventstream`): binary messages, checked, however the bytes are cut.

The form: https://smithy.io/2.0/aws/amazon-eventstream.html. Pure; must not know what a payload says. Memory is bounded
by the largest message, and by MAX_MESSAGE.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

MAX_MESSAGE = 64 * 2**20
"""Most bytes that one message may have; the SDKs take 24 MiB."""

MAX_HEADERS = 128 * 1024

_PRELUDE = struct.Struct(">III")  # total length, length of the headers, CRC-32 of these two
_CRC = struct.Struct(">I")
_LEAST = _PRELUDE.size + _CRC.size
_WIDTHS = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # type of a header's value -> its bytes
_BYTES, _STRING = 6, 7  # these two say their length first


class Message(NamedTuple):
    """One message. `kind` is `event`, `exception` or `error`; `name` the event's or exception's type, or the error's
    code; `said` the error's message, which has no payload."""

    kind: str
    name: str
    payload: bytes
    said: str | None = None


class EventStreamParser:
    """Feed it bytes; it gives the messages that they end.

    `corrupt`: a checksum or a length was wrong, nothing after it can be trusted or is read.
    """

    def __init__(self) -> None:
        self.corrupt = False
        self.problem: str | None = None
        self._buffer = bytearray()
        self._wanted = _PRELUDE.size
        self._headers = 0
        self._head = b""
        self._named: dict[str, str] = {}

    @property
    def pending(self) -> bool:
        """Whether a message has begun."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """The messages whose last byte is in these."""
        if not self.corrupt:
            self._buffer += data
        found: list[Message] = []
        at = 0
        while len(self._buffer) - at >= self._wanted and not self.corrupt:
            if self._wanted == _PRELUDE.size:
                self._begin(at)
                continue
            with memoryview(self._buffer) as whole:
                message = self._message(whole[at : at + self._wanted])
            if message is None:
                self._stop("the checksum of a message is wrong")
            else:
                found.append(message)
                at += self._wanted  # nothing moves while there may be another one
                self._wanted = _PRELUDE.size
        del self._buffer[:at]
        return found

    def _begin(self, at: int) -> None:
        total, headers, crc = _PRELUDE.unpack_from(self._buffer, at)
        if zlib.crc32(memoryview(self._buffer)[at : at + 8]) != crc:
            self._stop("the checksum of a message's beginning is wrong")
        elif total > MAX_MESSAGE or headers > MAX_HEADERS or total < headers + _LEAST:
            self._stop(f"a message says that it has {total} bytes and {headers} of headers")
        else:
            self._wanted, self._headers = total, headers

    def _message(self, raw: memoryview) -> Message | None:
        behind = _PRELUDE.size + self._headers
        with raw, raw[: -_CRC.size] as body:
            intact = zlib.crc32(body) == int.from_bytes(raw[-_CRC.size :], "big")
            head = bytes(body[_PRELUDE.size : behind])
            payload = bytes(body[behind:]) if intact else b""
        if not intact:
            return None
        if head != self._head:  # most messages of a stream have the same
            self._head, self._named = head, _headers(head)
        headers = self._named
        kind = headers.get(":message-type", "event")
        name = headers.get({"exception": ":exception-type", "error": ":error-code"}.get(kind, ":event-type"), "")
        return Message(kind, name, payload, headers.get(":error-message"))

    def _stop(self, why: str) -> None:
        self.corrupt = True
        self._buffer.clear()
        self.problem = f"the event stream is corrupt: {why}; what follows was not read"


def _headers(data: bytes) -> dict[str, str]:
    """The headers whose values are strings; what follows a broken one is left out."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        begin = at + 1
        at = begin + data[at]
        if at >= len(data):
            break
        name, kind = data[begin:at].decode("utf-8", "replace"), data[at]
        at += 1
        if kind in (_BYTES, _STRING):
            size = int.from_bytes(data[at : at + 2], "big")
            at += 2
            if kind == _STRING:
                found[name] = data[at : at + size].decode("utf-8", "replace")
        elif kind in _WIDTHS:
            size = _WIDTHS[kind]
        else:
            break
        at += size
    return found

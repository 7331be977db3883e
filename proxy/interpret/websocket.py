"""WebSocket frames (RFC 6455) out of one direction of a recorded tunnel, and messages out of frames, inflated.

Pure; must not know what a message says. What is broken ends the reading with a sentence; memory is bounded by the
largest message, and by MAX_MESSAGE.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

MAX_MESSAGE = 64 * 2**20
"""Most bytes that one message may have, inflated; a larger one is left out."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE = 0, 1, 2, 8
_CONTROL = 8  # opcodes from here on are of frames that may stand between the fragments of a message
_TAIL = b"\0\0\xff\xff"  # what a deflated message lacks (RFC 7692, 7.2.2)
_BLOCK = 64 * 1024  # unmasked at a time; a multiple of the mask's four bytes
_KEEPS_NOTHING = {True: "client_no_context_takeover", False: "server_no_context_takeover"}


class Message(NamedTuple):
    """A message, or (`close` is not None) the end of one direction: its status code, 1005 without one."""

    data: bytes
    binary: bool = False
    close: int | None = None


def frame(data: bytes, *, binary: bool = False) -> bytes:
    """A message as one frame, unmasked, for what is known by its messages only."""
    size = len(data)
    kind = 0x80 | (_BINARY if binary else _TEXT)
    if size < 126:
        return bytes((kind, size)) + data
    if size < 2**16:
        return bytes((kind, 126)) + size.to_bytes(2, "big") + data
    return bytes((kind, 127)) + size.to_bytes(8, "big") + data


class FrameParser:
    """One direction of a tunnel. `extensions`: the answer's Sec-WebSocket-Extensions; `client`: whose bytes these are.

    `problem` says why reading stopped, or what was left out.
    """

    def __init__(self, extensions: str | None = None, *, client: bool = False) -> None:
        self.problem: str | None = None
        deflated = _deflate_parameters(extensions)
        self._deflated = deflated is not None
        self._anew = deflated is not None and _KEEPS_NOTHING[client] in deflated
        self._inflate = zlib.decompressobj(-15)
        self._broken = False
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._size = 0
        self._kind = _TEXT
        self._packed = False  # the message under way is deflated

    @property
    def pending(self) -> bool:
        """Whether a message has begun."""
        return bool(self._buffer or self._parts)

    def feed(self, data: bytes) -> list[Message]:
        """The messages whose last byte is in these."""
        found: list[Message] = []
        if not self._broken:
            self._buffer += data
        at = 0
        while (frame := self._frame(at)) is not None:
            at, first, payload = frame
            message = self._take(first, payload)
            if message is not None:
                found.append(message)
        del self._buffer[:at]
        return found

    def _frame(self, at: int) -> tuple[int, int, bytes] | None:
        """Where the frame at `at` ends, its first byte and its payload; None while some of it has not come."""
        buffer = self._buffer
        if len(buffer) - at < 2 or self._broken:
            return None
        first, second = buffer[at], buffer[at + 1]
        size, begin = second & 0x7F, at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < begin + width:
                return None
            size = int.from_bytes(buffer[begin : begin + width], "big")
            begin += width
        if size > MAX_MESSAGE:
            self._stop(f"a WebSocket frame says that it has {size} bytes")
            return None
        mask = b""
        if second & 0x80:
            mask = bytes(buffer[begin : begin + 4])
            begin += 4
        if len(buffer) < begin + size:
            return None
        if mask:
            _unmask(buffer, begin, begin + size, mask)
        with memoryview(buffer) as whole:
            return begin + size, first, bytes(whole[begin : begin + size])

    def _take(self, first: int, payload: bytes) -> Message | None:
        kind, final = first & 0x0F, bool(first & 0x80)
        if kind >= _CONTROL:
            if kind != _CLOSE:
                return None
            return Message(payload[2:], close=int.from_bytes(payload[:2], "big") if len(payload) > 1 else 1005)
        if kind not in (_CONTINUATION, _TEXT, _BINARY):
            self._stop("a WebSocket frame is of no known kind")
            return None
        if kind != _CONTINUATION:
            self._parts, self._size, self._kind = [], 0, kind
            self._packed = bool(first & 0x40) and self._deflated
        self._size += len(payload)
        if self._size <= MAX_MESSAGE:
            self._parts.append(payload)
        else:
            self._parts.clear()
        return self._whole() if final else None

    def _whole(self) -> Message | None:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if self._size > MAX_MESSAGE:
            self._leave_out()
            if self._packed:
                self._broken = True  # the following ones refer to what is in it
            return None
        if self._packed:
            unpacked = self._unpacked(data)
            if unpacked is None:
                return None
            data = unpacked
        return Message(data, self._kind == _BINARY)

    def _unpacked(self, data: bytes) -> bytes | None:
        if self._anew or self._inflate.eof:
            self._inflate = zlib.decompressobj(-15)
        try:
            found = self._inflate.decompress(data + _TAIL, MAX_MESSAGE)
        except zlib.error:
            self._stop("a deflated WebSocket message is broken")
            return None
        if self._inflate.unconsumed_tail:
            self._leave_out()
            self._broken = True
            return None
        return found

    def _leave_out(self) -> None:
        self.problem = f"a WebSocket message of more than {MAX_MESSAGE // 2**20} MiB was left out"

    def _stop(self, why: str) -> None:
        self._broken = True
        self.problem = f"{why}; what follows was not read"


def _unmask(buffer: bytearray, start: int, end: int, mask: bytes) -> None:
    """In place, some of it at a time: messages may be large."""
    for at in range(start, end, _BLOCK):
        size = min(_BLOCK, end - at)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        buffer[at : at + size] = (int.from_bytes(buffer[at : at + size], "big") ^ key).to_bytes(size, "big")


def _deflate_parameters(extensions: str | None) -> set[str] | None:
    """The parameters of permessage-deflate, None where it was not agreed on."""
    for extension in (extensions or "").split(","):
        name, *parameters = (each.strip().lower() for each in extension.split(";"))
        if name == "permessage-deflate":
            return {re.split(r"\s*=", each)[0] for each in parameters}
    return None

"""WebSocket (RFC 6455) on bare sockets, as a client or as a server: the handshake, and frames as a test wants them.

Nothing happens by itself: no ping is answered, no close returned, no text checked. Must not know the project's own
code.
"""

from __future__ import annotations

import base64
import hashlib
import random
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from tests.support.rawhttp import Message, Peer

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FLUSHED = b"\x00\x00\xff\xff"  # what a sync flush ends with, and permessage-deflate leaves out (RFC 7692, 7.2.1)


class Op(IntEnum):
    CONTINUED = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Frame:
    """`data` is never masked, `masked` tells how it stood on the wire; `packed` is RSV1: permessage-deflate."""

    op: Op
    data: bytes = b""
    last: bool = True
    packed: bool = False
    masked: bool = False

    def encode(self, mask: bytes = b"\0\0\0\0") -> bytes:
        first = self.op | 0x80 * self.last | 0x40 * self.packed
        size, secret = len(self.data), 0x80 * self.masked
        if size < 126:
            head = struct.pack("!BB", first, secret | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", first, secret | 126, size)
        else:
            head = struct.pack("!BBQ", first, secret | 127, size)
        return head + (mask + _masked(self.data, mask) if self.masked else self.data)


class WebSocket:
    """One side of an open connection. A client masks what it sends, with masks that are the same on every run.

    `sent` is every byte that was sent as frames.
    """

    def __init__(self, peer: Peer, *, client: bool) -> None:
        self.peer = peer
        self.sent = bytearray()
        self._client = client
        self._random = random.Random(7)

    def send(self, op: Op, data: bytes = b"", *, last: bool = True, packed: bool = False) -> Self:
        return self.send_raw(self.frame(op, data, last=last, packed=packed))

    def send_raw(self, *data: bytes) -> Self:
        """Whatever it is."""
        self.peer.send(*data)
        self.sent += b"".join(data)
        return self

    def frame(self, op: Op, data: bytes = b"", *, last: bool = True, packed: bool = False) -> bytes:
        """As this side would send it."""
        return Frame(op, data, last, packed, masked=self._client).encode(self._random.randbytes(4))

    def read(self, op: Op | None = None) -> Frame:
        """The next frame, which must be of this kind, and masked if a client sent it. Raises Ended and TooLate."""
        first, second = self.peer.read_exactly(2)
        size, masked = second & 0x7F, second >= 0x80
        if size == 126:
            (size,) = struct.unpack("!H", self.peer.read_exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.peer.read_exactly(8))
        mask = self.peer.read_exactly(4) if masked else b""
        data = self.peer.read_exactly(size)
        found = Frame(
            Op(first & 0xF), _masked(data, mask) if masked else data, first >= 0x80, bool(first & 0x40), masked
        )
        assert op in (None, found.op), found
        assert masked is not self._client
        return found

    def close(self, code: int = 1000, reason: str = "") -> Self:
        return self.send(Op.CLOSE, struct.pack("!H", code) + reason.encode())


# The handshake


def handshake(target: bytes, *headers: bytes, host: bytes = b"wiretape.test") -> bytes:
    """A client's request for a WebSocket; `headers` are whole lines."""
    lines = [
        b"GET %b HTTP/1.1" % target,
        b"Host: " + host,
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: 13",
        *headers,
    ]
    return b"\r\n".join([*lines, b"", b""])


def switching(*headers: bytes, protocol: bytes = b"websocket", key: bytes | None = KEY) -> bytes:
    """A server's response that switches protocols; with a `key` it proves to have understood that."""
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: " + protocol, b"Connection: Upgrade", *headers]
    if key is not None:
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - the protocol wants it
        lines.append(b"Sec-WebSocket-Accept: " + accept)
    return b"\r\n".join([*lines, b"", b""])


def opened(peer: Peer, target: bytes, *headers: bytes) -> tuple[WebSocket, Message]:
    """A client's side, and the response that opened it."""
    answer = peer.send(handshake(target, *headers)).read_message()
    assert answer.status == 101, answer
    return WebSocket(peer, client=True), answer


def accepted(peer: Peer, *headers: bytes) -> tuple[WebSocket, Message]:
    """A server's side, and the request that it accepted."""
    asked = peer.read_message()
    key = asked.one("sec-websocket-key")
    assert key is not None, asked
    peer.send(switching(*headers, key=key))
    return WebSocket(peer, client=False), asked


# Bytes


def deflated(data: bytes) -> bytes:
    """As permessage-deflate packs a message that stands for itself."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_FLUSHED)


def inflated(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(data + _FLUSHED)


def _masked(data: bytes, mask: bytes) -> bytes:
    """Masking, and taking a mask off, are the same."""
    repeated = mask * (len(data) // 4) + mask[: len(data) % 4]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(data), "big")

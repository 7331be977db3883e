"""Proxies as they stand on the way to an upstream: one that is asked with CONNECT, one that speaks SOCKS5.

Must not know the project's own code.
"""

from __future__ import annotations

import base64
import select
import socket
import struct
from typing import NamedTuple

from tests.support.rawhttp import Peer, RawUpstream

_BLOCK = 65536


class Asked(NamedTuple):
    """What a proxy was asked for: a host as it was written, a port, and `user:password`."""

    host: str
    port: int
    credentials: str | None


class ConnectProxy(RawUpstream):
    """Lets through whoever has the `credentials` (`user:password`), to `hosts` whatever names they are asked by.

    `greeting` is what it says once it is connected.
    """

    def __init__(
        self, credentials: str | None = None, greeting: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    ) -> None:
        super().__init__(self._serve)
        self.asked: list[Asked] = []
        self.heads: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
        self._credentials = credentials
        self._greeting = greeting

    def _serve(self, peer: Peer) -> None:
        start, headers = peer.read_head()
        self.heads.append((start, headers))
        method, target, _ = start.decode().split(" ")
        assert method == "CONNECT"
        host, _, port = target.rpartition(":")
        given = dict(headers).get(b"Proxy-Authorization")
        shown = None if given is None else base64.b64decode(given.removeprefix(b"Basic ")).decode()
        self.asked.append(Asked(host.strip("[]"), int(port), shown))
        if shown != self._credentials:
            peer.send(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n"
                b"Content-Length: 4\r\n\r\nno!\n"
            )
            return
        try:
            onward = socket.create_connection(("127.0.0.1", int(port)), timeout=10)
        except OSError:
            peer.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        peer.send_bytewise(self._greeting)
        pump(peer._sock, onward)


class SocksProxy(RawUpstream):
    """The same in SOCKS5 (RFC 1928, 1929). `reply` is the code it answers instead of connecting."""

    def __init__(self, credentials: str | None = None, reply: int | None = None) -> None:
        super().__init__(self._serve)
        self.asked: list[Asked] = []
        self._credentials = credentials
        self._reply = reply

    def _serve(self, peer: Peer) -> None:
        version, count = peer.read_exactly(2)
        assert version == 5
        methods = peer.read_exactly(count)
        wanted = 0 if self._credentials is None else 2
        if wanted not in methods:
            peer.send(b"\x05\xff")
            return
        peer.send(bytes([5, wanted]))
        shown = self._login(peer) if wanted else None
        if shown != self._credentials:
            return
        host, port = self._target(peer)
        self.asked.append(Asked(host, port, shown))
        if self._reply is not None:
            peer.send(bytes([5, self._reply, 0, 1]) + bytes(6))
            return
        onward = socket.create_connection(("127.0.0.1", port), timeout=10)
        peer.send_bytewise(b"\x05\x00\x00\x01\x7f\x00\x00\x01" + struct.pack("!H", port))
        pump(peer._sock, onward)

    def _login(self, peer: Peer) -> str:
        assert peer.read_exactly(1) == b"\x01"
        user = peer.read_exactly(peer.read_exactly(1)[0])
        password = peer.read_exactly(peer.read_exactly(1)[0])
        shown = f"{user.decode()}:{password.decode()}"
        peer.send(b"\x01\x00" if shown == self._credentials else b"\x01\x01")
        return shown

    def _target(self, peer: Peer) -> tuple[str, int]:
        assert peer.read_exactly(3) == b"\x05\x01\x00"
        kind = peer.read_exactly(1)[0]
        if kind == 3:
            host = peer.read_exactly(peer.read_exactly(1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, peer.read_exactly(size))
        return host, int(struct.unpack("!H", peer.read_exactly(2))[0])


def pump(one: socket.socket, other: socket.socket) -> None:
    """Bytes both ways until both directions have ended, or one breaks: then both break."""
    ways = {one: other, other: one}
    open_ways = set(ways)
    with other:
        for each in ways:
            each.settimeout(30)
        try:
            while open_ways:
                for source in select.select(list(open_ways), [], [])[0]:
                    data = source.recv(_BLOCK)
                    if data:
                        ways[source].sendall(data)
                    else:
                        open_ways.discard(source)
                        ways[source].shutdown(socket.SHUT_WR)
        except OSError:
            for each in ways:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

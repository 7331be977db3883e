"""Connections to one upstream: opened when needed, kept when idle, last in first out.

Must not know journal, providers, settings.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from ipaddress import ip_address

from proxy.wire.client import UpstreamConnection
from proxy.wire.interface import Timeouts, Upload, UpstreamError, UpstreamExchange, UpstreamListener, UpstreamRequest
from proxy.wire.through import connect, reason
from proxy.wire.tls import explained
from proxy.wire.via import Via

MAX_IDLE = 256
IDLE_SECONDS = 60.0


class PooledUpstream:
    """The upstream at `host`:`port`; implements interface.Upstream. Never retries anything by itself.

    `local`: no connection leaves this machine, whatever the host's name is said to mean. `via`: all go through it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        timeouts: Timeouts,
        *,
        local: bool = False,
        via: Via | None = None,
    ) -> None:
        self._local = local
        self._via = via
        self._host = host
        self._port = port
        self._tls = tls
        self._timeouts = timeouts
        self._idle: list[tuple[float, UpstreamConnection]] = []
        self._sweep: asyncio.TimerHandle | None = None

    def start(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange | None:
        while self._idle:
            _, connection = self._idle.pop()
            if connection.is_quiet():
                connection.begin(request, listener, upload)
                return connection
            connection.close()
        return None

    async def connect(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange:
        connection = await self._open()
        connection.begin(request, listener, upload)
        return connection

    def close(self) -> None:
        idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _release(self, connection: UpstreamConnection) -> None:
        if len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        self._idle.append((time.monotonic(), connection))
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(IDLE_SECONDS / 4, self._drop_old)

    def _drop_old(self) -> None:
        oldest = time.monotonic() - IDLE_SECONDS
        keep = [item for item in self._idle if item[0] >= oldest and item[1].is_quiet()]
        for item in self._idle:
            if item not in keep:
                item[1].close()
        self._idle = keep
        self._sweep = None
        if keep:
            self._sweep = asyncio.get_running_loop().call_later(IDLE_SECONDS / 4, self._drop_old)

    async def _open(self) -> UpstreamConnection:
        where = f"{self._host}:{self._port}"
        limit = self._timeouts.connect
        try:
            async with asyncio.timeout(limit):
                if self._via is None:
                    return await self._open_any(where)
                return await self._open_through(self._via, where)
        except TimeoutError:
            through = "" if self._via is None else f" through the proxy {self._via}"
            raise UpstreamError("connect_timeout", f"no connection to {where}{through} within {limit:g} s") from None

    async def _open_through(self, via: Via, where: str) -> UpstreamConnection:
        sock = await connect(via, self._host, self._port)
        try:
            return await self._speak(sock)
        except ssl.SSLError as error:
            raise _no_tls(error, where) from None
        except OSError as error:
            text = f"the connection to {where} through the proxy {via} broke: {reason(error)}"
            raise UpstreamError("connect", text) from None

    async def _open_any(self, where: str) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # the latter for what can be no host name at all
            raise UpstreamError("connect", f"cannot find the address of {self._host}: {reason(error)}") from None
        failure = UpstreamError("connect", f"cannot connect to {where}: it has no address")
        for family, kind, protocol, _, address in addresses:
            if self._local and not ip_address(str(address[0])).is_loopback:
                failure = UpstreamError("connect", f"{where} is not on this machine, and nothing else may be asked")
                continue
            try:
                return await self._open_one(socket.socket(family, kind, protocol), address)
            except ssl.SSLError as error:
                raise _no_tls(error, where) from None
            except OSError as error:  # also for want of descriptors or of an address family
                failure = UpstreamError("connect", f"cannot connect to {where}: {reason(error)}")
        raise failure

    async def _open_one(
        self, sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
    ) -> UpstreamConnection:
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return await self._speak(sock)

    async def _speak(self, sock: socket.socket) -> UpstreamConnection:
        """Over a socket object of our own, so that it can be asked and drained past the transport."""
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(loop, sock, self._timeouts, self._release),
                sock=sock,
                ssl=self._tls,
                server_hostname=self._host if self._tls is not None else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection


def _no_tls(error: ssl.SSLError, where: str) -> UpstreamError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UpstreamError("tls", f"the certificate of {where} is not valid: {error.verify_message}")
    return UpstreamError("tls", f"no TLS connection to {where}: {explained(error)}")

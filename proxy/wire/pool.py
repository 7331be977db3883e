"""Connections to one upstream: opened when needed, kept when idle, last in first out.

Must not know journal, providers, settings.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from ipaddress import ip_address

from proxy.wire.client import UpstreamConnection
from proxy.wire.interface import Timeouts, Upload, UpstreamError, UpstreamExchange, UpstreamListener, UpstreamRequest
from proxy.wire.tls import explained

MAX_IDLE = 256
IDLE_SECONDS = 60.0


class PooledUpstream:
    """The upstream at `host`:`port`; implements interface.Upstream. Never retries anything by itself.

    `local`: no connection leaves this machine, whatever the host's name is said to mean.
    """

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None, timeouts: Timeouts, *, local: bool = False
    ) -> None:
        self._local = local
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
        try:
            async with asyncio.timeout(self._timeouts.connect):
                return await self._open_any(where)
        except TimeoutError:
            raise UpstreamError(
                "connect_timeout", f"no connection to {where} within {self._timeouts.connect:g} s"
            ) from None

    async def _open_any(self, where: str) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # the latter for what can be no host name at all
            raise UpstreamError("connect", f"cannot find the address of {self._host}: {_reason(error)}") from None
        failure = UpstreamError("connect", f"cannot connect to {where}: it has no address")
        for family, kind, protocol, _, address in addresses:
            if self._local and not ip_address(str(address[0])).is_loopback:
                failure = UpstreamError("connect", f"{where} is not on this machine, and nothing else may be asked")
                continue
            try:
                return await self._open_one(socket.socket(family, kind, protocol), address)
            except ssl.SSLCertVerificationError as error:
                raise UpstreamError("tls", f"the certificate of {where} is not valid: {error.verify_message}") from None
            except ssl.SSLError as error:
                raise UpstreamError("tls", f"no TLS connection to {where}: {explained(error)}") from None
            except OSError as error:  # also for want of descriptors or of an address family
                failure = UpstreamError("connect", f"cannot connect to {where}: {_reason(error)}")
        raise failure

    async def _open_one(
        self, sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
    ) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        try:
            # A socket object of our own, so that it can be asked and drained past the transport.
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
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


def _reason(error: OSError | UnicodeError) -> str:
    """In the system's words; the event loops put addresses and tuples into theirs."""
    if isinstance(error, UnicodeError):
        return "that is no host name"
    number = error.errno or 0  # address lookups count theirs from -1 down
    return os.strerror(number) if number > 0 else error.strerror or str(error)

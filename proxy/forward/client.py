"""The client of one exchange: the wire's own side where it serves, else made from plain `receive` and `send`, with less
fidelity (no 1xx, no trailers, no tunnels, reasons and names as that server likes them).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.wire.interface import ClientListener, ClientRequest, ClientSide, RawHeaders, Upload, UpstreamResponse
from proxy.wire.request import frame
from proxy.wire.server_exchange import EXTENSION, ServerExchange

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = dict[str, Any]

HIGH_WATER = 256 * 1024  # bytes waiting for `send` above which the response is held back
LOW_WATER = 64 * 1024


class Broken(Exception):
    """Raised out of the application, where nothing else lets it break a response."""


def client_of(scope: Scope, receive: Receive, send: Send) -> ClientSide:
    """Raises wire.request.BadFraming where another server let a head pass that ours would not."""
    side = (scope.get("extensions") or {}).get(EXTENSION)
    return side if isinstance(side, ServerExchange) else AsgiClient(scope, receive, send)


class AsgiClient:
    """Implements wire.interface.ClientSide with two pumps: one reads the request, one writes the response.

    `finish` waits for the second, when the exchange is over.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"]
        path = scope.get("raw_path") or scope["path"].encode()
        address = scope.get("client")
        self.request = ClientRequest(
            method=scope["method"].encode(),
            target=path + b"?" + query if query else path,
            version=str(scope["http_version"]),
            headers=list(scope["headers"]),
        )
        frame(self.request)
        self.request.upgrade = self.request.takes_trailers = False
        self.address = str(address[0]) if address else ""
        self.started = False
        self._receive = receive
        self._send = send
        self._listener: ClientListener | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._messages: deque[dict[str, Any]] = deque()
        self._waiting = 0  # bytes in them
        self._response_paused = False
        self._out: list[dict[str, Any]] = []  # not flushed
        self._ended = False
        self._aborted = False
        self._lost = False
        self._may_read = asyncio.Event()
        self._may_write = asyncio.Event()

    def attach(self, listener: ClientListener) -> Upload:
        self._listener = listener
        self._may_read.set()
        loop = asyncio.get_running_loop()
        complete = not self.request.chunked and not self.request.length
        self._reader = loop.create_task(self._read(listener, complete=complete))
        self._writer = loop.create_task(self._write(listener))
        return Upload(complete=complete)

    def interim(self, response: UpstreamResponse) -> None:
        pass

    def tunnel(self, response: UpstreamResponse) -> None:
        raise AssertionError("no upgrade is asked for")

    def start(self, response: UpstreamResponse, trailers_follow: bool = False) -> None:
        headers = [
            header for header in response.headers if header[0].lower() not in (b"transfer-encoding", b"connection")
        ]
        self._out.append({"type": "http.response.start", "status": response.status, "headers": headers})

    def write(self, data: bytes) -> None:
        self._out.append({"type": "http.response.body", "body": data, "more_body": True})

    def send(self, data: bytes) -> None:
        self.write(data)
        self.flush()

    def end(self, trailers: RawHeaders) -> None:
        self._out.append({"type": "http.response.body", "body": b"", "more_body": False})
        self._ended = True

    def flush(self) -> None:
        for message in self._out:
            self.started = True
            self._waiting += len(message.get("body", b""))
            self._messages.append(message)
        self._out.clear()
        self._may_write.set()
        if self._waiting > HIGH_WATER and not self._response_paused and self._listener is not None:
            self._response_paused = True
            self._listener.pause_response()

    def discard(self) -> None:
        self._out.clear()
        self._ended = False

    def abort(self, *, reset: bool = False) -> None:
        # ASGI has no word for a reset.
        self._aborted = True
        self._may_write.set()

    def pause_upload(self) -> None:
        self._may_read.clear()

    def resume_upload(self) -> None:
        self._may_read.set()

    async def finish(self) -> None:
        """Until the response is sent. Raises Broken where it was broken off."""
        if self._reader is not None:
            self._reader.cancel()
        if self._writer is not None:
            await self._writer
        if self._aborted:
            raise Broken

    async def _read(self, listener: ClientListener, *, complete: bool) -> None:
        while True:
            await self._may_read.wait()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._aborted = self._ended = self._lost = True
                self._may_write.set()
                listener.on_lost(reset=False)
                return
            if complete:
                continue
            if message.get("body"):
                listener.on_body(message["body"])
            if not message.get("more_body"):
                complete = True
                listener.on_request_end([])

    async def _write(self, listener: ClientListener) -> None:
        while True:
            while self._messages and not self._lost:
                message = self._messages.popleft()
                await self._send(message)
                self._waiting -= len(message.get("body", b""))
                if self._response_paused and self._waiting < LOW_WATER:
                    self._response_paused = False
                    listener.resume_response()
            if self._aborted or (self._ended and not self._out):
                return
            self._may_write.clear()
            await self._may_write.wait()

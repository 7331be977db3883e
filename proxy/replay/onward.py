"""What is not recorded yet, sent on through the data port, which records it; the answer goes to the client as it comes.

Each request brings a pass, or the data port would ask playback again. Must not know why there is no recording.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from proxy import passes, upload_urls
from proxy.replay.leading import way_of
from proxy.upload_urls import WayBack
from proxy.wire.interface import (
    ClientSide,
    RawHeaders,
    Timeouts,
    Upload,
    UpstreamError,
    UpstreamExchange,
    UpstreamRequest,
    UpstreamResponse,
)
from proxy.wire.pool import PooledUpstream
from proxy.wire.request import encode_head
from proxy.wire.tls import own_port_context

ID_HEADER, RECORDED = b"x-wiretape-exchange", b"x-wiretape-recorded"
"""The header by which the data port names the exchange, and the one by which a client is told that it is a new one."""

_HOP = frozenset((b"connection", b"keep-alive"))
_HOST = b"127.0.0.1"  # without the port, which is another each time: the record is to be compared


class DataPort:
    """The data port at an address, of a home, with TLS where it has a `cert`. To be used by one event loop.

    Raises UsageError for a certificate that is none.
    """

    def __init__(self, address: tuple[str, int], home: Path, cert: Path | None = None) -> None:
        self._home = home
        self._named = upload_urls.address("http" if cert is None else "https", _HOST.decode())
        self._pool = PooledUpstream(*address, None if cert is None else own_port_context(cert), Timeouts())
        passes.sweep(home)

    def send(
        self, client: ClientSide, upload: Upload, recorded: Callable[[UUID], None], over: Callable[[str | None], None]
    ) -> Sending:
        """A client's request, to be sent on by `play`. `recorded` is told the exchange that it has become once its
        answer is whole; `over` the end: a problem where no answer has begun.

        Raises OSError where no pass can be written.
        """
        asked = client.request
        headers = [(name, _HOST if name.lower() == b"host" else value) for name, value in asked.headers]
        headers = [header for header in headers if header[0].lower() != passes.HEADER]
        headers.append((passes.HEADER, passes.issue(self._home)))
        head = encode_head(asked.method, asked.target, headers)
        request = UpstreamRequest(asked.method, asked.target, head, asked.chunked, asked.upgrade)
        sending = Sending(self._pool, request, upload, client, recorded, over)
        sending.way = way_of(asked, self._named)
        return sending

    def close(self) -> None:
        """Close what waits for another request."""
        self._pool.close()


class Sending:
    """One request on its way: the wire's UpstreamListener, and a visit's Answering."""

    def __init__(
        self,
        pool: PooledUpstream,
        request: UpstreamRequest,
        upload: Upload,
        client: ClientSide,
        recorded: Callable[[UUID], None],
        over: Callable[[str | None], None],
    ) -> None:
        self._pool = pool
        self._request = request
        self._upload = upload
        self._client: ClientSide | None = client  # None: it left
        self._recorded = recorded
        self._tell_over = over
        self._upstream: UpstreamExchange | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._paused = self._over = False
        self._tunnel = self._client_silent = False
        self._ended = self._end_passed = False  # of the data port's side
        self._trailers: RawHeaders = []
        self._exchange: UUID | None = None
        self.way: WayBack | None = None  # of what the data port answers with, and would lead past playback

    def play(self) -> None:
        """Begin."""
        self._upstream = self._pool.start(self._request, self, self._upload)
        if self._upstream is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            upstream = await self._pool.connect(self._request, self, self._upload)
        except UpstreamError as error:
            self.on_broken(error)
            return
        if self._over:
            upstream.abort()
            return
        self._upstream = upstream
        if self._paused:
            upstream.pause()

    # The client's side

    def said(self, data: bytes) -> None:
        """Bytes of the client through a tunnel."""
        if self._upstream is not None and self._tunnel:
            self._upstream.write(data)

    def silent(self) -> None:
        """The client says no more through a tunnel."""
        if self._upstream is not None and self._tunnel:
            self._client_silent = True
            self._upstream.end([])
            if self._ended:
                self._finish()

    def pause(self) -> None:
        """The client is slower."""
        self._paused = True
        if self._upstream is not None and not self._ended:
            self._upstream.pause()

    def resume(self) -> None:
        self._paused = False
        if self._upstream is not None and not self._ended:
            self._upstream.resume()
        elif self._ended:
            self.flush()

    def stop(self) -> None:
        """The client is gone. An answer is read to its end all the same: what is cut short could not be played."""
        if self._over or self._client is None:
            return
        self._client = None
        if self._ended or self._tunnel or self._upstream is None:
            if self._connecting is not None:
                self._connecting.cancel()
            if self._upstream is not None and not self._ended:
                self._upstream.abort()
            self._finish()
        elif self._paused:
            self._paused = False
            self._upstream.resume()

    # The data port's side

    def on_interim(self, response: UpstreamResponse) -> None:
        client = self._client
        if client is not None and (response.status != 100 or not client.request.awaits_continue):  # ours to say
            client.interim(response)

    def on_head(self, response: UpstreamResponse) -> None:
        passed = self._passed(response)
        if self._client is not None:
            self._client.start(passed, self._client.request.takes_trailers)

    def on_upgraded(self, response: UpstreamResponse) -> None:
        self._tunnel = True
        passed = self._passed(response, hop=True)
        if self._client is not None:
            self._client.tunnel(passed)

    def on_chunk(self, data: bytes) -> None:
        if self._client is not None:
            self._client.write(data)

    def on_data(self, data: bytes) -> None:
        if self._client is not None:
            self._client.send(data)

    def on_end(self, trailers: RawHeaders) -> None:
        self._ended = True
        self._trailers = trailers

    def on_broken(self, error: UpstreamError) -> None:
        if self._over:
            return
        self._ended = True
        if self._client is not None and not self._client.started:
            self._finish(str(error))
            return
        if self._client is not None:
            self._client.flush()
            self._client.abort()
        self._finish()

    def flush(self) -> None:
        if self._over:
            return
        if self._client is None:
            if self._ended:
                self._finish()
            return
        if self._ended and not self._paused and not self._end_passed:
            self._end_passed = True
            self._client.end(self._trailers)
        self._client.flush()
        if self._end_passed and (self._client_silent or not self._tunnel):
            self._finish()

    def pause_upload(self) -> None:
        if self._client is not None:
            self._client.pause_upload()

    def resume_upload(self) -> None:
        if self._client is not None:
            self._client.resume_upload()

    def _passed(self, response: UpstreamResponse, *, hop: bool = False) -> UpstreamResponse:
        """The head as the client gets it; the exchange is told of under another name, since a data port in front of
        playback has one of its own to tell."""
        named = [value for name, value in response.headers if name.lower() == ID_HEADER]
        with suppress(ValueError):
            self._exchange = UUID(named[-1].decode("latin-1")) if named else None
        headers = [
            (RECORDED if name.lower() == ID_HEADER else name, value)
            for name, value in response.headers
            if hop or name.lower() not in _HOP
        ]
        if self.way is not None:
            self.way.turn(response.status, headers)
        return UpstreamResponse(response.status, response.reason, headers, response.bodiless)

    def _finish(self, problem: str | None = None) -> None:
        self._over = True
        if self._exchange is not None:
            self._recorded(self._exchange)
        self._tell_over(problem)

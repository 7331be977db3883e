"""Upstreams over HTTP/2, by httpx's transport: as much of an exchange as that carries. docs/network.md says what not.

One exchange at a time on a connection: to give one up is to close its connection, which an upstream cannot overlook.
Must not know journal, providers, settings.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx

from proxy.wire.alarm import Alarm
from proxy.wire.client import HIGH_WATER, LOW_WATER
from proxy.wire.interface import (
    RawHeaders,
    Timeouts,
    Upload,
    UpstreamError,
    UpstreamExchange,
    UpstreamListener,
    UpstreamRequest,
    UpstreamResponse,
)
from proxy.wire.pool import PooledUpstream
from proxy.wire.tls import explained

MAX_IDLE = 64
IDLE_SECONDS = 60.0
# RFC 9113, 8.2.2: they have no place in HTTP/2.
_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"te", b"trailer"))


class Http2Upstream:
    """The upstream at `host`:`port`; implements interface.Upstream.

    What HTTP/2 has no words for, or the transport does not, goes to `other`, over HTTP/1.1: upgrades, and requests that
    wait for a 100. `tls` is for this one alone: what protocols it offers is changed.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext, timeouts: Timeouts, other: PooledUpstream) -> None:
        self._address = httpx.URL(scheme="https", host=host, port=port)
        self._tls = tls
        self._timeouts = timeouts
        self._other = other
        self._idle: list[tuple[float, httpx.AsyncHTTPTransport]] = []
        self._sweep: asyncio.TimerHandle | None = None
        self.closing: set[asyncio.Task[None]] = set()

    def start(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange | None:
        if _is_for_the_other(request):
            return self._other.start(request, listener, upload)
        transport = self._idle.pop()[1] if self._idle else self._transport()
        return _Exchange(self, transport, self._made(request), listener, upload, self._timeouts)

    async def connect(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange:
        if _is_for_the_other(request):
            return await self._other.connect(request, listener, upload)
        return _Exchange(self, self._transport(), self._made(request), listener, upload, self._timeouts)

    def close(self) -> None:
        idle, self._idle = self._idle, []
        for _, each in idle:
            self.drop(each)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._other.close()

    def keep(self, transport: httpx.AsyncHTTPTransport) -> None:
        """An exchange is complete: its connection may carry another."""
        if len(self._idle) >= MAX_IDLE:
            self.drop(transport)
            return
        loop = asyncio.get_running_loop()
        self._idle.append((loop.time(), transport))
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS, self._drop_old)

    def drop(self, transport: httpx.AsyncHTTPTransport) -> None:
        """Close its connection."""
        task = asyncio.get_running_loop().create_task(transport.aclose())
        self.closing.add(task)
        task.add_done_callback(self.closing.discard)

    def _drop_old(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_SECONDS
        for since, each in self._idle:
            if since <= oldest:
                self.drop(each)
        self._idle = [item for item in self._idle if item[0] > oldest]
        self._sweep = loop.call_later(IDLE_SECONDS, self._drop_old) if self._idle else None

    def _transport(self) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=1, keepalive_expiry=IDLE_SECONDS)
        return httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, http1=False, http2=True, limits=limits)

    def _made(self, request: UpstreamRequest) -> httpx.Request:
        lines = [line.partition(b": ") for line in request.head.split(b"\r\n")[1:] if line]
        headers = [(name, value) for name, _, value in lines if name.lower() not in _CONNECTION]
        timeout = {"connect": self._timeouts.connect, "read": None, "write": None, "pool": None}
        extensions = {"target": request.target, "timeout": timeout}
        return httpx.Request(
            request.method.decode(), self._address, headers=headers, stream=httpx.ByteStream(b""), extensions=extensions
        )


def _is_for_the_other(request: UpstreamRequest) -> bool:
    return request.upgrade or b"\r\nexpect:" in request.head.lower()


class _Exchange(httpx.AsyncByteStream):
    """Implements UpstreamExchange, and is the stream of the request's body."""

    def __init__(
        self,
        home: Http2Upstream,
        transport: httpx.AsyncHTTPTransport,
        request: httpx.Request,
        listener: UpstreamListener,
        upload: Upload,
        timeouts: Timeouts,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._home = home
        self._transport = transport
        self._request = request
        self._listener: UpstreamListener | None = listener
        self._timeouts = timeouts
        self._waiting: list[bytes] = [upload.body] if upload.body else []
        self._size = len(upload.body)
        self._complete = upload.complete
        self._held = False  # the client
        self._more = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._alarm = Alarm(loop)
        self._head_told = False
        request.stream = self
        request.extensions["trace"] = self._trace
        self._task = loop.create_task(self._run())

    # What the relay calls

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self._more.set()
        if self._size > HIGH_WATER and not self._held and self._listener is not None:
            self._held = True
            self._listener.pause_upload()

    def end(self, trailers: RawHeaders) -> None:
        self._complete = True
        self._more.set()

    def pause(self) -> None:
        self._may_read.clear()
        self._alarm.clear()

    def resume(self) -> None:
        self._may_read.set()
        self._watch()

    def abort(self) -> None:
        if self._forget() is not None:
            self._task.cancel()

    # The request's body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._waiting or not self._complete:
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
                continue
            data = self._waiting.pop(0)
            yield data
            self._size -= len(data)
            if self._held and self._size <= LOW_WATER and self._listener is not None:
                self._held = False
                self._listener.resume_upload()

    # The response

    async def _trace(self, event: str, info: dict[str, Any]) -> None:
        """What the transport does, as it says."""
        if event == "http2.send_request_body.complete" and self._timeouts.first_byte is not None:
            self._alarm.set(self._timeouts.first_byte, self._too_late)
        if event == "connection.start_tls.complete":
            stream = info["return_value"]
            if stream.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
                await stream.aclose()  # the transport would talk HTTP/2 all the same, and forgets it if it may not
                raise UpstreamError("malformed", "the upstream does not speak HTTP/2 (http2)")

    async def _run(self) -> None:
        whole = False
        try:
            whole = await self._carry()
        except UpstreamError as error:
            self._break(error)
        except Exception as error:  # noqa: BLE001 - what the transport is built of raises errors of many families
            self._break(self._failure(error))
        finally:
            self._alarm.close()
            if whole:
                self._home.keep(self._transport)
            else:
                self._home.drop(self._transport)

    async def _carry(self) -> bool:
        answer = await self._transport.handle_async_request(self._request)
        bodiless = self._request.method == "HEAD" or answer.status_code in (204, 304)
        self._head_told = True
        if self._listener is not None:
            self._listener.on_head(UpstreamResponse(answer.status_code, b"", list(answer.headers.raw), bodiless))
            self._listener.flush()
        self._watch()
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        async for data in answer.stream:
            await self._may_read.wait()
            self._watch()
            if data and self._listener is not None:
                self._listener.on_data(data)
        await answer.stream.aclose()
        listener = self._forget()
        if listener is not None:
            listener.on_end([])
            listener.flush()
        return self._complete and not self._waiting

    def _watch(self) -> None:
        if self._head_told and self._timeouts.idle is not None and self._listener is not None:
            self._alarm.set(self._timeouts.idle, self._too_late)

    def _too_late(self) -> None:
        what = "its response went silent" if self._head_told else "nothing was answered"
        limit = self._timeouts.idle if self._head_told else self._timeouts.first_byte
        self._break(UpstreamError("timeout", f"the upstream took too long: {what} for {limit:g} s"))
        self._task.cancel()

    def _break(self, error: UpstreamError) -> None:
        listener = self._forget()
        if listener is not None:
            listener.on_broken(error)

    def _forget(self) -> UpstreamListener | None:
        listener, self._listener = self._listener, None
        self._alarm.clear()
        return listener

    def _failure(self, error: Exception) -> UpstreamError:
        where = f"{self._request.url.host}:{self._request.url.port or 443}"
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        if self._head_told:
            text = "the upstream broke off before its response was complete"
            return UpstreamError("incomplete", text)
        if isinstance(error, httpx.ConnectTimeout):
            return UpstreamError("connect_timeout", f"no connection to {where} within {self._timeouts.connect:g} s")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UpstreamError("tls", f"the certificate of {where} is not valid: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            return UpstreamError("tls", f"no TLS connection to {where}: {explained(cause)}")
        if isinstance(error, httpx.ConnectError):
            return UpstreamError("connect", f"cannot connect to {where}")
        return UpstreamError("closed", f"the upstream broke HTTP/2 off without an answer ({type(error).__name__})")

"""One connection to an upstream: sole owner of its transport, carries one exchange at a time.

Events go to the exchange's Listener straight from the socket's callback. Must not know journal, providers, settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from typing import cast

from proxy.wire.interface import (
    RawHeaders,
    Timeouts,
    Upload,
    UpstreamError,
    UpstreamListener,
    UpstreamRequest,
    UpstreamResponse,
)
from proxy.wire.response import ResponseParser
from proxy.wire.sockets import prepare, reset_when_sent, set_reset
from proxy.wire.tls import explained

HIGH_WATER = 256 * 1024  # bytes waiting for the upstream above which the client is not read
LOW_WATER = 64 * 1024
ABORT_PATIENCE = 1.0  # seconds that what was written before a tunnel's reset may take to arrive
SMALL = 16 * 1024  # bytes that cost less to copy than to write in pieces
# RFC 9110, 9.2.1: to ask again changes nothing at the upstream.
SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))


class UpstreamConnection(asyncio.Protocol):
    """Implements UpstreamExchange for the exchange it carries. `release` gets it back when it may carry another."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        timeouts: Timeouts,
        release: Callable[[UpstreamConnection], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._timeouts = timeouts
        self._release = release
        self._transport: asyncio.Transport | None = None
        self._listener: UpstreamListener | None = None
        self._parser: ResponseParser | None = None
        self._head_told = False
        self._chunked = False
        self._used = False  # it has carried an exchange before this one
        self._repeatable = False  # this request may be sent again where nothing was answered
        self._tunnel = False
        self._tunnel_ends = 0  # directions of a tunnel that have ended
        self._request_done = False
        self._reading_paused = False
        self._upload_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._lost = False
        self._eof = False  # with TLS: its close alert came, not just a FIN

    # What the relay calls

    def begin(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> None:
        assert self._transport is not None
        self._used = self._parser is not None
        self._repeatable = self._used and request.method in SAFE and upload.complete and not upload.body
        self._parser = ResponseParser(head_request=request.method == b"HEAD", upgrade=request.upgrade)
        self._listener = listener
        self._head_told = False
        self._chunked = request.chunked
        self._request_done = False
        parts = [request.head]
        if upload.body:
            parts += self._framed(upload.body)
        if upload.complete and request.chunked:
            parts.append(_last_chunk(upload.trailers))
        if len(upload.body) > SMALL:
            self._transport.writelines(parts)
        else:
            self._transport.write(b"".join(parts))
        if upload.complete:
            self._request_complete()

    def write(self, data: bytes) -> None:
        if self._transport is not None and self._listener is not None:
            self._transport.writelines(self._framed(data))

    def end(self, trailers: RawHeaders) -> None:
        if self._transport is None or self._listener is None:
            return
        if self._tunnel:
            if self._tunnel_over():
                return
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._loop.call_soon(self.eof_received)  # TLS knows no half: the end of one is that of both
            return
        if self._chunked:
            self._transport.write(_last_chunk(trailers))
        self._request_complete()

    def pause(self) -> None:
        if not self._reading_paused and self._transport is not None and not self._lost:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._reading_paused and self._transport is not None and not self._lost:
            self._reading_paused = False
            self._heard = self._loop.time()
            self._transport.resume_reading()

    def abort(self) -> None:
        self._forget()
        self._give_up()

    # What the pool calls

    def is_quiet(self) -> bool:
        """Whether the upstream neither closed nor said anything since the last exchange.

        The event loop may not have told us yet, so the socket itself is asked.
        """
        if self._lost or self._transport is None or self._transport.is_closing():
            return False
        return not self._readable.poll(0)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        prepare(self._sock)
        self._readable = select.poll()
        self._readable.register(self._sock.fileno(), select.POLLIN | select.POLLRDHUP)

    def data_received(self, data: bytes) -> None:
        listener, parser = self._listener, self._parser
        if listener is None or parser is None:
            self.close()  # bytes that answer no request: never let the next one have them
            return
        if self._tunnel:
            listener.on_chunk(data)
            listener.flush()
            return
        if self._timer is not None:
            self._heard = self._loop.time()
        if self._head_told and (body := parser.only_body(data)):
            listener.on_data(body)
            return
        try:
            parser.feed(data)
        except UpstreamError as error:
            self._tell_progress(listener, parser)
            self._break(error)
            return
        self._tell_progress(listener, parser)
        if self._listener is not listener:
            return
        if parser.complete:
            self._finish(listener, parser)
        listener.flush()

    def eof_received(self) -> bool:
        self._eof = True
        listener = self._listener
        if self._tunnel and listener is not None:
            over = self._tunnel_over()
            if self._over_tls():
                self._forget()  # TLS knows no half: nothing that is written arrives any more
            listener.on_end([])
            listener.flush()
            return not over and not self._over_tls()
        self._ended(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if exc is not None and self._listener is not None and not self._tunnel:
            self._drain()
        self._ended(exc)
        self._stop_timer()

    def pause_writing(self) -> None:
        self._upload_paused = True
        if self._listener is not None:
            self._listener.pause_upload()

    def resume_writing(self) -> None:
        self._upload_paused = False
        if self._listener is not None:
            self._listener.resume_upload()

    # Inside

    def _framed(self, data: bytes) -> list[bytes]:
        if not self._chunked or self._tunnel:
            return [data]
        if len(data) <= SMALL:
            return [b"%x\r\n%b\r\n" % (len(data), data)]
        return [b"%x\r\n" % len(data), data, b"\r\n"]

    def _tell_progress(self, listener: UpstreamListener, parser: ResponseParser) -> None:
        if parser.interims:
            interims, parser.interims = parser.interims, []
            for interim in interims:
                listener.on_interim(interim)
        if parser.head is None:
            return
        if not self._head_told:
            self._head_told = True
            if parser.upgraded:
                self._upgrade(listener, parser.head)
            else:
                if self._timer is not None:
                    self._stop_timer()
                    self._arm()  # from here on silence is measured by another limit
                listener.on_head(parser.head)
        if parser.parts and self._listener is listener:
            parts, parser.parts = parser.parts, []
            listener.on_chunk(parts[0] if len(parts) == 1 else b"".join(parts))

    def _upgrade(self, listener: UpstreamListener, response: UpstreamResponse) -> None:
        if not self._request_done:
            # RFC 9110, 7.8: the rest of the request would be taken for the new protocol.
            self._break(UpstreamError("malformed", "the upstream switched protocols amid the request"))
            return
        self._tunnel = True
        self._stop_timer()
        listener.on_upgraded(response)

    def _tunnel_over(self) -> bool:
        """Note that a direction of the tunnel has ended; whether that was the second."""
        self._tunnel_ends += 1
        if self._tunnel_ends < 2:
            return False
        self._forget()
        self.close()
        return True

    def _finish(self, listener: UpstreamListener, parser: ResponseParser) -> None:
        self._forget()
        if not self._request_done or self._unsent():
            # Answered early: closing politely would wait, for ever perhaps, until the upstream takes the rest.
            self._give_up()
        elif parser.reusable and not self._lost:
            self.resume()
            self._release(self)
        else:
            self.close()
        listener.on_end(parser.trailers)

    def _unsent(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _give_up(self) -> None:
        if self._transport is None:
            return
        if self._tunnel:
            reset_when_sent(self._loop, self._transport, ABORT_PATIENCE)
            return
        if not self._request_done or self._unsent():
            # An end would wait behind what the upstream has not read; only a reset reaches it.
            set_reset(self._sock)
        self._transport.abort()

    def _ended(self, exc: Exception | None) -> None:
        """The connection is over: is the response?"""
        listener, parser = self._listener, self._parser
        if listener is None or parser is None:
            return
        how = "reset" if exc is not None else "closed"
        if self._tunnel:
            self._break(UpstreamError("reset" if exc is not None else "incomplete", f"the upstream {how} the tunnel"))
        elif parser.until_close and exc is None and (self._eof or not self._over_tls()):
            self._finish(listener, parser)  # a FIN below TLS can be anyone's (RFC 9112, 9.8)
            listener.flush()
        elif parser.head is not None:
            text = f"the upstream {how} the connection before its response was complete"
            self._break(UpstreamError("incomplete", text))
        elif isinstance(exc, ssl.SSLError):  # in TLS 1.3 a client is judged after its handshake
            self._break(UpstreamError("tls", f"the upstream broke TLS off: {explained(exc)}"))
        else:
            retry = self._repeatable and not parser.begun
            text = f"the upstream {how} the connection without an answer"
            self._break(UpstreamError("closed", text, retry=retry))

    def _break(self, error: UpstreamError) -> None:
        listener = self._forget()
        self._give_up()
        if listener is not None:
            listener.on_broken(error)

    def _forget(self) -> UpstreamListener | None:
        listener, self._listener = self._listener, None
        self._stop_timer()
        return listener

    def _drain(self) -> None:
        """A failed write makes both event loops drop what was received and not yet read, such as a 413 that the
        upstream sent before it closed: read it here, while the socket is still open."""
        if self._over_tls():
            return
        with contextlib.suppress(OSError):
            while self._listener is not None:
                data = self._sock.recv(65536)
                if not data:
                    return
                self.data_received(data)

    def _over_tls(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is not None

    def _request_complete(self) -> None:
        self._request_done = True
        self._heard = self._loop.time()
        if self._timeouts.first_byte is not None or self._timeouts.idle is not None:
            self._arm()

    def _arm(self) -> None:
        limit = self._timeouts.idle if self._head_told else self._timeouts.first_byte
        if limit is None and not self._head_told:
            limit = self._timeouts.idle
        if limit is not None:
            left = self._heard + limit - self._loop.time()
            self._timer = self._loop.call_later(max(left, 0.001), self._check, limit)

    def _check(self, limit: float) -> None:
        self._timer = None
        if self._listener is None:
            return
        waiting_for_head = not self._head_told and self._timeouts.first_byte is None
        if self._reading_paused or waiting_for_head or self._loop.time() < self._heard + limit:
            if self._reading_paused or waiting_for_head:
                self._heard = self._loop.time()
            self._arm()
            return
        what = "its response went silent" if self._head_told else "nothing was answered"
        self._break(UpstreamError("timeout", f"the upstream took too long: {what} for {limit:g} s"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _last_chunk(trailers: RawHeaders | None) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    return b"".join([b"0\r\n", *[b"%b: %b\r\n" % trailer for trailer in trailers], b"\r\n"])

"""The client's side of the wire: the protocol class given to uvicorn, one for each connection.

Sole owner of its transport: it reads heads and bodies, holds the limits, the pauses, keep-alive and every way to end.
What is done with a request is its ServerExchange's and the application's. Must not know journal, providers, settings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from proxy.wire.alarm import Alarm
from proxy.wire.chunked import ChunkedBody
from proxy.wire.interface import RawHeaders, RequestError
from proxy.wire.limits import Limits
from proxy.wire.reading import Reading
from proxy.wire.request import check_unfinished, parse_head, without_blank_lines
from proxy.wire.server_exchange import Refuse, ServerExchange, Take
from proxy.wire.sockets import LOOKS, Delivery, close_when_sent, prepare, reset_when_sent

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

_log = logging.getLogger("forward")

HIGH_WATER = 256 * 1024  # bytes waiting for the client above which the response is held back
LOW_WATER = 64 * 1024
PIPELINE = 64 * 1024  # bytes of requests behind the one in flight, above which no more is read
HALF_CLOSED_GRACE = LOOKS * 0.2  # seconds that a client which sends no more may be without anything to read
LINGER = 3.0  # seconds that input is still swallowed after the last response
ABORT_PATIENCE = 5.0  # seconds that what was written before a reset may take to arrive
TUNNEL_QUIET = 1.0  # seconds of silence after which a tunnel may be closed when the server stops

# Why the client is not read from.
_BY_UPLOAD, _BY_PIPELINE = 1, 2


class ServerProtocol(asyncio.Protocol):
    """For `uvicorn.Config(http=…)`, with `limits`, `refuse` and `take` bound before; without `take` every request is
    the ASGI application's."""

    def __init__(
        self,
        limits: Limits,
        refuse: Refuse,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        take: Take | None = None,
    ) -> None:
        self.app_state = app_state
        self._limits = limits
        self._refuse = refuse
        self._take_exchange = take
        self._app = cast("Callable[..., Any]", config.loaded_app)
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._exchange: ServerExchange | None = None
        self._held = b""  # what came and is not part of a request yet
        self._seen = 0  # bytes of an unfinished head that were looked at: small pieces must not cost its square
        self._left = 0  # bytes of a body with a length that are still to come
        self._chunked: ChunkedBody | None = None
        self.keeps_alive = True  # the connection may carry another request after this one, as things stand
        self._ending = False  # nothing more is read as a request
        self._half_closed = False
        self._unread = False  # more waits for the client than it may
        self._active = False  # since the last look at a tunnel
        self._alarm = Alarm(self._loop)
        self.address = ""

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._reading = Reading(self._loop, self._transport)
        self._delivery = Delivery(self._transport)
        self.tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self._server.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own protocols only
        prepare(self._transport.get_extra_info("socket"))
        peer = self._transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        most = self._limits.connections
        if most is not None and len(self._server.connections) > most:
            text = f"there are {most} connections already (max_connections); try again later"
            self._answer_error(RequestError(503, "too_many_connections", text))
            return
        self._alarm.set(self._limits.head_seconds, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._ending = True
        self._alarm.close()
        self._reading.end()
        self._lose(reset=exc is not None or not self._half_closed)

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        try:
            self._take(data)
        except RequestError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """The client sends no more: it is gone, or done sending, which looks the same. True: go on writing."""
        exchange = self._exchange
        self._half_closed = True
        self._reading.end()
        if exchange is None or self._ending:
            self._ending = True
            return False
        if exchange.tunnelled:
            if self._held:
                self._take(b"")  # it came before the switch, and before this
            exchange.tell_end([])
            return not exchange.ended and not self.tls  # which knows no half: it closes all by itself
        if not exchange.complete or self.tls:
            self._lose(reset=False)
            return False
        self._delivery.goes_on()
        self._alarm.set(HALF_CLOSED_GRACE / LOOKS, self._look_at_half_closed)
        return True

    def pause_writing(self) -> None:
        self._unread = True
        if self._exchange is not None:
            self._exchange.tell_pause(paused=True)

    def resume_writing(self) -> None:
        self._unread = False
        if self._exchange is not None:
            self._exchange.tell_pause(paused=False)
        elif self._held:
            self._reading.resume(_BY_PIPELINE)
            self._loop.call_soon(self._resume_reading)

    # What uvicorn calls

    def shutdown(self) -> None:
        """Close as soon as what is under way is done: at once if that is nothing."""
        self.keeps_alive = False
        if self._exchange is None or self._ending:
            self._close()
        elif self._exchange.tunnelled:
            self._close_quiet_tunnel()

    # What the exchange calls

    def write(self, parts: list[bytes]) -> None:
        self._active = True
        self.write_one(parts[0] if len(parts) == 1 else b"".join(parts))

    def write_one(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._delivery.written += len(data)
            self._transport.write(data)

    def pause_upload(self) -> None:
        self._reading.pause(_BY_UPLOAD)

    def resume_upload(self) -> None:
        self._reading.resume(_BY_UPLOAD)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def response_ended(self) -> None:
        """The response is written. Go on with the next request, or come to the end of the connection."""
        exchange = self._exchange
        if exchange is None or self._transport.is_closing():
            return
        self._exchange = None
        self._reading.resume(_BY_UPLOAD)
        if exchange.complete and exchange.keep_alive and self.keeps_alive and (self._held or not self._half_closed):
            if not self._unread:
                self._reading.resume(_BY_PIPELINE)
            self._alarm.set(self._limits.keep_alive_seconds, self._close)
            if self._held:
                self._loop.call_soon(self._resume_reading)
        else:
            self._linger(sends=not exchange.complete)

    def tunnel_began(self) -> None:
        """What came since the request belongs to the new protocol."""
        self._reading.half_is_gone = False
        self._reading.resume(_BY_PIPELINE)
        if self._held:
            self._loop.call_soon(self.data_received, b"")
        if self._half_closed:
            self._alarm.clear()
            self._loop.call_soon(self.eof_received)  # it came before the tunnel, and belongs behind what is held

    def tunnel_ended(self) -> None:
        """The upstream sends no more."""
        if not self._half_closed and self._transport.can_write_eof():
            self._transport.write_eof()
            return
        if not self._half_closed:
            self.eof_received()  # TLS knows no half: the end of one is that of both
        self._close()

    def break_off(self, *, reset: bool) -> None:
        """End so that the response cannot be taken for complete; `reset`: a plain close would look complete."""
        exchange, self._exchange = self._exchange, None
        self._ending = True
        if reset:
            reset_when_sent(self._loop, self._transport, ABORT_PATIENCE)
        else:
            self._linger(sends=exchange is not None and not exchange.complete)

    # Reading requests

    def _take(self, data: bytes) -> None:
        exchange = self._exchange
        if self._held:
            data, self._held = self._held + data, b""
        if exchange is not None and exchange.tunnelled:
            self._active = True
            if data:
                exchange.tell_body(data)
            return
        while data and not self._ending:
            exchange = self._exchange
            if exchange is None and self._unread:
                self._held = data  # answers that nobody reads must not pile up
                self._reading.pause(_BY_PIPELINE)
                return
            if exchange is None:
                data = self._take_head(data)
            elif not exchange.complete:
                data = self._take_body(exchange, data)
            else:
                self._held = data
                if len(data) > PIPELINE:
                    self._reading.pause(_BY_PIPELINE)
                return

    def _take_head(self, data: bytes) -> bytes:
        """Begin an exchange; what is left of `data`. While the head is not whole all of it is held."""
        data = without_blank_lines(data)
        seen, self._seen = self._seen, 0
        end = data.find(b"\r\n\r\n", max(0, seen - 3))
        if end < 0 or end + 4 > self._limits.head_bytes:
            check_unfinished(data, self._limits.head_bytes, seen)
            self._seen = len(data)
            if data and self._alarm.act != self._head_is_late:
                self._alarm.set(self._limits.head_seconds, self._head_is_late)
            self._held = data
            return b""
        request = parse_head(data[: end + 4], self._limits.headers)
        data = data[end + 4 :]
        self._server.total_requests += 1
        exchange = ServerExchange(self, request, self.address)
        self.keeps_alive = self.keeps_alive and request.keep_alive
        self._left, self._chunked = request.length or 0, None
        if request.chunked:
            self._chunked = ChunkedBody(self._limits.head_bytes)
        elif not self._left:
            exchange.tell_end([])
        if exchange.complete and self._half_closed:
            self._alarm.set(HALF_CLOSED_GRACE / LOOKS, self._look_at_half_closed)
        elif exchange.complete:
            self._alarm.clear()
        else:
            self._alarm.set(self._limits.body_seconds, self._body_is_late)
            data = self._take_body(exchange, data) if data else data
        self._exchange = exchange  # a body that is wrong from the start never gets so far
        if self._take_exchange is not None:
            self._take_exchange(exchange)
        else:
            task = self._loop.create_task(exchange.serve(self._app))
            self._server.tasks.add(task)
            task.add_done_callback(self._server.tasks.discard)
        return data

    def _take_body(self, exchange: ServerExchange, data: bytes) -> bytes:
        """Hand body bytes on; what is left of `data` is behind the request."""
        if self._chunked is not None:
            body = self._chunked.feed(data)
            if body:
                exchange.tell_body(body)
            if self._chunked.complete:
                data, trailers = self._chunked.surplus, self._chunked.trailers
                self._chunked = None
                self._body_complete(exchange, trailers)
                return data
        else:
            body, data = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
            self._left -= len(body)
            exchange.tell_body(body)
            if not self._left:
                self._body_complete(exchange, [])
                return data
        if self._alarm.act == self._body_is_late:
            self._alarm.set(self._limits.body_seconds, self._body_is_late)
        return b""

    def _body_complete(self, exchange: ServerExchange, trailers: RawHeaders) -> None:
        if self._alarm.act == self._body_is_late:
            self._alarm.clear()
        exchange.tell_end(trailers)

    def _resume_reading(self) -> None:
        if self._exchange is None and self._held and not self._transport.is_closing():
            self.data_received(b"")
            if self._half_closed and not self.eof_received():  # as if the end had come behind this
                self._transport.close()

    # What goes wrong

    def _fail(self, error: RequestError) -> None:
        """What the client sent cannot be read on."""
        exchange = self._exchange
        self._held = b""
        if exchange is None:
            self._answer_error(error)
        else:
            self._ending = True
            self.keeps_alive = False
            exchange.tell_failed(error)

    def _answer_error(self, error: RequestError) -> None:
        self._ending = True
        lines, body = self._refuse(error)
        self._transport.write(b"%b\r\n%b" % (lines, body))
        self._linger(sends=True)

    def _lose(self, *, reset: bool) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._ending = True
            exchange.tell_lost(reset=reset)

    # Time

    def _head_is_late(self) -> None:
        if not self._held:
            self._close()  # nothing was begun: there is nobody to answer
            return
        text = f"the request head was not complete within {self._limits.head_seconds:g} s (head_timeout)"
        self._answer_error(RequestError(408, "request_timeout", text))

    def _body_is_late(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.complete:
            return
        if self._reading.reasons or exchange.awaits_continue or exchange.started:
            self._alarm.set(self._limits.body_seconds, self._body_is_late)  # it is not the client that is waited for
            return
        text = f"nothing came of the request body for {self._limits.body_seconds:g} s (body_timeout)"
        self._fail(RequestError(408, "request_timeout", text))

    def _look_at_half_closed(self) -> None:
        """Whoever is gone answers what is written with a reset; whoever is done sending takes it."""
        if self._exchange is None:
            return
        if self._delivery.goes_on():
            self._alarm.set(HALF_CLOSED_GRACE / LOOKS, self._look_at_half_closed)
            return
        self._lose(reset=False)
        self._transport.abort()

    def _close_quiet_tunnel(self) -> None:
        if self._transport.is_closing():
            return
        if self._active:
            self._active = False
            self._alarm.set(TUNNEL_QUIET, self._close_quiet_tunnel)
        else:
            self._close()

    def _linger(self, *, sends: bool) -> None:
        """Close, but not in the face of a client that `sends`: that is swallowed for a while, or the kernel's answer to
        it would be a reset that takes the response away (RFC 9112, 9.6). TLS knows no half: the client goes first."""
        self._ending = True
        self._held = b""
        if self._half_closed or self._transport.is_closing() or (self.tls and not sends):
            self._close()
            return
        self._reading.resume(_BY_UPLOAD | _BY_PIPELINE)
        if not self.tls:
            self._transport.write_eof()
        self._alarm.set(LINGER, self._close if self.tls else self._transport.abort)

    def _close(self) -> None:
        self._ending = True
        if self.tls:
            close_when_sent(self._loop, self._transport)
        else:
            self._transport.close()

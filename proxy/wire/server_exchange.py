"""One request on the client's side: what came of it, and the way back. The ASGI scope's extension `wiretape`.

An application that knows it attaches itself and hears and writes without a task; any other gets plain `receive` and
`send`. It alone picks the client's framing. Must not know journal, providers, settings.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from proxy.log import place
from proxy.wire.asgi import AsgiEnd
from proxy.wire.fields import ByName
from proxy.wire.interface import ClientListener, ClientRequest, RawHeaders, RequestError, Upload, UpstreamResponse

if TYPE_CHECKING:
    from proxy.wire.server import ServerProtocol

_log = logging.getLogger("forward")

EXTENSION = "wiretape"
SMALL = 16 * 1024  # bytes that cost less to copy than to write in pieces
HELD_HIGH = 256 * 1024  # bytes of a body that nobody has asked for yet, above which the client is not read

_SPECIAL = ByName(lambda name: name if name in (b"content-length", b"transfer-encoding", b"connection") else b"")

App = Callable[..., Awaitable[None]]

Refuse = Callable[[RequestError], tuple[bytes, bytes]]
"""Counts a request that never reaches the application, and gives the header lines and the body that answer it."""


class ServerExchange:
    """Implements wire.interface.ClientSide."""

    # Here and not in __init__: most exchanges change few of them.
    complete = False  # the request
    started = False  # the response has a head on the wire
    ended = False  # the response
    over = False  # nobody waits for anything any more
    tunnelled = False
    _tunnel_told = False
    keep_alive = False
    _listener: ClientListener | None = None
    _early_size = 0
    _failed: RequestError | None = None
    _lost: bool | None = None  # before anybody listens: whether by a reset
    _head_in_out = False
    _chunked = False
    _until_close = False
    _trailers = False
    _response_paused = False

    def __init__(self, protocol: ServerProtocol, request: ClientRequest, address: str) -> None:
        self.request = request
        self.address = address
        self.awaits_continue = request.awaits_continue
        self._protocol = protocol
        self._upload = Upload(complete=False)
        self._early: list[bytes] = []  # of the body, before anybody listens
        self._out: list[bytes] = []

    # What the protocol tells

    def tell_body(self, data: bytes) -> None:
        self.awaits_continue = False
        if self._listener is not None:
            self._listener.on_body(data)
            return
        self._early.append(data)
        self._early_size += len(data)
        if self._early_size > HELD_HIGH:
            self.pause_upload()

    def tell_end(self, trailers: RawHeaders) -> None:
        self.complete = True
        if self._listener is not None:
            self._listener.on_request_end(trailers)
        else:
            self._upload.trailers = trailers or None

    def tell_failed(self, error: RequestError) -> None:
        if self._listener is not None:
            self._listener.on_request_failed(error)
        else:
            self._failed = error

    def tell_lost(self, *, reset: bool) -> None:
        self.over = True
        if self._listener is not None:
            self._listener.on_lost(reset=reset)
        else:
            self._lost = reset

    def tell_pause(self, *, paused: bool) -> None:
        self._response_paused = paused
        if self._listener is not None:
            if paused:
                self._listener.pause_response()
            else:
                self._listener.resume_response()

    # What the application calls

    def attach(self, listener: ClientListener) -> Upload:
        self._listener = listener
        upload, self._upload = self._upload, Upload()
        upload.body = b"".join(self._early)
        upload.complete = self.complete
        self._early.clear()
        if self._early_size > HELD_HIGH:
            self.resume_upload()
        if self._failed is not None:
            self._protocol.call_soon(partial(listener.on_request_failed, self._failed))
        if self._lost is not None:
            self._protocol.call_soon(partial(listener.on_lost, reset=self._lost))
        if self._response_paused:
            listener.pause_response()
        return upload

    def interim(self, response: UpstreamResponse) -> None:
        if self.request.version == "1.0":
            return  # RFC 9110, 15.2: it would not know what to do with it
        if response.status == 100:
            self.awaits_continue = False
        lines = [_status_line(response), *[b"%b: %b\r\n" % header for header in response.headers], b"\r\n"]
        self._out.append(b"".join(lines))

    def start(self, response: UpstreamResponse, trailers_follow: bool = False) -> None:
        old = self.request.version == "1.0"
        framed = response.bodiless
        chunked = closing = False
        lines = [_status_line(response)]
        for header in response.headers:
            special = _SPECIAL[header[0]]
            if not special:
                pass
            elif special == b"content-length":
                framed = True
            elif special == b"transfer-encoding":
                if not old and not framed:
                    chunked = True
                    lines.append(b"%b: chunked\r\n" % header[0])
                continue
            elif special == b"connection":
                closing = b"close" in header[1].lower()
                continue
            lines.append(b"%b: %b\r\n" % header)
        if not framed and not chunked and not old:
            chunked = True
            lines.append(b"Transfer-Encoding: chunked\r\n")
        self._chunked = chunked
        self._until_close = not framed and not chunked
        self._trailers = trailers_follow and chunked
        self.keep_alive = self.request.keep_alive and self._protocol.keeps_alive and not (closing or self._until_close)
        if not self.keep_alive:
            lines.append(b"Connection: close\r\n")
        elif old:
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._out.append(b"".join(lines))
        self._head_in_out = True

    def tunnel(self, response: UpstreamResponse) -> None:
        self.tunnelled = self._until_close = True
        self.keep_alive = False
        lines = [_status_line(response), *[b"%b: %b\r\n" % header for header in response.headers], b"\r\n"]
        self._out.append(b"".join(lines))
        self._head_in_out = True

    def write(self, data: bytes) -> None:
        if not self._chunked:
            self._out.append(data)
        elif len(data) <= SMALL:
            self._out.append(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")

    def send(self, data: bytes) -> None:
        if self._out or self.tunnelled:
            self.write(data)
            self.flush()
        elif self._chunked:
            self._protocol.write_one(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._protocol.write_one(data)

    def end(self, trailers: RawHeaders) -> None:
        self.ended = True
        if self._chunked:
            if trailers and self._trailers:
                fields = [b"%b: %b\r\n" % header for header in trailers]
                self._out.append(b"".join([b"0\r\n", *fields, b"\r\n"]))
            else:
                self._out.append(b"0\r\n\r\n")

    def flush(self) -> None:
        out = self._out
        if out:
            self._out = []
            if self._head_in_out:
                self._head_in_out = False
                self.started = True
            self._protocol.write(out)
            if self.tunnelled and not self._tunnel_told:
                self._tunnel_told = True
                self._protocol.tunnel_began()
        if self.ended and not self.over:
            self.over = True
            if self.tunnelled:
                self._protocol.tunnel_ended()
            else:
                self._listener = None
                self._protocol.response_ended()

    def discard(self) -> None:
        self._out.clear()
        self.ended = False
        if self._head_in_out:
            self._head_in_out = self.tunnelled = False

    def abort(self, *, reset: bool = False) -> None:
        """Break off. What was flushed still arrives; then the connection ends without the response's end, and with a
        reset where that is wanted, or its end would look like one."""
        self._listener = None
        self.over = True
        self._out.clear()
        self._protocol.break_off(reset=reset or self._until_close)

    def pause_upload(self) -> None:
        self._protocol.pause_upload()

    def resume_upload(self) -> None:
        self._protocol.resume_upload()

    # The application

    async def serve(self, app: App) -> None:
        """Run an ASGI application on this request; whatever it does wrong ends here."""
        end = AsgiEnd(self)
        try:
            await app(self._scope(), end.receive, end.send)
        except ConnectionResetError:
            pass  # the client left; there is nothing to be said
        except Exception as error:  # noqa: BLE001 - the edge of a request: it must not take the worker with it
            _log.error("the application failed (%s)", place(error))
        if not self.over:
            end.give_up()

    def _scope(self) -> dict[str, Any]:
        request = self.request
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.version,
            "method": request.method.decode("ascii"),
            "scheme": "https" if self._protocol.tls else "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers],
            "client": (self.address, 0) if self.address else None,
            "server": None,
            "state": self._protocol.app_state,
            "extensions": {EXTENSION: self},
        }


Take = Callable[[ServerExchange], object]
"""What an application that knows the extension does with a request, without a task of its own; never raises."""


def _status_line(response: UpstreamResponse) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason)

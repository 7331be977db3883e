"""Relays one exchange: request up, response down, each byte journaled before it is passed on.

Both sides tell what happens by callbacks, from the socket that it happened at, and nothing here waits. Knows the wire's
seams; what a record looks like is the recorder's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from proxy.exchange import Change, Side, WireEnd
from proxy.forward import added, answers
from proxy.forward.answers import Answer
from proxy.forward.headers import for_trailers, to_client
from proxy.forward.policy import Rules
from proxy.forward.recorder import Recorder
from proxy.forward.redact import Redactor
from proxy.forward.routes import Destination
from proxy.forward.tunnel import Tunnel
from proxy.journal.writer import JournalError
from proxy.log import place
from proxy.wire.interface import (
    ClientSide,
    RawHeaders,
    RequestError,
    Upload,
    UpstreamError,
    UpstreamExchange,
    UpstreamRequest,
    UpstreamResponse,
)

_log = logging.getLogger("forward")
P = ParamSpec("P")

EARLY_HIGH = 256 * 1024  # bytes of a body that wait for a connection, above which the client is not read


def guarded(callback: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
    """A callback that is nothing once the exchange is over, and whose fault ends this exchange alone: let through, it
    would look like the failure of whoever's socket it came from."""

    def call(self: Relay, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self._over:
            return
        try:
            callback(self, *args, **kwargs)
        except JournalError as error:
            self._not_recorded(error)
        except Exception as error:  # noqa: BLE001 - the edge of a request
            self._internal(error)

    return call


class Relay:
    """One exchange between a client and an upstream: the wire's ClientListener and UpstreamListener.

    First `begin`, which raises JournalError where nothing can be recorded; then `start`, which never raises. When the
    exchange is over and its end is recorded, `on_over` is called.
    """

    # Here and not in __init__: most exchanges never change them.
    _upload_held = False
    _upstream: UpstreamExchange | None = None
    _connecting: asyncio.Task[None] | None = None
    _retried = False
    _tunnel: Tunnel | None = None
    _response_paused = False
    _upstream_ended = False
    _end_passed = False  # of a tunnel, to the client
    _left = False  # the client; what still comes from the upstream is only recorded
    _over = False

    def __init__(
        self,
        destination: Destination,
        request: UpstreamRequest,
        recorder: Recorder,
        redactor: Redactor,
        rules: Rules,
        client: ClientSide,
        on_over: Callable[[Relay], None],
    ) -> None:
        self._destination = destination
        self._request = request
        self._recorder = recorder
        self._redactor = redactor
        self._rules = rules
        self._client = client
        self._on_over = on_over
        self._uploaded = 0
        self._trailers: RawHeaders = []

    def begin(self) -> None:
        """Record the request's head and what of its body is there. Raises JournalError: nothing has begun then."""
        self._upload: Upload = self._client.attach(self)
        body = self._upload.body
        if body:
            self._uploaded = len(body)
            self._recorder.request_chunk(body)
        if self._upload.trailers:
            self._request_trailers(self._upload.trailers)
        try:
            self._recorder.begin()
        except JournalError:
            self._over = True
            raise

    @guarded
    def start(self) -> None:
        if self._too_large():
            return
        self._upstream = self._destination.upstream.start(self._request, self, self._upload)
        if self._upstream is not None:
            self._sent()
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    @guarded
    def stop(self) -> None:
        self._fail("wiretape was stopped before the stream ended")

    # The request: client → upstream (wire.interface.ClientListener)

    async def _connect(self) -> None:
        try:
            upstream = await self._destination.upstream.connect(self._request, self, self._upload)
            if self._over:
                upstream.abort()
                return
            self._upstream = upstream
            self._sent()
        except UpstreamError as error:
            self.on_broken(error)
        except Exception as error:  # noqa: BLE001 - a task of its own: nobody else would hear of it
            self._internal(error)
        finally:
            self._connecting = None

    def _sent(self) -> None:
        """What was there of the request is on its way."""
        if self._upload.complete:
            self._recorder.request_complete()
        self._upload.body = b""
        if self._response_paused and self._upstream is not None:
            self._upstream.pause()
        if self._upload_held:
            self._upload_held = False
            self._client.resume_upload()

    @guarded
    def on_body(self, data: bytes) -> None:
        self._uploaded += len(data)
        if self._tunnel is None and self._too_large():
            return
        self._recorder.request_chunk(data)
        self._recorder.commit()
        if self._upstream is not None:
            self._upstream.write(data)
            if self._tunnel is not None:
                self._tunnel.heard()
            return
        self._upload.body += data
        if len(self._upload.body) > EARLY_HIGH and not self._upload_held:
            self._upload_held = True
            self._client.pause_upload()

    @guarded
    def on_request_end(self, trailers: RawHeaders) -> None:
        if self._tunnel is not None and self._upstream is not None:
            self._upstream.end([])
            self._half_over(self._tunnel)
            return
        self._upload.complete = True
        if trailers:
            self._upload.trailers = self._request_trailers(trailers)
            self._recorder.commit()
        if self._upstream is not None:
            self._upstream.end(self._upload.trailers or [])
            self._recorder.request_complete()

    @guarded
    def on_request_failed(self, error: RequestError) -> None:
        self._refuse(answers.refused(error))

    @guarded
    def on_lost(self, *, reset: bool) -> None:
        if self._left:
            return
        self._left = True
        self._recorder.withhold(Side.RESPONSE)
        drains = self._destination.drain and self._upload.complete and self._tunnel is None
        if self._upstream is None or not drains:
            self._conclude(WireEnd.CLIENT_LEFT)
        elif self._response_paused:
            self.resume_response()

    @guarded
    def pause_response(self) -> None:
        if not self._left:
            self._response_paused = True
            if self._upstream is not None and not self._upstream_ended:
                self._upstream.pause()

    @guarded
    def resume_response(self) -> None:
        if self._response_paused:
            self._response_paused = False
            if self._upstream_ended:
                self.flush()
            elif self._upstream is not None:
                self._upstream.resume()

    def _request_trailers(self, trailers: RawHeaders) -> RawHeaders:
        """Record them; those that may be passed on."""
        self._recorder.trailers(Side.REQUEST_TRAILERS, self._redactor.headers(trailers))
        self._upload.trailers = for_trailers(trailers)
        return self._upload.trailers

    def _too_large(self) -> bool:
        limit = self._rules.max_request_body
        if limit is None or self._uploaded <= limit:
            return False
        self._refuse(answers.too_large(limit))
        return True

    # The response: upstream → client (wire.interface.UpstreamListener)

    @guarded
    def on_interim(self, response: UpstreamResponse) -> None:
        self._record_head(response)
        if not self._left:
            self._client.interim(to_client(response, takes_trailers=self._client.request.takes_trailers))

    @guarded
    def on_head(self, response: UpstreamResponse) -> None:
        self._record_head(response)
        held = self._destination.key
        fault = None if held is None else held.fault(self._destination.name, response)
        if not self._left:
            takes_trailers = self._client.request.takes_trailers
            passed = to_client(response, takes_trailers=takes_trailers)
            added.add(passed, self._recorder, self._rules, fault)
            self._client.start(passed, takes_trailers)

    @guarded
    def on_upgraded(self, response: UpstreamResponse) -> None:
        self._record_head(response)
        self._tunnel = Tunnel(asyncio.get_running_loop(), self._too_silent)
        passed = UpstreamResponse(response.status, response.reason, list(response.headers), bodiless=True)
        added.add(passed, self._recorder, self._rules)
        self._client.tunnel(passed)

    @guarded
    def on_chunk(self, data: bytes) -> None:
        self._recorder.response_chunk(data)
        if not self._left:
            self._client.write(data)
        if self._tunnel is not None:
            self._tunnel.heard()

    @guarded
    def on_data(self, data: bytes) -> None:
        self._recorder.response_data(data)
        if not self._left:
            self._client.send(data)

    @guarded
    def on_end(self, trailers: RawHeaders) -> None:
        self._upstream_ended = True
        if trailers:
            self._recorder.trailers(Side.RESPONSE_TRAILERS, self._redactor.headers(trailers))
            self._trailers = for_trailers(trailers)

    @guarded
    def on_broken(self, error: UpstreamError) -> None:
        if error.retry and not self._retried and not self._left:
            # The connection had died while it waited; nobody can have read the request (RFC 9110, 9.2.2).
            self._retried = True
            self._upstream = None
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        self._upstream_ended = True
        answer = answers.upstream_failed(error.code, f"{self._destination.name}: {error}")
        if self._left:
            self._conclude(WireEnd.CLIENT_LEFT)
        else:
            self._give_up(WireEnd.UPSTREAM_ERROR, f"{error.code}: {error}", answer)

    @guarded
    def flush(self) -> None:
        """Journal what was told since the last time, then pass it on."""
        if self._upstream_ended and not self._response_paused:
            self._ended()
        else:
            self._recorder.commit()
            if not self._left:
                self._client.flush()

    def pause_upload(self) -> None:
        self._client.pause_upload()

    def resume_upload(self) -> None:
        self._client.resume_upload()

    def _ended(self) -> None:
        """The upstream has said its last, and the client has taken all that came before. Raises JournalError."""
        if self._tunnel is not None:
            self._recorder.commit()
            if not self._end_passed:
                self._end_passed = True
                self._client.end([])
                self._client.flush()
                self._half_over(self._tunnel)
            return
        self._recorder.end(WireEnd.CLIENT_LEFT if self._left else WireEnd.UPSTREAM_END)
        self._recorder.commit()
        self._finish()
        if not self._left:
            self._client.end(self._trailers)
            self._client.flush()

    def _record_head(self, response: UpstreamResponse) -> None:
        reason = self._redactor.text(response.reason.decode("latin-1"))
        self._recorder.response_head(response.status, reason, self._redactor.headers(response.headers))

    def _half_over(self, tunnel: Tunnel) -> None:
        if tunnel.half_over():
            self._conclude(WireEnd.UPSTREAM_END)

    def _too_silent(self) -> None:
        self._conclude(WireEnd.UPSTREAM_END if self._upstream_ended else WireEnd.CLIENT_LEFT)
        self._client.abort()

    def _not_recorded(self, error: JournalError) -> None:
        """Nothing that could not be recorded is passed on, and nothing after it."""
        lost = answers.cannot_record if self._upstream is None else answers.response_lost
        self._client.discard()
        self._give_up(WireEnd.JOURNAL_ERROR, str(error), lost(str(error)))

    def _internal(self, error: Exception) -> None:
        _log.error("internal error in exchange %s (%s)", self._recorder.id, place(error))
        # Once it is over it is recorded as it was meant to end, but its end may not have gone out.
        self._client.abort() if self._over else self._fail(place(error))

    def _fail(self, fault: str) -> None:
        self._client.discard()
        self._give_up(WireEnd.WORKER_DIED, fault, answers.internal(fault))

    def _refuse(self, answer: Answer) -> None:
        self._recorder.withhold(Side.REQUEST)
        self._give_up(WireEnd.REFUSED, answer.message, answer)

    def _give_up(self, wire_end: WireEnd, error: str, answer: Answer) -> None:
        """End the exchange early: with our own answer if none has begun, else by breaking the response off."""
        if self._over:
            return
        try:
            self._recorder.commit()
            if not self._left:
                self._client.flush()
        except JournalError:
            self._client.discard()
        if self._left or self._client.started:
            self._conclude(wire_end, error)
            if not self._left:
                self._client.abort()
            return
        body = answer.body(self._destination.dialect)
        more = added.of_ours(self._recorder, self._rules)
        text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in (*answer.head(body), *more)]
        self._recorder.change(Change("own_response", text, answer.status, body.decode()))
        self._conclude(wire_end, error)
        answers.send(self._client, answer, body, *more)

    def _conclude(self, wire_end: WireEnd, error: str | None = None) -> None:
        if not self._over:
            if self._upstream is None:
                self._recorder.withhold_request()
            self._recorder.end(wire_end, error)
            self._recorder.commit_late()
            self._finish()

    def _finish(self) -> None:
        self._over = True
        if self._tunnel is not None:
            self._tunnel.close()
        if self._upstream is not None and (self._tunnel is not None or not self._upstream_ended):
            self._upstream.abort()
        if self._connecting is not None:
            self._connecting.cancel()
        self._on_over(self)

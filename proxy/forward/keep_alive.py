"""Puts comments into a stream of server-sent events that is silent (`keep_alive`), so that who waits does not give up.

Stands between a relay and its client: only what passes here is what the client got. Must not know why nothing comes.
"""

from __future__ import annotations

import asyncio

from proxy.exchange import KEPT_ALIVE
from proxy.forward import headers
from proxy.forward.altered import AlteredRecorder
from proxy.forward.relay import Relay
from proxy.forward.transform import Boundary
from proxy.wire.alarm import Alarm
from proxy.wire.interface import ClientListener, ClientSide, RawHeaders, RequestError, Upload, UpstreamResponse

COMMENT = b": keep-alive\n\n"


def may_have_comments(response: UpstreamResponse) -> bool:
    """Whether it is, as it goes to the client, a stream of events whose bytes may become more."""
    if response.bodiless or response.status // 100 != 2 or headers.media_type(response.headers) != b"text/event-stream":
        return False
    return not any(name.lower() in headers.OF_ALL_BYTES for name, _ in response.headers)


class KeptAlive:
    """The client's side of an exchange (wire.interface.ClientSide), whose streams get a comment whenever nothing has
    passed for `seconds`; it hears the client in the relay's place. Without a `recorder` nothing is recorded."""

    _relay: Relay | None = None  # until it is over
    _stream: Boundary | None = None  # while there is one that may have comments
    _alarm: Alarm | None = None
    _paused = False
    _tunnelled = False
    _tells = False  # the recorder what passes, for nobody else does

    def __init__(self, client: ClientSide, seconds: float, recorder: AlteredRecorder | None) -> None:
        self.request = client.request
        self.address = client.address
        self._client = client
        self._seconds = seconds
        self._recorder = recorder

    @property
    def started(self) -> bool:
        return self._client.started

    # The response

    def start(self, response: UpstreamResponse, trailers_follow: bool = False) -> None:
        if may_have_comments(response):
            self._stream = Boundary()
            self._alarm = Alarm(asyncio.get_running_loop())
            self._wait()
        self._client.start(response, trailers_follow)

    def write(self, data: bytes) -> None:
        told = self._passing(data)
        if told is not None:
            told.passes(data)
        self._client.write(data)

    def send(self, data: bytes) -> None:
        told = self._passing(data)
        if told is not None:
            told.passed(data)
        self._client.send(data)

    def end(self, trailers: RawHeaders) -> None:
        if not self._tunnelled:  # there the other direction may go on
            self._close()
        self._client.end(trailers)

    def abort(self, *, reset: bool = False) -> None:
        self._close()
        self._client.abort(reset=reset)

    def _passing(self, data: bytes) -> AlteredRecorder | None:
        """Take note of what passes; the recorder, if it is to be told by us."""
        if self._stream is None:
            return None
        self._stream.feed(data)
        self._wait()
        return self._recorder if self._tells else None

    def _wait(self) -> None:
        if self._alarm is not None:
            self._alarm.set(self._seconds, self._silent)

    def _silent(self) -> None:
        """Nothing has passed for so long. Where a comment may not stand now, what passes next sets the alarm again."""
        if self._paused or self._stream is None or not self._stream.here or self._relay is None:
            return
        self._wait()
        if self._recorder is not None:
            self._record(self._recorder, self._stream.passed)
        self._client.write(COMMENT)
        # It goes the way of all bytes: recorded, then sent; the relay knows what to do where it cannot be recorded.
        self._relay.flush()

    def _record(self, recorder: AlteredRecorder, passed: int) -> None:
        if not recorder.alters:
            recorder.response_alters()
            self._tells = True
        recorder.response_put_in(KEPT_ALIVE, passed + recorder.withheld, COMMENT)

    def _close(self) -> None:
        self._relay = self._stream = None
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None

    # What the client tells

    def attach(self, listener: ClientListener) -> Upload:
        assert isinstance(listener, Relay), "for nobody else it is made"
        self._relay = listener
        return self._client.attach(self)

    def on_body(self, data: bytes) -> None:
        if self._relay is not None:
            self._relay.on_body(data)

    def on_request_end(self, trailers: RawHeaders) -> None:
        if self._relay is not None:
            self._relay.on_request_end(trailers)

    def on_request_failed(self, error: RequestError) -> None:
        if self._relay is not None:
            self._relay.on_request_failed(error)

    def on_lost(self, *, reset: bool) -> None:
        relay = self._relay
        self._close()
        if relay is not None:
            relay.on_lost(reset=reset)

    def pause_response(self) -> None:
        self._paused = True
        if self._relay is not None:
            self._relay.pause_response()

    def resume_response(self) -> None:
        self._paused = False
        self._wait()
        if self._relay is not None:
            self._relay.resume_response()

    # What passes as it is

    def interim(self, response: UpstreamResponse) -> None:
        self._client.interim(response)

    def tunnel(self, response: UpstreamResponse) -> None:
        self._tunnelled = True
        self._client.tunnel(response)

    def flush(self) -> None:
        self._client.flush()

    def discard(self) -> None:
        self._client.discard()

    def pause_upload(self) -> None:
        self._client.pause_upload()

    def resume_upload(self) -> None:
        self._client.resume_upload()

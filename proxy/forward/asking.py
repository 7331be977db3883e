"""Relays an exchange that is made to ask for its stream's usage (`stream_usage`), and hides that from its client.

The request is held until it is whole (holding.py), the response as long as it may be what the client did not ask for.
What the bytes say is transform.py's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from proxy.exchange import Change, ResponseHead, Side, WireEnd
from proxy.forward import added, headers, transform
from proxy.forward.altered import AlteredRecorder
from proxy.forward.answers import Answer
from proxy.forward.holding import HoldingRelay
from proxy.forward.plan import Asking
from proxy.forward.policy import Rules
from proxy.forward.redact import Redactor
from proxy.forward.relay import Relay, guarded
from proxy.forward.routes import Destination
from proxy.forward.transform import UsageSieve
from proxy.wire.interface import ClientSide, RawHeaders, Upload, UpstreamError, UpstreamRequest, UpstreamResponse

_log = logging.getLogger("forward")

_REFUSALS = (400, 422)  # what a field that is not known is answered with


class AskingRelay(HoldingRelay):
    """A HoldingRelay whose request may be changed when it is whole, and is sent again as it came where the upstream
    refuses the change."""

    _recorder: AlteredRecorder
    _asked_body: bytes | None = None  # as it came, of a request that was changed; until no refusal can come any more
    _sieve: UsageSieve | None = None
    _doubted: UpstreamResponse | None = None  # a head that may be a refusal's: the client has nothing of it yet

    def __init__(  # noqa: PLR0913 - a Relay's own, and one
        self,
        destination: Destination,
        request: UpstreamRequest,
        recorder: AlteredRecorder,
        redactor: Redactor,
        rules: Rules,
        client: ClientSide,
        on_over: Callable[[Relay], None],
        *,
        asking: Asking,
    ) -> None:
        super().__init__(destination, request, recorder, redactor, rules, client, on_over)
        self._asking = asking
        self._doubts: list[bytes] = []  # the body of what is doubted

    # The request

    @property
    def _holds(self) -> bool:
        return True

    def _alter(self) -> None:
        body = self._upload.body
        splice = transform.ask(body) if self._asking.wish.on else None
        if splice is not None:
            self._asked_body, self._plain = body, self._request
            changed = transform.spliced(body, splice)
            set_anew = [headers.IDENTITY]
            if not self._request.chunked:
                set_anew.append((b"content-length", b"%d" % len(changed)))
            self._recorder.request_altered(Change("usage_asked", _text(set_anew)), splice, changed)
            self._recorder.commit()
            self._request = self._asking.request(self._request, len(changed))
            self._upload.body = changed

    def _ask_again(self, refusal: UpstreamResponse, error: bytes) -> None:
        """Without what was refused; the client has heard nothing yet. Raises JournalError."""
        wish, name = self._asking.wish, self._destination.name
        if wish.on:
            wish.on = False
            _log.warning("%s refuses stream_options with status %d: it is not asked for usage", name, refusal.status)
        assert self._asked_body is not None, "only what was changed is refused for it"
        body, self._asked_body = self._asked_body, None
        self._upstream = None  # the first may carry somebody else's exchange already
        shown = ResponseHead(refusal.status, self._redactor.headers(refusal.headers))
        self._recorder.request_restored("usage_refused", shown, error)
        self._recorder.commit()
        self._request = self._plain
        self._upload = Upload(body, complete=True, trailers=self._upload.trailers)
        # On a new connection: many close theirs behind an error, and then nobody would know whether this was read.
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    # The response

    @guarded
    def on_head(self, response: UpstreamResponse) -> None:
        if self._asked_body is None:
            super().on_head(response)
        elif response.status in _REFUSALS and not self._left:
            self._doubted = response
        else:
            self._asked_body = None
            if _is_stream(response):
                self._sieved(response)
            else:
                super().on_head(response)

    @guarded
    def on_chunk(self, data: bytes) -> None:
        if self._doubted is not None:
            self._doubts.append(data)
            if sum(map(len, self._doubts)) > transform.LONGEST_ERROR:
                self._believe(self._doubted)
        elif self._sieve is not None:
            self._recorder.response_chunk(data)
            self._pass(self._sieve, self._sieve.feed(data))
        else:
            super().on_chunk(data)

    @guarded
    def on_data(self, data: bytes) -> None:
        sieve = self._sieve
        if sieve is not None:
            self._recorder.response_chunk(data)
            self._pass(sieve, sieve.feed(data))
            self._recorder.commit()
            if not self._left:
                self._client.flush()
        elif self._doubted is not None:
            self.on_chunk(data)
            self.flush()
        else:
            super().on_data(data)

    @guarded
    def on_end(self, trailers: RawHeaders) -> None:
        refusal = self._doubted
        if refusal is not None:
            error = b"".join(self._doubts)
            assert self._asked_body is not None, "only then it is doubted"
            if transform.complains(error, self._asked_body):
                self._doubted = None
                self._ask_again(refusal, error)
                return
        self._settle()
        super().on_end(trailers)

    @guarded
    def on_broken(self, error: UpstreamError) -> None:
        self._settle()
        super().on_broken(error)

    @guarded
    def on_lost(self, *, reset: bool) -> None:
        self._take_down_unheard()
        super().on_lost(reset=reset)

    def _give_up(self, wire_end: WireEnd, error: str, answer: Answer) -> None:
        if not self._over:
            self._take_down_unheard()
        super()._give_up(wire_end, error, answer)

    def _sieved(self, response: UpstreamResponse) -> None:
        """Begin a stream of which not all may pass: how long that is nobody knows."""
        self._sieve = UsageSieve()
        self._record_head(response)
        self._recorder.response_alters()
        takes_trailers = self._client.request.takes_trailers
        passed = headers.to_client(response, takes_trailers=takes_trailers)
        removed = [header for header in passed.headers if header[0].lower() in headers.OF_ALL_BYTES]
        if removed:
            self._recorder.change(Change("response_header_removed", _text(removed)))
            passed.headers = [header for header in passed.headers if header[0].lower() not in headers.OF_ALL_BYTES]
        if not self._left:
            added.add(passed, self._recorder, self._rules)
            self._client.start(passed, takes_trailers)

    def _pass(self, sieve: UsageSieve, data: bytes) -> None:
        for at, size in sieve.withheld:
            self._recorder.response_withheld("usage_withheld", at, size)
        sieve.withheld.clear()
        if data and not self._left:
            self._recorder.passes(data)
            self._client.write(data)

    def _settle(self) -> None:
        """Nothing more comes: what is held back is for the client."""
        if self._doubted is not None:
            self._believe(self._doubted)
        elif self._sieve is not None:
            self._pass(self._sieve, self._sieve.finish())

    def _believe(self, response: UpstreamResponse) -> None:
        """It is no refusal of ours: it passes as it came."""
        doubts, self._doubts, self._doubted, self._asked_body = self._doubts, [], None, None
        super().on_head(response)
        for data in doubts:
            super().on_chunk(data)

    def _take_down_unheard(self) -> None:
        """Record what is doubted, which nobody is going to hear."""
        response, self._doubted = self._doubted, None
        if response is not None:
            self._asked_body = None
            self._recorder.withhold(Side.RESPONSE)
            self._record_head(response)
            for data in self._doubts:
                self._recorder.response_chunk(data)


def _is_stream(response: UpstreamResponse) -> bool:
    """Whether it is one of server-sent events that can be looked into."""
    if response.bodiless or response.status // 100 != 2:
        return False
    return headers.media_type(response.headers) == b"text/event-stream"


def _text(raw: RawHeaders) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]

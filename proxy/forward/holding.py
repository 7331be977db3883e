"""Relays an exchange whose request is made into another before it goes: held until it is whole where that takes all of
it, and signed where its upstream is asked with credentials of this machine (signer.py).
"""

from __future__ import annotations

import asyncio

from proxy.exchange import Change
from proxy.forward import answers
from proxy.forward.relay import Relay, guarded
from proxy.forward.signer import NoCredentials
from proxy.wire.interface import RawHeaders, UpstreamError, UpstreamRequest, UpstreamResponse

LIMIT_KEY = "forward.transform_limit"
_CONTINUE = UpstreamResponse(100, b"Continue", [], bodiless=True)


class HoldingRelay(Relay):
    """A Relay that does something about its request when it is there, as much of it as that takes."""

    _gone = False  # the request: what comes now is a tunnel's, or more of what is not held
    _signed: UpstreamRequest | None = None  # the request, once it is

    def begin(self) -> None:
        self._parts: list[bytes] = []  # of the request, behind what was there at first
        super().begin()

    @property
    def _holds(self) -> bool:
        """Whether the request must be whole."""
        return self._destination.holds

    @guarded
    def start(self) -> None:
        if self._too_large():
            return
        if self._upload.complete or not self._holds:
            self._go()
        elif self._client.request.awaits_continue and not self._upload.body:
            # The upstream's would come too late: it is not asked before the body is here.
            self._recorder.change(Change("own_interim", [], _CONTINUE.status))
            self._recorder.commit()
            self._client.interim(_CONTINUE)
            self._client.flush()

    @guarded
    def on_body(self, data: bytes) -> None:
        if self._gone:
            super().on_body(data)
            return
        self._uploaded += len(data)
        if self._too_large():
            return
        self._recorder.request_chunk(data)
        self._recorder.commit()
        self._parts.append(data)

    @guarded
    def on_request_end(self, trailers: RawHeaders) -> None:
        super().on_request_end(trailers)
        if not self._gone and not self._over:
            self._go()

    def _too_large(self) -> bool:
        if super()._too_large():
            return True
        limit = self._rules.transform_limit
        if self._uploaded <= limit or not self._holds:
            return False
        self._refuse(answers.too_large(limit, LIMIT_KEY))
        return True

    def _go(self) -> None:
        """The request is there. Raises JournalError."""
        self._gone = True
        if self._parts:
            self._upload.body = b"".join([self._upload.body, *self._parts])
            self._parts.clear()
        self._alter()
        signer = self._destination.signer
        if signer is not None and not signer.ready():
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        self._sign()
        super().start()

    def _alter(self) -> None:
        """Make the whole request into another. Raises JournalError."""

    async def _connect(self) -> None:
        signer = self._destination.signer
        if signer is not None and self._request is not self._signed:
            try:
                await signer.prepare()
            except NoCredentials as error:
                self._connecting = None
                self.on_broken(UpstreamError("credentials", str(error)))
                return
            except Exception as error:  # noqa: BLE001 - a task of its own: nobody else would hear of it
                self._internal(error)
                return
            self._sign()
            if self._over:
                return
        await super()._connect()

    @guarded
    def _sign(self) -> None:
        signer = self._destination.signer
        if signer is not None:
            signed, added = signer.sign(self._request, self._upload.body)
            self._recorder.change(Change("request_header_added", self._redactor.headers(added)))
            self._recorder.commit()
            self._request = self._signed = signed

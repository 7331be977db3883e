"""Credentials that change, as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus

from proxy.forward.signer import Signable, State
from proxy.wire.interface import RawHeaders, UpstreamResponse


class Scripted:
    """A signer.Source: each `fetch` does the next of `steps`, and has a new token. `signed` is what was shown last."""

    query = frozenset((b"key",))
    account = "scripted:1"
    label = "the credentials"

    def __init__(self, *steps: Callable[[], None], whole: bool = True) -> None:
        self.whole = whole
        self._steps = list(steps)
        self.now = State.NONE
        self.fetched = 0
        self.threads: list[threading.Thread] = []
        self.begun = threading.Event()
        self.on_sign: Callable[[Signable], object] = bool

    def state(self) -> State:
        return self.now

    def fetch(self) -> None:
        self.threads.append(threading.current_thread())
        self.begun.set()
        if self._steps:
            self._steps.pop(0)()
        self.fetched += 1
        self.now = State.FRESH

    def headers(self, request: Signable) -> RawHeaders:
        self.signed = request
        self.on_sign(request)
        return [(b"Authorization", b"token-%d" % self.fetched)]

    def forget(self) -> None:
        self.now = State.NONE

    def refusal(self, response: UpstreamResponse) -> tuple[str, bool] | None:
        return ("were refused", True) if response.status == HTTPStatus.UNAUTHORIZED else None

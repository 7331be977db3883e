"""Credentials of this machine that change: each request gets a token or a signature of its own when it goes.

Where they come from is a Source's (aws.py, google.py); here is when they are had. What blocks runs in a thread, once
for all who wait. Must not know AWS, Google or sockets.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import NamedTuple, Protocol

from proxy.forward.held import Carried, carried
from proxy.forward.redact import Redactor
from proxy.log import place
from proxy.mask import KEY_SHAPE
from proxy.wire.interface import RawHeaders, UpstreamRequest, UpstreamResponse

_log = logging.getLogger("forward")

LONGEST_WAIT = 30.0  # seconds that a request waits for credentials
_AGAIN_AFTER = 10.0  # seconds after which credentials that are still good are asked for anew, where that failed
_LONGEST_TEXT = 300  # of an error that is somebody else's


class NoCredentials(Exception):
    """There are none to ask with. The text says why and whose fault that is; it holds no secret."""


class State(Enum):
    """Of the credentials that a source has."""

    FRESH = 0
    STALE = 1  # good still, and to be had anew
    NONE = 2


class Signable(NamedTuple):
    """What of a request may be signed; `body` is empty where the source does not want all of it."""

    method: bytes
    target: bytes
    headers: RawHeaders
    body: bytes


class Source(Protocol):
    """Where credentials come from.

    `whole`: the request's whole body is signed. `query` are the parameters that clients may put a key in. `account`
    tells these from others, for whom they are billed to; `label` names them in a sentence.
    """

    whole: bool
    query: frozenset[bytes]
    account: str
    label: str

    def state(self) -> State:
        """Never blocks."""

    def fetch(self) -> None:
        """Have them, or have them anew; blocks, and is called in a thread. Raises NoCredentials."""

    def headers(self, request: Signable) -> RawHeaders:
        """What a request gets; only called when there are any."""

    def forget(self) -> None:
        """Those that are there were refused: `state` is NONE until a fetch has them from where they come from. A
        request that waited for them meanwhile still gets what there is: `headers` always has something."""

    def refusal(self, response: UpstreamResponse) -> tuple[str, bool] | None:
        """What is wrong with them, or with this machine, as a response tells, with a verb first; and whether others may
        be had."""


class Signer:
    """A Held (held.py) that has something for each request of its own."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._fetching: asyncio.Future[NoCredentials | None] | None = None
        self._again_at = 0.0
        self._said = ""  # in the log

    @property
    def whole(self) -> bool:
        """Whether a request must be here to its end before it goes."""
        return self._source.whole

    def put_on(self, headers: RawHeaders, target: bytes, asked: bytes, redactor: Redactor) -> Carried:
        """See Held; what is put on comes with `sign`."""
        credential = redactor.fingerprint(self._source.account.encode()).decode()
        return carried(headers, [], target, asked, self._source.query, credential, redactor)

    def fault(self, upstream: str, response: UpstreamResponse) -> str | None:
        """See Held."""
        refusal = self._source.refusal(response)
        if refusal is None:
            return None
        problem, others = refusal
        if others:
            self._source.forget()
        text = f"{self._source.label}, with which {upstream} is asked, {problem}"
        self._say(text)
        return text

    def ready(self) -> bool:
        """Whether `sign` may be called now. What grows old is had anew meanwhile."""
        state = self._source.state()
        if state is State.STALE and self._fetching is None and time.monotonic() >= self._again_at:
            self._fetch()
        return state is not State.NONE

    async def prepare(self) -> None:
        """Wait until `sign` may be called. Raises NoCredentials."""
        if self.ready():
            return
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                failure = await asyncio.shield(self._fetching or self._fetch())
        except TimeoutError:
            late = f"within {LONGEST_WAIT:g} s: whoever gives them does not answer"
            raise NoCredentials(f"{self._source.label} could not be had {late}") from None
        if failure is not None:
            raise NoCredentials(str(failure))

    def sign(self, request: UpstreamRequest, body: bytes) -> tuple[UpstreamRequest, RawHeaders]:
        """The request as it goes, and the headers that it has more."""
        first, *lines = request.head.split(b"\r\n")[:-2]
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        target = first.split(b" ")[1]
        added = self._source.headers(Signable(request.method, target, headers, body if self.whole else b""))
        more = b"".join([b"%b: %b\r\n" % header for header in added])
        return replace(request, head=b"%b%b\r\n" % (request.head[:-2], more)), added

    def _fetch(self) -> asyncio.Future[NoCredentials | None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[NoCredentials | None] = loop.create_future()
        # A daemon: whoever gives credentials and does not answer must not keep a worker from its end.
        thread = threading.Thread(target=self._in_thread, args=(loop, future), name="credentials", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more
            self._fetched(future, NoCredentials(f"{self._source.label} could not be had: no thread can be started"))
        else:
            self._fetching = future
        return future

    def _in_thread(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[NoCredentials | None]) -> None:
        failure: NoCredentials | None = None
        try:
            self._source.fetch()
        except NoCredentials as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - nobody would hear of it in a thread
            failure = NoCredentials(f"{self._source.label} could not be had: internal error ({place(error)})")
        with suppress(RuntimeError):  # the worker has ended meanwhile
            loop.call_soon_threadsafe(self._fetched, future, failure)

    def _fetched(self, future: asyncio.Future[NoCredentials | None], failure: NoCredentials | None) -> None:
        self._fetching = None
        if failure is not None:
            self._again_at = time.monotonic() + _AGAIN_AFTER
            self._say(str(failure))
        elif self._said:
            self._said = ""
            _log.info("%s were had", self._source.label)
        if not future.done():
            future.set_result(failure)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            _log.warning("%s", text)


def said(error: object) -> str:
    """What a library, or somebody whom it asked, says, fit to be told: one short line of printable ASCII, without the
    shapes of keys."""
    plain = " ".join(str(error).encode("ascii", "replace").decode().split())
    shown = "".join(char if char.isprintable() else "?" for char in plain)
    masked = KEY_SHAPE.sub(b"...", shown.encode()).decode()
    return masked if len(masked) <= _LONGEST_TEXT else masked[:_LONGEST_TEXT] + "..."

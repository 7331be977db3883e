"""One request to playback, from its head to the end of its answer. Knows the client's side of the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Protocol, runtime_checkable

from proxy.errors import WiretapeError
from proxy.log import place
from proxy.replay.answer import Answer
from proxy.replay.fault_words import BadFault
from proxy.replay.library import Miss
from proxy.replay.player import Player
from proxy.replay.said import Reply, error, missed, send
from proxy.wire.interface import ClientRequest, ClientSide, RawHeaders, RequestError, Upload, UpstreamResponse

_log = logging.getLogger("playback")

MAX_BODY = 32 * 2**20
"""Most bytes of a request that is looked for, or of a cassette that is handed over."""

CONTROL = b"/-/"
"""What targets begin with that ask playback itself."""


_OF_PAGES = frozenset((b"origin", b"sec-fetch-site"))


def is_page(asked: ClientRequest) -> bool:
    """Whether a page of a browser asks: under a name of its own for this machine it could read what was recorded."""
    return any(name.lower() in _OF_PAGES for name, _ in asked.headers)


@runtime_checkable
class Chosen(Protocol):
    """A recording that answers."""

    async def answer(self) -> Answer | None:
        """What is to be played; None if it was deleted. Raises WiretapeError, BadFault."""


class Answering(Protocol):
    """What answers a client: a player, or who sends the request on. Once its end is told it hears nothing more."""

    def play(self) -> None:
        """Begin."""

    def said(self, data: bytes) -> None:
        """Bytes of the client through a tunnel."""

    def silent(self) -> None:
        """The client says no more through a tunnel."""

    def pause(self) -> None:
        """The client is slower."""

    def resume(self) -> None: ...

    def stop(self) -> None:
        """The client is gone."""


class Onward(Protocol):
    """A request that is to be recorded."""

    def send(self, client: ClientSide, upload: Upload, over: Callable[[str | None], None]) -> Answering:
        """Who sends it on; `over` is told the end, and what was in the way of any answer. Raises OSError."""


class Host(Protocol):
    """Who is visited."""

    speed: float | None

    @property
    def control(self) -> Callable[[ClientRequest, bytes], Awaitable[Reply]]:
        """The answer to who asks playback itself."""

    def choose(self, asked: ClientRequest, body: bytes) -> Chosen | Onward | Miss:
        """What answers a request. Raises BadFault."""

    def over(self, visit: Visit) -> None:
        """A visit is at its end."""


class Visit:
    """A wire.interface.ClientListener."""

    def __init__(self, host: Host, client: ClientSide) -> None:
        self._host = host
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._body = bytearray()
        self._trailers: RawHeaders = []
        self._answering: Answering | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._paused = self._said = False

    def begin(self) -> None:
        """Hear the client."""
        upload = self._client.attach(self)
        self._body += upload.body
        self._trailers = upload.trailers or []
        if upload.complete:
            self._decide()
        elif self._client.request.awaits_continue:
            self._client.interim(UpstreamResponse(100, b"Continue", [], bodiless=True))
            self._client.flush()

    def on_body(self, data: bytes) -> None:
        if self._answering is not None:
            self._answering.said(data)
        elif not self._said:
            self._body += data
            if len(self._body) > MAX_BODY and self._waiting is None:
                text = f"no request may have more than {MAX_BODY} bytes"
                self._say(Reply(413, error("request_too_large", text)))

    def on_request_end(self, trailers: RawHeaders) -> None:
        if self._answering is not None:
            self._answering.silent()
        elif self._waiting is None and not self._said:
            self._trailers = trailers
            self._decide()

    def on_request_failed(self, error_: RequestError) -> None:
        self._say(Reply(error_.status, error(error_.kind, str(error_))))

    def on_lost(self, *, reset: bool) -> None:
        self.leave()

    def pause_response(self) -> None:
        self._paused = True
        if self._answering is not None:
            self._answering.pause()

    def resume_response(self) -> None:
        self._paused = False
        if self._answering is not None:
            self._answering.resume()

    def leave(self) -> None:
        """There is nobody any more to be answered."""
        if self._answering is not None:
            self._answering.stop()
        if self._waiting is not None:
            self._waiting.cancel()
        self._host.over(self)

    def _say(self, reply: Reply) -> None:
        """Answer in our own words."""
        self._said = True
        send(self._client, reply)
        self.leave()

    def _decide(self) -> None:
        asked = self._client.request
        # What comes behind a request for another protocol is no body.
        body = b"" if asked.upgrade else bytes(self._body)
        if asked.target.startswith(CONTROL):
            self._wait(self._control(asked, body))
            return
        if is_page(asked):
            text = "playback answers programs of this machine, and no page of a browser"
            self._say(Reply(403, error("forbidden", text)))
            return
        try:
            chosen = self._host.choose(asked, body)
            if isinstance(chosen, Miss):
                _log.warning(
                    "a request has no recording: %s", chosen.rule or "all of its own are used, or there is none"
                )
                self._say(Reply(404, missed(chosen)))
            elif isinstance(chosen, Chosen):
                self._wait(self._play(chosen))
            else:
                self._answer(chosen.send(self._client, Upload(body, trailers=self._trailers), self._sent))
        except BadFault as problem:
            self._say(Reply(400, error("bad_fault", str(problem))))
        except OSError as problem:
            self._say(Reply(503, error("cannot_record", f"no pass can be written ({problem.strerror})")))
        except Exception as problem:  # noqa: BLE001 - the edge of a request: it must not take the others with it
            self._fail(problem, "a recording was looked for")

    def _wait(self, answer: Coroutine[None, None, None]) -> None:
        self._waiting = self._loop.create_task(answer)

    def _fail(self, problem: Exception, what: str) -> None:
        _log.error("internal error while %s (%s)", what, place(problem))
        self._say(Reply(500, error("internal_error", f"playback failed ({place(problem)}); please report it")))

    async def _control(self, asked: ClientRequest, body: bytes) -> None:
        try:
            reply = await self._host.control(asked, body)
        except Exception as problem:  # noqa: BLE001 - the edge of a task: whoever waits for the answer must be told
            self._fail(problem, "a session was asked for")
            return
        self._say(reply)

    async def _play(self, chosen: Chosen) -> None:
        try:
            answer = await chosen.answer()
        except BadFault as problem:
            _log.warning("a fault has no room in its recording: %s", problem)
            self._say(Reply(400, error("bad_fault", str(problem))))
            return
        except WiretapeError as problem:
            _log.warning("a recording cannot be read: %s", problem)
            self._say(Reply(503, error("database_away", "the recording cannot be read now; try again")))
            return
        except Exception as problem:  # noqa: BLE001 - the edge of a task: whoever waits for the answer must be told
            self._fail(problem, "a recording was read")
            return
        if answer is None:
            self._say(Reply(404, error("no_recording", "the recording was deleted")))
            return
        self._answer(Player(self._client, answer, self._host.speed, self._began, self._over))

    def _answer(self, answering: Answering) -> None:
        self._answering = answering
        if self._paused:
            answering.pause()
        answering.play()
        if self._client.request.upgrade and self._body:
            answering.said(bytes(self._body))

    def _sent(self, problem: str | None) -> None:
        if problem is None:
            self._host.over(self)
        else:
            self._answering = None
            self._say(Reply(502, error("cannot_record", f"it is not recorded, and cannot be now: {problem}")))

    def _over(self) -> None:
        self._host.over(self)

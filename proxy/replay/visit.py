"""One request to playback, from its head to the end of its answer. Knows the client's side of the wire."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from proxy.errors import WiretapeError
from proxy.log import place
from proxy.replay.answer import Answer
from proxy.replay.fault_words import BadFault
from proxy.replay.library import Miss
from proxy.replay.player import Player
from proxy.replay.said import error, missed, send
from proxy.wire.interface import ClientRequest, ClientSide, RawHeaders, RequestError, UpstreamResponse

_log = logging.getLogger("playback")

MAX_BODY = 32 * 2**20
"""Most bytes of a request that is looked for, or of a cassette that is handed over."""

CONTROL = b"/-/"
"""What targets begin with that ask playback itself."""


_OF_PAGES = frozenset((b"origin", b"sec-fetch-site"))


def is_page(asked: ClientRequest) -> bool:
    """Whether a page of a browser asks: under a name of its own for this machine it could read what was recorded."""
    return any(name.lower() in _OF_PAGES for name, _ in asked.headers)


class Chosen(Protocol):
    """A recording that answers."""

    async def answer(self) -> Answer | None:
        """What is to be played; None if it was deleted. Raises WiretapeError, BadFault."""


class Host(Protocol):
    """Who is visited."""

    speed: float | None

    def choose(self, asked: ClientRequest, body: bytes) -> Chosen | Miss:
        """Which recording answers a request. Raises BadFault."""

    def control(self, asked: ClientRequest, body: bytes) -> tuple[int, bytes]:
        """The answer to who asks playback itself: a status, and JSON."""

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
        self._player: Player | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._paused = self._said = False

    def begin(self) -> None:
        """Hear the client."""
        upload = self._client.attach(self)
        self._body += upload.body
        if upload.complete:
            self._decide()
        elif self._client.request.awaits_continue:
            self._client.interim(UpstreamResponse(100, b"Continue", [], bodiless=True))
            self._client.flush()

    def on_body(self, data: bytes) -> None:
        if self._player is not None:
            self._player.said(data)
        elif not self._said:
            self._body += data
            if len(self._body) > MAX_BODY and self._waiting is None:
                self._say(413, error("request_too_large", f"no request may have more than {MAX_BODY} bytes"))

    def on_request_end(self, trailers: RawHeaders) -> None:
        if self._player is None and self._waiting is None and not self._said:
            self._decide()

    def on_request_failed(self, error_: RequestError) -> None:
        self._say(error_.status, error(error_.kind, str(error_)))

    def on_lost(self, *, reset: bool) -> None:
        self.leave()

    def pause_response(self) -> None:
        self._paused = True
        if self._player is not None:
            self._player.pause()

    def resume_response(self) -> None:
        self._paused = False
        if self._player is not None:
            self._player.resume()

    def leave(self) -> None:
        """There is nobody any more to be answered."""
        if self._player is not None:
            self._player.stop()
        if self._waiting is not None:
            self._waiting.cancel()
        self._host.over(self)

    def _say(self, status: int, body: bytes) -> None:
        """Answer in our own words."""
        self._said = True
        send(self._client, status, body)
        self.leave()

    def _decide(self) -> None:
        asked = self._client.request
        # What comes behind a request for another protocol is no body.
        body = b"" if asked.upgrade else bytes(self._body)
        try:
            if asked.target.startswith(CONTROL):
                self._say(*self._host.control(asked, body))
                return
            if is_page(asked):
                self._say(
                    403, error("forbidden", "playback answers programs of this machine, and no page of a browser")
                )
                return
            chosen = self._host.choose(asked, body)
        except BadFault as problem:
            self._say(400, error("bad_fault", str(problem)))
            return
        except Exception as problem:  # noqa: BLE001 - the edge of a request: it must not take the others with it
            _log.error("internal error while looking for a recording (%s)", place(problem))
            self._say(500, error("internal_error", f"playback failed ({place(problem)}); please report it"))
            return
        if isinstance(chosen, Miss):
            _log.warning("a request has no recording: %s", chosen.rule or "all of its own are used, or there is none")
            self._say(404, missed(chosen))
            return
        self._waiting = self._loop.create_task(self._play(chosen))

    async def _play(self, chosen: Chosen) -> None:
        try:
            answer = await chosen.answer()
        except BadFault as problem:
            _log.warning("a fault has no room in its recording: %s", problem)
            self._say(400, error("bad_fault", str(problem)))
            return
        except WiretapeError as problem:
            _log.warning("a recording cannot be read: %s", problem)
            self._say(503, error("database_away", "the recording cannot be read now; try again"))
            return
        except Exception as problem:  # noqa: BLE001 - the edge of a task: whoever waits for the answer must be told
            _log.error("internal error while a recording was read (%s)", place(problem))
            self._say(500, error("internal_error", f"playback failed ({place(problem)}); please report it"))
            return
        if answer is None:
            self._say(404, error("no_recording", "the recording was deleted"))
            return
        self._player = Player(self._client, answer, self._host.speed, self._began, self._over)
        if self._paused:
            self._player.pause()
        self._player.play()
        if self._client.request.upgrade and self._body:
            self._player.said(bytes(self._body))

    def _over(self) -> None:
        self._host.over(self)

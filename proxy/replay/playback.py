"""Playback: answers requests as their upstreams did, out of what was recorded. It opens no connection to anybody but
the data port, and that only where what was not recorded may be.

A request for which there is no recording gets an error of ours that names the nearest one and what differs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import unquote
from uuid import UUID

from proxy.interpret.headers import joined
from proxy.interpret.recorded import place_of
from proxy.replay.answer import Answer
from proxy.replay.fault_words import HEADER, Fault, parse
from proxy.replay.faults import faulty
from proxy.replay.library import Miss, Recording
from proxy.replay.match import Request, title_of
from proxy.replay.onward import DataPort, Sending
from proxy.replay.said import Reply, error, json_headers
from proxy.replay.session import Mode, Session
from proxy.replay.visit import Visit
from proxy.wire.interface import ClientRequest, ClientSide, RequestError, Upload

_log = logging.getLogger("playback")


def session_of(tags: str, headers: list[tuple[str, str]]) -> str:
    """Whose session it is, by the tags of a path (`session=a,b=c`), or else by its header."""
    named = dict(tag.partition("=")[::2] for tag in unquote(tags).split(","))
    by_header = next((value for name, value in headers if name.lower() == "x-wiretape-session"), "")
    return named.get("session", by_header)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A recording that answers."""

    session: Session
    recording: UUID
    fault: Fault | None
    bodiless: bool

    async def answer(self) -> Answer | None:
        found = await self.session.stock.answer(self.recording)
        if found is None or self.fault is None:
            return found
        _log.info("played with a fault (%s): %s", self.fault.text, self.recording)
        return faulty(found, self.fault, bodiless=self.bodiless)


@dataclass(frozen=True, slots=True)
class _Onward:
    """A request that is to be recorded, as `recording`, once it is known what exchange it became."""

    port: DataPort
    session: Session
    asker: str
    recording: Recording

    def send(self, client: ClientSide, upload: Upload, over: Callable[[str | None], None]) -> Sending:
        sending = self.port.send(client, upload, self._recorded, partial(self._over, over))
        self.session.begun()
        return sending

    def _recorded(self, exchange: UUID) -> None:
        self.session.recorded.append(exchange)
        if self.session.mode != "record":
            found = self.recording
            made = Recording(exchange, found.upstream, found.title, found.request)
            self.session.stock.library.add(made, used_by=self.asker)

    def _over(self, tell: Callable[[str | None], None], problem: str | None) -> None:
        self.session.ended()
        tell(problem)


class Playback:
    """A visit.Host. `common` answers whoever has opened no session; `modes` by upstream are for it alone; without a
    `port` nothing can be recorded. `speed` is that of the player, `fault` for requests and recordings that bring none,
    `control` answers who asks playback itself."""

    def __init__(
        self,
        common: Session,
        speed: float | None = None,
        port: DataPort | None = None,
        modes: dict[str, Mode] | None = None,
        fault: Fault | None = None,
    ) -> None:
        self.common = common
        self.speed = speed
        self.port = port
        self.played = self.missed = self.sent_on = 0
        self.opened: dict[str, Session] = {}
        self.control: Callable[[ClientRequest, bytes], Awaitable[Reply]]
        self._modes = modes or {}
        self._fault = fault
        self._visits: set[Visit] = set()

    def take(self, client: ClientSide) -> None:
        """Answer a request; never raises (see wire.server.Take)."""
        visit = Visit(self, client)
        self._visits.add(visit)
        visit.begin()

    def refuse(self, problem: RequestError) -> tuple[bytes, bytes]:
        """What the wire could not take (see wire.server.Refuse)."""
        body = error(problem.kind, str(problem))
        lines = [b"HTTP/1.1 %d %b\r\n" % (problem.status, HTTPStatus(problem.status).phrase.encode())]
        lines += [b"%b: %b\r\n" % header for header in (*json_headers(body), (b"connection", b"close"))]
        return b"".join(lines), body

    def stop(self) -> None:
        """Break off what is under way."""
        for visit in list(self._visits):
            visit.leave()
        if self.port is not None:
            self.port.close()

    def over(self, visit: Visit) -> None:
        self._visits.discard(visit)

    def session(self, name: str) -> Session:
        """The session of this name that was opened; else what all others share."""
        return self.opened.get(name, self.common)

    def choose(self, asked: ClientRequest, body: bytes) -> _Chosen | _Onward | Miss:
        method, headers = asked.method.decode("latin-1"), headers_of(asked)
        where = place_of(asked.target.decode("latin-1"))
        words = joined(headers, HEADER)
        wanted = None if words is None else parse(words)
        name = session_of(where.tags, headers)
        session, upstream = self.session(name), unquote(where.upstream)
        mode = self._modes.get(upstream, session.mode) if session is self.common else session.mode
        request = Request(method, where.target, headers, body)
        canonical, title = session.matcher.canonical(request), title_of(request)
        if mode != "record":
            library = session.stock.library
            found = library.find(upstream, title, canonical, name, reported=mode == "playback")
            if isinstance(found, Recording):
                self.played += 1
                fault = library.hit(found, wanted, self._fault, name)
                return _Chosen(session, found.id, fault, method == "HEAD")
            if mode == "playback":
                self.missed += 1
                return found
        assert self.port is not None, "no session is opened, and no mode set, for which one would be needed"
        self.sent_on += 1
        return _Onward(self.port, session, name, Recording(UUID(int=0), upstream, title, canonical))


def headers_of(asked: ClientRequest) -> list[tuple[str, str]]:
    """As text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in asked.headers]

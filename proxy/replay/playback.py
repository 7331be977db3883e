"""Playback: answers requests as their upstreams did, out of what was recorded. It opens no connection to anybody.

A request for which there is no recording gets an error of ours that names the nearest one and what differs. Sessions
may bring a cassette of their own, over HTTP.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote
from uuid import UUID

import msgspec

from proxy.errors import UsageError
from proxy.interpret.headers import joined
from proxy.interpret.recorded import place_of
from proxy.replay.answer import Answer
from proxy.replay.cassette_reader import tracks
from proxy.replay.fault_words import HEADER, Fault, parse
from proxy.replay.faults import faulty
from proxy.replay.library import Miss, Order
from proxy.replay.match import Matcher, Request, title_of
from proxy.replay.said import error, json_headers, report
from proxy.replay.stock import Stock, stock_of
from proxy.replay.visit import Visit, is_page
from proxy.wire.interface import ClientRequest, ClientSide, RequestError

_log = logging.getLogger("playback")

SESSIONS = "/-/sessions/"
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?", re.IGNORECASE)
_HELP = f"playback answers /-/live, /-/ready, and GET, PUT and DELETE of {SESSIONS}NAME"


def session_of(tags: str, headers: list[tuple[str, str]]) -> str:
    """Whose session it is, by the tags of a path (`session=a,b=c`), or else by its header."""
    named = dict(tag.partition("=")[::2] for tag in unquote(tags).split(","))
    by_header = next((value for name, value in headers if name.lower() == "x-wiretape-session"), "")
    return named.get("session", by_header)


@dataclass(frozen=True, slots=True)
class _Chosen:
    stock: Stock
    recording: UUID
    fault: Fault | None
    bodiless: bool

    async def answer(self) -> Answer | None:
        found = await self.stock.answer(self.recording)
        if found is None or self.fault is None:
            return found
        _log.info("played with a fault (%s): %s", self.fault.text, self.recording)
        return faulty(found, self.fault, bodiless=self.bodiless)


class Playback:
    """A visit.Host. `stock` is what all sessions are answered from that have brought no cassette; `speed` is that of
    the player, `order` that of sessions' cassettes. `fault` is for requests and recordings that bring none."""

    def __init__(
        self,
        stock: Stock,
        matcher: Matcher,
        speed: float | None = None,
        order: Order = "sequence",
        fault: Fault | None = None,
    ) -> None:
        self.stock = stock
        self.speed = speed
        self.played = self.missed = 0
        self._matcher = matcher
        self._order: Order = order
        self._fault = fault
        self._own: dict[str, Stock] = {}  # of sessions
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

    def over(self, visit: Visit) -> None:
        self._visits.discard(visit)

    def choose(self, asked: ClientRequest, body: bytes) -> _Chosen | Miss:
        method, headers = asked.method.decode("latin-1"), _headers(asked)
        where = place_of(asked.target.decode("latin-1"))
        session = session_of(where.tags, headers)
        words = joined(headers, HEADER)
        wanted = None if words is None else parse(words)
        request = Request(method, where.target, headers, body)
        stock = self._of(session)
        canonical = self._matcher.canonical(request)
        found = stock.library.find(unquote(where.upstream), title_of(request), canonical, session)
        if isinstance(found, Miss):
            self.missed += 1
            return found
        self.played += 1
        fault = stock.library.hit(found, wanted, self._fault, session)
        return _Chosen(stock, found.id, fault, method == "HEAD")

    def _of(self, session: str) -> Stock:
        return self._own.get(session, self.stock)

    def control(self, asked: ClientRequest, body: bytes) -> tuple[int, bytes]:
        path, method = asked.target.decode("latin-1").partition("?")[0], asked.method
        if is_page(asked) or not _is_ours(_headers(asked)):
            return 403, error("forbidden", "only programs of this machine may ask this, and no page of a browser")
        if path in {"/-/live", "/-/ready"} and method == b"GET":
            return 200, msgspec.json.encode({"ok": True})
        session = unquote(path.removeprefix(SESSIONS))
        if not path.startswith(SESSIONS):
            return 404, error("not_found", _HELP)
        if method == b"PUT":
            return self._bring(session, body)
        if method not in {b"GET", b"DELETE"}:
            return 405, error("not_found", _HELP)
        said = report(self._of(session).library, session)
        if method == b"DELETE":
            self._of(session).library.forget(session)
            self._own.pop(session, None)
        return 200, said

    def _bring(self, session: str, cassette: bytes) -> tuple[int, bytes]:
        """A session's own cassette; it begins anew."""
        if not session:
            return 400, error("bad_request", f"a session needs a name: PUT {SESSIONS}NAME")
        try:
            found = tracks(cassette.decode().split("\n"))
        except UsageError as problem:
            return 400, error("bad_cassette", f"the cassette cannot be played: {problem}")
        except UnicodeDecodeError:
            return 400, error("bad_cassette", "the cassette cannot be played: it is not UTF-8 text")
        stock = self._own[session] = stock_of(found, self._matcher, self._order)
        return 201, report(stock.library, session)


def _headers(asked: ClientRequest) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in asked.headers]


def _is_ours(headers: list[tuple[str, str]]) -> bool:
    """Whether this machine is asked under a name that is its own, and not one that a page gave it (DNS rebinding)."""
    hosts = [value for name, value in headers if name.lower() == "host"]
    return len(hosts) == 1 and _LOOPBACK.fullmatch(hosts[0]) is not None

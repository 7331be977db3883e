"""Playback: answers requests as their upstreams did, out of what was recorded. It opens no connection to anybody.

A request for which there is no recording gets an error of ours that names the nearest one and what differs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote
from uuid import UUID

import msgspec

from proxy.errors import WiretapeError
from proxy.interpret.recorded import upstream_target
from proxy.log import place
from proxy.replay.answer import Answer
from proxy.replay.library import Library, Miss
from proxy.replay.match import Matcher, Request
from proxy.replay.player import Player
from proxy.wire.interface import ClientSide, RawHeaders, RequestError, UpstreamResponse

_log = logging.getLogger("playback")

MAX_BODY = 32 * 2**20
"""Most bytes of a request that is looked for."""

KEPT = 64 * 2**20
"""Bytes of answers that are kept, to be played again."""

Load = Callable[[UUID], Awaitable[Answer | None]]


class Place(NamedTuple):
    """What a target of the data port names: the upstream, and whose session it is."""

    upstream: str
    session: str


def place_of(target: str, headers: list[tuple[str, str]]) -> Place:
    """Of a target such as `/~session=a/openai/v1/models`, or the header that names the session."""
    segments = target.partition("?")[0].split("/")[1:]
    session = next((value for name, value in headers if name.lower() == "x-wiretape-session"), "")
    if segments and segments[0].startswith("~"):
        tags = dict(tag.partition("=")[::2] for tag in unquote(segments[0][1:]).split(","))
        session = tags.get("session", session)
        segments = segments[1:]
    return Place(unquote(segments[0]) if segments else "", session)


class Playback:
    """`load` brings an answer; `speed` is that of the player."""

    def __init__(self, library: Library, matcher: Matcher, load: Load, speed: float | None = None) -> None:
        self.library = library
        self.played = self.missed = 0
        self._matcher = matcher
        self._load = load
        self._speed = speed
        self._kept: OrderedDict[UUID, Answer] = OrderedDict()
        self._loading: dict[UUID, asyncio.Future[Answer | None]] = {}
        self._room = KEPT
        self._visits: set[_Visit] = set()

    def take(self, client: ClientSide) -> None:
        """Answer a request; never raises (see wire.server.Take)."""
        if client.request.target.startswith(b"/-/"):
            self._tell(client)
            return
        visit = _Visit(self, client)
        self._visits.add(visit)
        visit.begin()

    def refuse(self, error: RequestError) -> tuple[bytes, bytes]:
        """What the wire could not take (see wire.server.Refuse)."""
        body = _error(error.kind, str(error))
        lines = [b"HTTP/1.1 %d %b\r\n" % (error.status, HTTPStatus(error.status).phrase.encode())]
        lines += [b"%b: %b\r\n" % header for header in (*_json_headers(body), (b"connection", b"close"))]
        return b"".join(lines), body

    def stop(self) -> None:
        """Break off what is under way."""
        for visit in list(self._visits):
            visit.leave()

    def over(self, visit: _Visit) -> None:
        """Called by a visit that is at its end."""
        self._visits.discard(visit)

    def choose(self, client: ClientSide, body: bytes) -> UUID | Miss:
        """Which recording answers a request."""
        asked = client.request
        target, method = asked.target.decode("latin-1"), asked.method.decode("latin-1")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in asked.headers]
        where = place_of(target, headers)
        request = Request(method, upstream_target(target), headers, body)
        title = f"{method} {request.target.partition('?')[0]}"
        found = self.library.find(where.upstream, title, self._matcher.canonical(request), where.session)
        if isinstance(found, Miss):
            self.missed += 1
            return found
        self.played += 1
        return found.id

    async def answer(self, recording: UUID) -> Answer | None:
        """What is to be played; None if it was deleted."""
        kept = self._kept.get(recording)
        if kept is not None:
            self._kept.move_to_end(recording)
            return kept
        loading = self._loading.get(recording)
        if loading is None:
            loading = self._loading[recording] = asyncio.ensure_future(self._load(recording))
            loading.add_done_callback(partial(self._loaded, recording))
        return await asyncio.shield(loading)  # others wait for it too

    def _loaded(self, recording: UUID, loading: asyncio.Future[Answer | None]) -> None:
        del self._loading[recording]
        found = None if loading.cancelled() or loading.exception() is not None else loading.result()
        if found is None or found.size > KEPT:
            return
        self._kept[recording] = found
        self._room -= found.size
        while self._room < 0:
            _, old = self._kept.popitem(last=False)
            self._room += old.size

    def player(self, client: ClientSide, answer: Answer, began: float, over: Callable[[], None]) -> Player:
        """What plays an answer to a client."""
        return Player(client, answer, self._speed, began, over)

    def _tell(self, client: ClientSide) -> None:
        path, _, query = client.request.target.decode("latin-1").partition("?")
        session = unquote(query.removeprefix("session="))
        if path in {"/-/live", "/-/ready"}:
            _send(client, 200, msgspec.json.encode({"ok": True}))
        elif path == "/-/report":
            _send(client, 200, msgspec.json.encode(_report(self.library, session)))
        else:
            _send(client, 404, _error("not_found", "playback answers /-/live, /-/ready and /-/report"))


class _Visit:
    """One request; a wire.interface.ClientListener."""

    def __init__(self, playback: Playback, client: ClientSide) -> None:
        self._playback = playback
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._body = bytearray()
        self._player: Player | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._paused = False

    def begin(self) -> None:
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
            return
        self._body += data
        if len(self._body) > MAX_BODY and self._waiting is None:
            _send(self._client, 413, _error("request_too_large", f"no recording has more than {MAX_BODY} bytes"))
            self.leave()

    def on_request_end(self, trailers: RawHeaders) -> None:
        if self._player is None and self._waiting is None:
            self._decide()

    def on_request_failed(self, error: RequestError) -> None:
        _send(self._client, error.status, _error(error.kind, str(error)))
        self.leave()

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
        self._playback.over(self)

    def _decide(self) -> None:
        try:
            # What comes behind a request for another protocol is no body.
            body = b"" if self._client.request.upgrade else bytes(self._body)
            chosen = self._playback.choose(self._client, body)
        except Exception as error:  # noqa: BLE001 - the edge of a request: it must not take the others with it
            _log.error("internal error while looking for a recording (%s)", place(error))
            _send(self._client, 500, _error("internal_error", f"playback failed ({place(error)}); please report it"))
            self.leave()
            return
        if isinstance(chosen, Miss):
            _log.warning("a request has no recording: %s", chosen.rule or "all of its own are used, or there is none")
            _send(self._client, 404, _missed(chosen))
            self.leave()
            return
        self._waiting = self._loop.create_task(self._play(chosen))

    async def _play(self, chosen: UUID) -> None:
        try:
            answer = await self._playback.answer(chosen)
        except WiretapeError as error:
            _log.warning("a recording cannot be read: %s", error)
            _send(self._client, 503, _error("database_away", f"the recording {chosen} cannot be read now"))
            self.leave()
            return
        if answer is None:
            _send(self._client, 404, _error("no_recording", f"the recording {chosen} was deleted"))
            self.leave()
            return
        self._player = self._playback.player(self._client, answer, self._began, partial(self._playback.over, self))
        if self._paused:
            self._player.pause()
        self._player.play()
        if self._client.request.upgrade and self._body:
            self._player.said(bytes(self._body))


# What is said


def _missed(miss: Miss) -> bytes:
    more: dict[str, Any] = {}
    if miss.nearest is not None:
        more = {
            "nearest": str(miss.nearest.id),
            "rule": miss.rule,
            "differences": [each._asdict() for each in miss.differences],
        }
    return _error("no_recording", miss.sentence, **more)


def _report(library: Library, session: str) -> dict[str, Any]:
    found = library.report(session)
    return {
        "recordings": len(library),
        "unused": [{"id": str(each.id), "request": each.title} for each in found.unused],
        "unmatched": [{"request": each.title, "problem": each.sentence} for each in found.unmatched],
        "equal": [[str(each.id) for each in shelf] for shelf in found.equal],
    }


def _error(kind: str, message: str, **more: Any) -> bytes:
    """In a form that the SDKs of all providers find their message in."""
    said = {"type": f"wiretape_{kind}", "message": message, **more}
    return msgspec.json.encode({"type": "error", "error": said, "message": message})


def _json_headers(body: bytes) -> RawHeaders:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-should-retry", b"false"),
    ]


def _send(client: ClientSide, status: int, body: bytes) -> None:
    reason = HTTPStatus(status).phrase.encode()
    head = client.request.method == b"HEAD"
    client.start(UpstreamResponse(status, reason, _json_headers(body), bodiless=head))
    if not head:
        client.write(body)
    client.end([])
    client.flush()

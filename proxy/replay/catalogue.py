"""The recordings that can answer, of a store (their answers stay there) or of a cassette."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from uuid import UUID

from proxy.exchange import Origin
from proxy.interpret.recorded import upstream_target
from proxy.replay.answer import is_playable
from proxy.replay.cassette import Track
from proxy.replay.fault_words import Fault, parse
from proxy.replay.library import Recording
from proxy.replay.match import Matcher, Request, title_of
from proxy.replay.shelf import is_switched
from proxy.store import Engine
from proxy.store.engine import reading
from proxy.store.read import Filters, list_exchanges
from proxy.store.rows import Exchange
from proxy.store.unread import Recorded, recorded

_log = logging.getLogger("playback")

MOST = 20_000
"""Exchanges that are looked at, the newest ones."""

_PAGE = 500


def catalogue(engine: Engine, matcher: Matcher, filters: Filters, most: int = MOST) -> list[Recording]:
    """The recordings that pass, the oldest first."""
    found: list[Recording] = []
    seen = 0
    for page in _pages(engine, filters):
        seen += len(page)
        playable = {each.id: each for each in page if each.origin is not Origin.PLAYBACK and is_playable(each)}
        with reading(engine) as connection:
            found += [_recording(matcher, each) for each in recorded(connection, list(playable))]
        if seen >= most:
            _log.warning("the newest %d exchanges are played, older ones not: narrow them by a session or a tag", seen)
            break
    return sorted(found, key=lambda each: each.id)


def _pages(engine: Engine, filters: Filters) -> Iterator[list[Exchange]]:
    before: UUID | None = None
    while True:
        with reading(engine) as connection:
            page = list_exchanges(connection, filters, _PAGE, before)
        if not page:
            return
        yield page
        before = page[-1].id


def catalogue_of(tracks: Iterable[Track], matcher: Matcher) -> list[Recording]:
    """The recordings of a cassette, in its order."""
    return [
        _made(
            matcher,
            track.id,
            track.upstream,
            Request(track.method, track.target, track.headers, b"" if is_switched(track) else _joined(track.request)),
            None if track.fault is None else parse(track.fault),
        )
        for track in tracks
    ]


def _recording(matcher: Matcher, found: Recorded) -> Recording:
    # What the client says after a switch of protocols is no body.
    body = b"" if found.status == 101 else _joined(found.request)
    target = found.target_long or found.target or ""
    asked = Request(found.method or "", target, found.request_headers, body)
    return _made(matcher, found.id, found.upstream or "", asked)


def _made(matcher: Matcher, exchange: UUID, upstream: str, asked: Request, fault: Fault | None = None) -> Recording:
    """Of a request as the data port got it."""
    request = asked._replace(target=upstream_target(asked.target))
    return Recording(exchange, upstream, title_of(request), matcher.canonical(request), fault)


def _joined(pieces: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(data for _, data in pieces)

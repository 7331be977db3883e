"""Recordings with their answers at hand: what was played is kept for a while, to be played again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

from proxy.replay.answer import Answer
from proxy.replay.cassette import Track
from proxy.replay.catalogue import catalogue_of
from proxy.replay.library import Library, Order
from proxy.replay.match import Matcher
from proxy.replay.shelf import answer_of

KEPT = 64 * 2**20
"""Bytes of answers that are kept."""

Load = Callable[[UUID], Awaitable[Answer | None]]


class Stock:
    """`load` brings an answer. To be used by one event loop."""

    def __init__(self, library: Library, load: Load) -> None:
        self.library = library
        self._load = load
        self._kept: OrderedDict[UUID, Answer] = OrderedDict()
        self._loading: dict[UUID, asyncio.Future[Answer | None]] = {}
        self._room = KEPT

    async def answer(self, recording: UUID) -> Answer | None:
        """What is to be played; None if it was deleted. Raises what `load` raises."""
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


async def nothing(_: UUID) -> None:
    """Where nothing but a cassette is played."""


def stock_of(tracks: Sequence[Track], matcher: Matcher, order: Order, load: Load = nothing) -> Stock:
    """A cassette's, all of it in memory; what is recorded later is brought by `load`."""
    answers = {track.id: answer_of(track) for track in tracks}

    async def look_up(recording: UUID) -> Answer | None:
        return answers[recording] if recording in answers else await load(recording)

    return Stock(Library(catalogue_of(tracks, matcher), order), look_up)

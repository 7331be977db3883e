"""Sessions: requests that belong together, what answers them, and the cassette that becomes of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args
from uuid import UUID

from proxy.errors import WiretapeError
from proxy.replay.cassette import Track, lines
from proxy.replay.cassette_reader import Cassette
from proxy.replay.match import NO_RULES, Matcher
from proxy.replay.shelf import track_of
from proxy.replay.stock import Stock
from proxy.store import Engine, read
from proxy.store.engine import reading

Mode = Literal["playback", "record", "record-missing"]
"""Recordings answer and nobody else; the upstreams do, and are recorded; or the upstreams for what was not recorded."""

MODES: tuple[str, ...] = get_args(Mode)
PATIENCE = 30.0
"""Seconds until what was recorded must be stored."""

POLL = 0.02
_TAGS = re.compile(r"\A/~[^/]*")


@dataclass(slots=True)
class Session:
    """`cassette` is what it was opened with, `recorded` the exchanges that were recorded in it, as they ended."""

    name: str
    mode: Mode
    stock: Stock
    matcher: Matcher
    cassette: Cassette = field(default_factory=lambda: Cassette([], NO_RULES))
    recorded: list[UUID] = field(default_factory=list)
    under_way: int = 0  # requests that are being recorded
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)

    def begun(self) -> None:
        """One more is being recorded."""
        self.under_way += 1
        self._quiet.clear()

    def ended(self) -> None:
        """One less is."""
        self.under_way -= 1
        if not self.under_way:
            self._quiet.set()

    async def quiet(self, patience: float = PATIENCE) -> None:
        """Until nothing is being recorded. Raises TimeoutError."""
        async with asyncio.timeout(patience):
            while self.under_way:
                await self._quiet.wait()

    def text(self, engine: Engine | None, patience: float = PATIENCE) -> Iterator[str]:
        """What is to be kept of it: what it was opened with, unless all was recorded anew, and what was recorded; as
        lines with their ends. Raises WiretapeError where that cannot be had."""
        kept = [] if self.mode == "record" else self.cassette.tracks
        fresh = [] if engine is None else list(_stored(engine, sorted(self.recorded), patience))
        for line in lines([*kept, *fresh], self.cassette.rules):
            yield f"{line}\n"


def _stored(engine: Engine, ids: Sequence[UUID], patience: float) -> Iterator[Track]:
    """What was recorded, as a cassette keeps it: whose it was is known by the cassette's name."""
    until = time.monotonic() + patience
    for each in ids:
        track = _track(engine, each, until)
        track.target, track.session = _TAGS.sub("", track.target), None
        yield track


def _track(engine: Engine, exchange: UUID, until: float) -> Track:
    while True:
        with reading(engine) as connection:
            found = read.get_exchange(connection, exchange)
            if found is not None and found.outcome is not None:
                track = track_of(connection, found)
                if track is None:
                    raise WiretapeError(f"{exchange} was not recorded whole, so that it cannot be played")
                return track
        if time.monotonic() > until:
            raise WiretapeError(f"{exchange} is not stored yet: see `wiretape doctor`")
        time.sleep(POLL)

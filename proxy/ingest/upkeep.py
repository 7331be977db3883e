"""What is done now and then beside storing: partitions made ahead, packing, retention. In short steps, by one node.

Must not know journals. Whoever finds another at it leaves it to that one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from proxy.store import Engine
from proxy.store.engine import one_at_a_time, server_time
from proxy.store.names import first_id
from proxy.store.pack import pack_some
from proxy.store.partitions import Room
from proxy.store.retention import Pruned, Retention, keep_within, prune

_log = logging.getLogger("ingest")

PACK_EVERY = 60.0  # seconds between two looks for what can be packed, once all was
PRUNE_EVERY = 600.0
STEP = 0.1  # seconds of one step of packing

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be kept up. `pack_after` None: never."""

    pack_after: timedelta | None = None
    retention: Retention = field(default_factory=Retention)


class Upkeep:
    """Each call of `step` is short, but for the one that prunes: that is done in short transactions of its own."""

    def __init__(self, engine: Engine, room: Room, plan: Plan, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._room = room
        self._plan = plan
        self._clock = clock
        self._packed_to = UUID(int=0)
        self._pack_at = self._prune_at = time.monotonic()

    def step(self) -> bool:
        """Do what is due; whether there may be more at once."""
        self._room.make_ahead()
        now = time.monotonic()
        more = False
        if self._plan.pack_after is not None and now >= self._pack_at:
            more = self._pack(self._plan.pack_after)
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY
            self._prune()
        return more

    def _pack(self, after: timedelta) -> bool:
        before = first_id(int((self._clock() - after).timestamp() * 1_000_000))
        with one_at_a_time(self._engine, "pack") as mine:
            done = pack_some(self._engine, before, self._packed_to, STEP) if mine else None
        if done is None or done.last is None:
            # What was still open, or unread, when we passed it is looked at again.
            self._packed_to, self._pack_at = UUID(int=0), time.monotonic() + PACK_EVERY
            return False
        self._packed_to = done.last
        return True

    def _prune(self) -> None:
        kept = self._plan.retention
        # A node whose clock is ahead must not empty everybody's database: the server's own counts too.
        now = min(filter(None, (self._clock(), server_time(self._engine))))
        cutoffs = kept.cutoffs(now)
        if not cutoffs and kept.most_bytes is None:
            return
        with one_at_a_time(self._engine, "prune") as mine:
            if not mine:
                return
            done = prune(self._engine, cutoffs)
            if kept.most_bytes is not None:
                done += keep_within(self._engine, kept.most_bytes)
        for each in done:
            _tell(each)


def _tell(done: Pruned) -> None:
    if done.exchanges or done.partitions:
        dropped = f", {len(done.partitions)} partitions dropped" if done.partitions else ""
        _log.info("retention: %s of %d exchanges taken out%s", done.name, done.exchanges, dropped)

"""What is done now and then beside storing: partitions made ahead, packing, retention. In short steps, by one node.

Must not know journals. Whoever finds another at it leaves it to that one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from proxy.errors import WiretapeError
from proxy.log import safe
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
    """Each call of `step` is short. Pruning, which may take hours, goes on in a thread: its transactions are as short
    as those of the command, and leave copying its turn."""

    def __init__(self, engine: Engine, room: Room, plan: Plan, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._room = room
        self._plan = plan
        self._clock = clock
        self._packed_to = UUID(int=0)
        self._pack_at = self._prune_at = time.monotonic()
        self._pruning = threading.Thread()

    def step(self) -> bool:
        """Do what is due; whether there may be more at once."""
        self._room.make_ahead()
        now = time.monotonic()
        more = False
        if self._plan.pack_after is not None and now >= self._pack_at:
            more = self._pack(self._plan.pack_after)
        if now >= self._prune_at and not self._pruning.is_alive():
            self._prune_at = now + PRUNE_EVERY
            # What it has not done when the process ends is done the next time.
            self._pruning = threading.Thread(target=self._prune, name="prune", daemon=True)
            self._pruning.start()
        return more

    def wait(self, seconds: float) -> bool:
        """Wait for pruning to end; whether it has."""
        if self._pruning.ident is not None:
            self._pruning.join(seconds)
        return not self._pruning.is_alive()

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
        try:
            self._prune_now()
        except WiretapeError as error:  # the database is away: the loop says so, and it is tried again
            _log.warning("retention: %s", safe(str(error)))

    def _prune_now(self) -> None:
        kept = self._plan.retention
        if kept == Retention():
            return
        # A node whose clock is ahead must not empty everybody's database: the server's own counts too.
        now = min(filter(None, (self._clock(), server_time(self._engine))))
        cutoffs = kept.cutoffs(now)
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

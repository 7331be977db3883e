"""What the roles say in their status files, as values with types; a word that is missing or foreign is its default.

The only place that knows what forward and ingest put there. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from proxy.status import Status, read_all


class ForwardFacts(msgspec.Struct, frozen=True):
    """One forward worker: counts since it began, `waiting_bytes` of all journals in the home as it saw them last.

    `journal_writes` are counts by the time that a write took at most, in seconds.
    """

    worker: str = ""
    stopped: bool = False
    address: tuple[str, int] | None = None
    tls: bool = False
    problem: str | None = None
    accepted: int = 0
    active: int = 0
    turned_away: dict[str, int] = {}
    journal_failures: int = 0
    journal_records: int = 0
    waiting_bytes: int = 0
    journal_writes: dict[str, int] = {}
    journal_write_ns: int = 0


class JournalCounts(msgspec.Struct, frozen=True):
    """Of one journal, or of several: exchanges stored, and the highest ordinal that was seen."""

    stored: int = 0
    highest: int = 0


class IngestFacts(msgspec.Struct, frozen=True):
    """`database` is `ok` or a sentence; `ended` sums up complete journals, `journals` has the others by worker.

    `over` are the workers of complete journals whose own status is still there: they are in `ended` already.
    """

    database: str = ""
    ended: JournalCounts = JournalCounts()
    journals: dict[str, JournalCounts] = {}
    over: tuple[str, ...] = ()
    lag_bytes: int = 0
    lag_seconds: float = 0.0
    unread: int = 0
    damage: int = 0


@dataclass(frozen=True, slots=True)
class Forward:
    status: Status
    facts: ForwardFacts


@dataclass(frozen=True, slots=True)
class Ingest:
    status: Status
    facts: IngestFacts


@dataclass(frozen=True, slots=True)
class Picture:
    """All that the roles of one home say. `forwards` are of living and dead workers; `ingest` is all living ingests in
    one, or the last to speak where none lives."""

    forwards: tuple[Forward, ...]
    ingest: Ingest | None

    @property
    def serving(self) -> tuple[Forward, ...]:
        """The workers that answer at the data port."""
        return tuple(
            item for item in self.forwards if item.status.fresh and item.facts.address and not item.facts.stopped
        )

    @property
    def storing(self) -> Ingest | None:
        """The ingest that is at work."""
        return self.ingest if self.ingest is not None and self.ingest.status.fresh else None


def look(home: Path) -> Picture:
    """What the status files of a home say now."""
    # Ingest removes a worker's file before it counts its journal as ended: read the other way round, a journal that
    # ends just now would be counted twice.
    spoken = [status for status in read_all(home) if status.role == "ingest"]
    last = max(spoken, key=lambda status: (status.alive, status.written), default=None)
    said = [_typed(status.facts, IngestFacts) for status in spoken if status.fresh or status is last]
    forwards = [status for status in read_all(home) if status.role == "forward"]
    return Picture(
        tuple(Forward(status, _typed(status.facts, ForwardFacts)) for status in forwards),
        None if last is None else Ingest(last, _together(said)),
    )


def _together(said: Sequence[IngestFacts]) -> IngestFacts:
    """What several ingests of one home say, each of its own journals."""
    if len(said) == 1:
        return said[0]
    ended = JournalCounts(sum(each.ended.stored for each in said), sum(each.ended.highest for each in said))
    return IngestFacts(
        database=next((each.database for each in said if each.database != "ok"), "ok"),
        ended=ended,
        journals={worker: counts for each in said for worker, counts in each.journals.items()},
        over=tuple(worker for each in said for worker in each.over),
        lag_bytes=sum(each.lag_bytes for each in said),
        lag_seconds=max(each.lag_seconds for each in said),
        unread=sum(each.unread for each in said),
        damage=sum(each.damage for each in said),
    )


def problems(picture: Picture) -> list[str]:
    """Why the home is not ready: one sentence each; empty when it is."""
    found = []
    if not picture.serving:
        found.append("forward is not running: no worker answers at the data port")
    found.extend(
        f"forward {worker.status.pid}: {worker.facts.problem}" for worker in picture.serving if worker.facts.problem
    )
    storing = picture.storing
    if storing is None:
        found.append("ingest is not running: what is recorded waits in the journal")
    elif storing.facts.database != "ok":
        found.append(storing.facts.database or "ingest has not reached the database yet")
    return found


_Facts = TypeVar("_Facts", ForwardFacts, IngestFacts)


def _typed(facts: dict[str, Any], kind: type[_Facts]) -> _Facts:
    try:
        return msgspec.convert(facts, kind)
    except msgspec.ValidationError:
        return kind()

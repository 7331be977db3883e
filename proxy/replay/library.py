"""Which recording answers a request: recordings by the canonical form of their requests, each used in its turn. Pure.

Must not know where recordings come from, nor how they are played.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from proxy.replay.fault_words import Fault
from proxy.replay.match import Canonical, Difference, differences, nearest, rule_of

Order = Literal["sequence", "repeat_last", "any"]
"""What equal requests get: each recording once, in the order in which they were recorded; the same, and the last one
again and again; or each in its turn, over and over."""

_SESSIONS = 10_000  # sessions that are remembered, the latest
_FAULTS = 1000  # faults that a session counts by themselves, the latest
_UNMATCHED = 1000  # requests without a recording that are remembered, for a report


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded exchange that can answer. `title` is its method and target, for people; `fault` is its cassette's."""

    id: UUID
    upstream: str
    title: str
    request: Canonical
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Miss:
    """Why there is no answer. `used`: so many equal requests have had all that was recorded; else the nearest recording
    is `nearest`, and what of it is otherwise."""

    title: str
    used: int = 0
    nearest: Recording | None = None
    rule: str = ""
    differences: tuple[Difference, ...] = ()

    @property
    def sentence(self) -> str:
        """What to tell a person."""
        if self.used:
            times = "once" if self.used == 1 else f"{self.used} times"
            return (
                f"{self.title} was recorded {times} and has been played as often: allow repeat_last, or record it again"
            )
        if self.nearest is None:
            return f"nothing is recorded of this upstream that could answer {self.title}"
        return (
            f"no recording answers {self.title}: the nearest, {self.nearest.title} ({self.nearest.id}), differs in "
            f"{self.rule}"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Of one session: recordings that nobody asked for, requests that nothing answered, and recordings of the same
    request, of which the order decides."""

    unused: list[Recording]
    unmatched: list[Miss]
    equal: list[list[Recording]]


@dataclass(slots=True)
class _Session:
    turns: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    unmatched: list[Miss] = field(default_factory=list)
    faults: dict[tuple[UUID | None, Fault], int] = field(default_factory=dict)
    spoilt: set[UUID] = field(default_factory=set)


class Library:
    """Recordings, the oldest first. Sessions do not see of one another what was used."""

    def __init__(self, recordings: Iterable[Recording] = (), order: Order = "sequence") -> None:
        self._order = order
        self._shelves: dict[tuple[str, bytes], list[Recording]] = {}
        self._sessions: dict[str, _Session] = {}
        for each in recordings:
            self.add(each)

    def add(self, recording: Recording, used_by: str | None = None) -> None:
        """Put one behind all others; a session may have had it already, in that it was recorded for it."""
        place = recording.upstream, recording.request.key
        self._shelves.setdefault(place, []).append(recording)
        if used_by is not None:
            self._state(used_by).turns[place] += 1

    def __len__(self) -> int:
        return sum(map(len, self._shelves.values()))

    def _state(self, session: str) -> _Session:
        state = self._sessions.get(session)
        if state is None:
            if len(self._sessions) >= _SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            state = self._sessions[session] = _Session()
        return state

    def find(
        self, upstream: str, title: str, asked: Canonical, session: str = "", *, reported: bool = True
    ) -> Recording | Miss:
        """The recording whose turn it is; a miss is `reported` unless something else is done about it."""
        state = self._state(session)
        place = upstream, asked.key
        shelf = self._shelves.get(place)
        if shelf is None:
            miss = self._missing(upstream, title, asked)
        else:
            turn = state.turns[place]
            if turn < len(shelf) or self._order != "sequence":
                state.turns[place] += 1
                return shelf[-1 if turn >= len(shelf) and self._order == "repeat_last" else turn % len(shelf)]
            miss = Miss(title, used=len(shelf))
        if reported and len(state.unmatched) < _UNMATCHED:
            state.unmatched.append(miss)
        return miss

    def _missing(self, upstream: str, title: str, asked: Canonical) -> Miss:
        near = [shelf[0] for (of, _), shelf in self._shelves.items() if of == upstream]
        closest = nearest(asked, [each.request for each in near])
        if closest is None:
            return Miss(title)
        found = differences(asked, closest)
        recording = next(each for each in near if each.request is closest)
        return Miss(title, 0, recording, rule_of(found), tuple(found))

    def hit(self, found: Recording, asked: Fault | None, usual: Fault | None = None, session: str = "") -> Fault | None:
        """The fault that hits the request for which `found` was found just now: the one that is asked for, else the
        recording's own, which is counted by itself, else the usual one.

        One that leaves the client without the answer does not use the recording up: the next equal request gets it too.
        """
        state = self._sessions[session]
        fault = asked or found.fault or usual
        if fault is None:
            return None
        key = (found.id if asked is None and found.fault is not None else None), fault
        before = state.faults.pop(key, 0)
        if len(state.faults) >= _FAULTS:
            del state.faults[next(iter(state.faults))]
        state.faults[key] = before + 1
        if not fault.hits(before):
            return None
        if fault.spoils:
            state.turns[found.upstream, found.request.key] -= 1
            state.spoilt.add(found.id)
        return fault

    def report(self, session: str = "") -> Report:
        """What became of the recordings, and of the requests, of a session."""
        state = self._sessions.get(session, _Session())
        left = [each for place, shelf in self._shelves.items() for each in shelf[state.turns[place] :]]
        unused = [each for each in left if each.id not in state.spoilt]
        equal = [shelf for shelf in self._shelves.values() if len(shelf) > 1]
        return Report(sorted(unused, key=lambda each: each.id), list(state.unmatched), equal)

    def forget(self, session: str = "") -> None:
        """Begin a session anew."""
        self._sessions.pop(session, None)

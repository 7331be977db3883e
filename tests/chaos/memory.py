"""What processes hold in memory while something goes on beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench.measure import resident_kib

EVERY = 0.25  # seconds between two looks
GROWTH_KIB = 6 * 1024
"""As much as in the soak: caches fill, and the heap comes to the size that the traffic needs."""


@dataclass(slots=True)
class Resident:
    """Kibibytes at the beginning and at each look since."""

    begun: int
    seen: list[int] = field(default_factory=list)

    @property
    def most(self) -> int:
        return max([self.begun, *self.seen])

    def check_flat(self) -> None:
        assert self.most - self.begun <= GROWTH_KIB, f"it grew from {self.begun} to {self.most} KiB: {self.seen}"


@contextmanager
def watched(pids: Sequence[int]) -> Iterator[Resident]:
    """What these processes together hold, from now on until the block ends."""
    found = Resident(resident_kib(pids))
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            found.seen.append(resident_kib(pids))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.seen.append(resident_kib(pids))

"""What all recorders of a worker share, and what one side of an exchange's body comes to.

Knows journal.writer; must not know sockets or the database.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from proxy.exchange import Side
from proxy.journal import record
from proxy.journal.writer import JournalError, JournalWriter
from proxy.mask import BodyMask

if TYPE_CHECKING:
    from hashlib import _Hash

PROBE = 64 * 1024  # the longest payload with which it is tried whether the journal can be written again


class Debtor(Protocol):
    """An exchange that has ended while its last records could not be written."""

    def pay(self) -> bool:
        """Write what is owed; False where that cannot be done yet."""


@dataclass(slots=True)
class Recording:
    """What all recorders of a worker share: the journal, the rules, and the live counters."""

    journal: JournalWriter
    on_failure: str = "refuse"  # or pass
    max_body: int | None = None
    accepted: int = 0
    unrecorded: int = 0  # exchanges that were told not to be recorded
    failures: int = 0
    failing: str | None = None  # the journal's last error, until as much as could not be written then was written
    last_failure: str | None = None
    lacking: int = 0  # bytes of the payload that could not be written
    owed: list[Debtor] = field(default_factory=list)  # ended, but their last records are still to be written

    def failed(self, error: JournalError) -> None:
        self.failures += 1
        self.failing = self.last_failure = str(error)

    def wrote(self, size: int) -> None:
        """A payload of `size` bytes was written. What is small may fit where no response would."""
        if size >= min(self.lacking, PROBE):
            self.failing, self.lacking = None, 0

    def try_again(self) -> None:
        """See whether there is room again, before a request is sent whose response would find none. Raises
        JournalError."""
        size = min(self.lacking, PROBE)
        self.journal.append(record.NOTE, record.NIL, 0, 0, b" " * size)
        self.wrote(size)

    def settle(self) -> None:
        """Write what is owed; called once a second and before a new exchange. Stops at the first failure."""
        while self.owed and self.owed[0].pay():
            self.owed.pop(0)


class Body:
    """One side's body on its way through. `passed` is the hash of what was passed on, None while that is all."""

    passed: _Hash | None = None
    size = 0
    chunks = 0
    recorded = 0
    capped = 0
    lost = 0

    def __init__(self, side: Side, kind: bytes, mask: BodyMask | None) -> None:
        self.side = side
        self.kind = kind
        self.mask = mask
        self.arrived = hashlib.sha256()

    @property
    def masked(self) -> bool:
        return self.mask is not None and self.mask.masked

    def withhold(self) -> None:
        if self.passed is None:
            self.passed = self.arrived.copy()

    def hashes(self, coming: list[bytes]) -> tuple[str, str | None]:
        """In and out, as hex; `coming` is still to be counted in."""
        arrived = self.arrived
        if coming:
            arrived = arrived.copy()
            for data in coming:
                arrived.update(data)
        digest = arrived.hexdigest()
        passed = None if self.passed is None else self.passed.hexdigest()
        return digest, passed if passed != digest else None

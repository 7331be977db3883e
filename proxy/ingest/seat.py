"""The places that a home has for ingests, and which of its journals each of them stores.

A database that one process may write has one place for one ingest; a shared one has several, each with a lock and a
note about what is being stored of its own. Whoever holds the lock on a journal's claim stores it, alone.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from proxy.errors import UsageError

LOCK_LOOK = 0.5  # seconds between two tries to get the home from another ingest
SEATS = 16  # ingests of one home


class Seat:
    """One of the places; `number` 0 is the only one where the database is not shared."""

    def __init__(self, home: Path, number: int, lock: int) -> None:
        self.home = home
        self.number = number
        self._lock = lock

    @property
    def attempt(self) -> Path:
        """Where it notes what is being stored."""
        return self.home / ("ingest.attempt" if self.number == 0 else f"ingest-{self.number}.attempt")

    def leave(self) -> None:
        """Let others have it."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def retake(self) -> bool:
        """Take it again after `leave`; whether nobody else has."""
        return _locked(self._lock)


@contextmanager
def seat(home: Path, lifeline: int | None, *, shared: bool) -> Iterator[Seat | None]:
    """A free place in the home; None if the lifeline ended before there was one.

    Without a lifeline nothing is waited for. Raises UsageError.
    """
    last = SEATS if shared else 1
    for number in range(last):
        fd = _open(home, number)
        try:
            if _locked(fd) or (number == last - 1 and _waited_for(fd, home, lifeline)):
                yield Seat(home, number, fd)
                return
        finally:
            os.close(fd)
    yield None  # who holds it looks once more after letting go


def _open(home: Path, number: int) -> int:
    path = home / ("ingest.lock" if number == 0 else f"ingest-{number}.lock")
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{path} cannot be opened ({error.strerror}): make it a file that you may write") from None


def _waited_for(fd: int, home: Path, lifeline: int | None) -> bool:
    """Whether it became free before the lifeline ended."""
    while not _locked(fd):
        if lifeline is None:
            raise UsageError(f"another ingest stores the journals of {home}; stop it first") from None
        ready, _, _ = select.select([lifeline], [], [], LOCK_LOOK)
        if ready and not os.read(lifeline, 4096):
            return _locked(fd)
    return True


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Claims:
    """The journals of a home that this process stores. With `alone` all are its own, and nothing is locked."""

    def __init__(self, home: Path, *, alone: bool = False) -> None:
        self._folder = home / "claims"
        self._alone = alone
        self._held: dict[UUID, int] = {}

    def claim(self, worker: UUID) -> bool:
        """Whether a worker's journal is, or now becomes, this process' to store."""
        if self._alone or worker in self._held:
            return True
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / str(worker)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Who let go of it removes the file: a lock on one that is gone says nothing.
            if _locked(fd) and _is_at(fd, path):
                self._held[worker] = fd
                return True
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return False

    def done(self, worker: UUID) -> None:
        """The journal is stored for good: nobody needs it any more."""
        if worker in self._held:
            (self._folder / str(worker)).unlink(missing_ok=True)
            os.close(self._held.pop(worker))

    def close(self) -> None:
        """Leave all journals to others."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()


def _is_at(fd: int, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False

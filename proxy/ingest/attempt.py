"""Remembers across deaths what was being stored or interpreted, so that what kills ingest is left out in the end.

A file in the home whose first line says what batch was begun: of records, from where and how many; or of exchanges. A
batch that was finished is wiped; one that is still there at the start is what the previous ingest died of, or was
killed at by chance. Only a fault of its own, an exception or a crash, can still write a word behind that line.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
from pathlib import Path
from uuid import UUID

import msgspec

FAULTS = 2  # as often may ingest fail at one record, or one exchange
DEATHS = 10  # as often may it be killed at one from outside, which says little of it, but could be its size


class Place(msgspec.Struct, frozen=True, tag="records"):
    """Where a batch begins and how many records it takes at most.

    `deaths`: how often ingest has died at the record there before, when it was alone in its batch; `faults`: how many
    of these deaths were by its own fault.
    """

    worker: UUID
    segment: int
    offset: int
    limit: int
    deaths: int = 0
    faults: int = 0


class Reading(msgspec.Struct, frozen=True, tag="exchanges"):
    """The exchanges of a batch that is interpreted; `deaths` and `faults` as of a Place, when there is only one."""

    exchanges: list[UUID]
    deaths: int = 0
    faults: int = 0


class Attempts:
    """`died_at` is the batch that the previous ingest did not survive, `own_fault` whether by a fault of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.died_at: Place | Reading | None = None
        self.own_fault = False
        with contextlib.suppress(OSError, msgspec.DecodeError):
            place, _, fault = self.path.read_bytes().partition(b"\n")
            self.died_at = msgspec.json.decode(place, type=Place | Reading)
            self.own_fault = bool(fault)
        self._fd = -1
        self._trace = -1
        self._under_way = False

    def watch(self) -> None:
        """Let a crash of this process (a signal such as SIGSEGV) be known to its successor."""
        with contextlib.suppress(OSError):
            self._trace = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            faulthandler.enable(self._trace, all_threads=False)

    def begin(self, place: Place | Reading) -> None:
        """Note a batch. A home that cannot take the note is no reason not to store."""
        with contextlib.suppress(OSError):
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            data = msgspec.json.encode(place) + b"\n"
            self._under_way = True
            os.pwrite(self._fd, data, 0)
            os.ftruncate(self._fd, len(data))

    def done(self) -> None:
        """The batch was survived, stored or not."""
        self._under_way = False
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """A batch that is under way even now was ended by an exception."""
        if self._trace >= 0:
            faulthandler.disable()
            os.close(self._trace)
            self._trace = -1
        if self._fd >= 0:
            if self._under_way:
                with contextlib.suppress(OSError):
                    os.pwrite(self._fd, b"exception\n", os.fstat(self._fd).st_size)
            os.close(self._fd)
            self._fd = -1

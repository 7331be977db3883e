"""Status files: every process says once a second what it does, in `home/status/<role>-<pid>.json`.

The only reader and writer of that folder; health, metrics and `doctor` are made from it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

STALE_AFTER = 10.0  # seconds without a sign of life


@dataclass(frozen=True, slots=True)
class Status:
    """One process's last word. `facts` are the role's own; `alive` is judged from the process table, or where that is
    another one (each container has its own) by whether it spoke just now."""

    role: str
    pid: int
    alive: bool
    written: float
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        return self.alive and time.time() - self.written < STALE_AFTER


class StatusFile:
    """The calling process's own file. Writing never raises for a full or missing disk: status is not worth a stream."""

    def __init__(self, home: Path, role: str) -> None:
        self._path = home / "status" / f"{role}-{os.getpid()}.json"
        self._frame = {"role": role, "pid": os.getpid(), "born": _born(os.getpid()), "table": _table()}

    def write(self, facts: dict[str, Any]) -> None:
        draft = self._path.with_suffix(".new")
        data = msgspec.json.encode({**self._frame, "written": time.time(), "facts": facts})
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_bytes(data)
            draft.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def read_all(home: Path) -> list[Status]:
    """Every status in the home, of living and dead processes; half-written or foreign files are passed over."""
    found, here = [], _table()
    for path in sorted((home / "status").glob("*-*.json")):
        try:
            data = msgspec.json.decode(path.read_bytes())
            pid, born, written = int(data["pid"]), data["born"], float(data["written"])
            if data.get("table") in (None, here):
                alive = born is not None and _born(pid) == born
            else:
                alive = time.time() - written < STALE_AFTER
            status = Status(str(data["role"]), pid, alive, written, dict(data["facts"]))
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError):
            continue
        found.append(status)
    return found


def forget(home: Path, status: Status) -> None:
    """Remove a dead process's file."""
    (home / "status" / f"{status.role}-{status.pid}.json").unlink(missing_ok=True)


def _born(pid: int) -> str | None:
    """When a process began, in the kernel's own terms (its pid may be another's by now); None: no such."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rsplit(b")", 1)[1].split()
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _table() -> str | None:
    """Which process table this process is in; None where the kernel does not say."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None

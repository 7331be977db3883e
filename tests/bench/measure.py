"""CPU time and memory of other processes, from Linux's per-process clocks and /proc.

Knows process ids alone; must not know what runs in them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from proxy.errors import WiretapeError

_PROC = Path("/proc")
_PROCESS_CLOCK = 2  # CPUCLOCK_SCHED: utime + stime of all threads, ended ones too


def process_tree(pid: int) -> list[int]:
    """`pid` and all its descendants; empty when it has ended."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    tree, waiting = [], [pid] if _stat(pid) else []
    while waiting:
        tree.append(waiting.pop())
        waiting += children.get(tree[-1], [])
    return tree


def started_at(pid: int) -> str | None:
    """When the process started, in ticks since boot: with its id it names one process for good. None: it has ended."""
    fields = _stat(pid)
    return fields[19] if fields else None


def cpu_times(pids: Collection[int]) -> dict[int, float]:
    """Seconds of CPU each process has used, to the nanosecond (/proc rounds to 10 ms); ended processes are left out."""
    times = {}
    for pid in pids:
        with suppress(OSError):  # EINVAL: no such process
            times[pid] = time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)
    return times


def cpu_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds of CPU used by the processes of `after` since `before`; one that is new counts whole."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def resident_kib(pids: Collection[int]) -> int:
    """Resident memory (VmRSS) of the processes together; pages they share count once for each."""
    return sum(_status_kib(pid, "VmRSS:") for pid in pids)


def peak_resident_kib(pids: Collection[int]) -> int:
    """The sum of the highest resident memory (VmHWM) of each process so far."""
    return sum(_status_kib(pid, "VmHWM:") for pid in pids)


def require_linux() -> None:
    """Raises WiretapeError where there is no /proc to read."""
    if not (_PROC / "self" / "stat").exists():
        raise WiretapeError("the benchmark reads CPU and memory from /proc, which this system has not: run it on Linux")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on (the third in proc(5)); None when there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields


def _status_kib(pid: int, name: str) -> int:
    with suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0

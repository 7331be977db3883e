"""How far ingest is behind while chunks come at a steady pace.

`python -m tests.bench.lag`: 10,000 chunks a second of 100 streams for ten seconds, into a journal that a `wiretape
ingest` of its own stores and interprets; the greatest lag that it says, in seconds, and its CPU. In the end all must be
stored.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from proxy.journal.writer import JournalWriter
from proxy.status import read_all
from tests.support.databases import KINDS, a_database
from tests.support.journals import WORKER, Entry, exchange

RATE, STREAMS, SECONDS = 10_000, 100, 10.0
ALLOWED = 2.0
PATIENCE = 60.0
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" hello"},"finish_reason":null}]}\n\n'


class Lag(NamedTuple):
    """`worst` in seconds behind; `cpu` in seconds of ingest's process; `chunks` that were written."""

    engine: str
    worst: float
    cpu: float
    chunks: int


def measure(engine: str, seconds: float = SECONDS, rate: int = RATE) -> Lag:
    """Write at the pace, watch, and wait until all is stored."""
    with TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        with a_database(engine, home) as database:
            command = [sys.executable, "-m", "proxy", "--home", str(home), "--database", database.url, "ingest"]
            ingest = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            try:
                _facts(home)
                writer = JournalWriter(home / "journal", node="bench", worker=WORKER, fsync_every=None)
                worst, written = _write(writer, home, seconds, rate)
                writer.close()
                _drained(home)
                cpu = _cpu(ingest.pid)
            finally:
                ingest.terminate()
                ingest.wait(PATIENCE)
            assert database.query("SELECT count(*) FROM chunks")[0][0] >= written
            assert database.query("SELECT count(*) FROM exchanges WHERE interpreter IS NULL") == [(0,)]
            return Lag(engine, worst, cpu, written)


def _write(writer: JournalWriter, home: Path, seconds: float, rate: int) -> tuple[float, int]:
    began, worst, written, number = time.monotonic(), 0.0, 0, 0
    running: list[list[Entry]] = []
    while (gone := time.monotonic() - began) < seconds:
        while len(running) < STREAMS:
            number += 1
            running.append(exchange(number, chunks=[_EVENT] * 300)[::-1])
        while written < gone * rate:
            tape = running[written % len(running)]
            writer.append(*tape.pop())
            written += 1
            if not tape:
                running.remove(tape)
                break
        worst = max(worst, _facts(home).get("lag_seconds", 0.0))
        time.sleep(0.01)
    for tape in running:
        for entry in reversed(tape):
            writer.append(*entry)
    return worst, written - number * 5


def _facts(home: Path) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [status.facts for status in read_all(home) if status.role == "ingest"]
        if found:
            return found[0]
        assert time.monotonic() < deadline, "ingest does not start"
        time.sleep(0.05)


def _drained(home: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while any((home / "journal").glob("*.journal")) or _facts(home).get("unread"):
        assert time.monotonic() < deadline, "ingest does not come to an end"
        time.sleep(0.1)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table() -> str:
    """A line for each engine."""
    lines = [f"{'engine':10} {'lag s':>7} {'allowed':>8} {'CPU us/chunk':>13}"]
    for engine in KINDS:
        found = measure(engine)
        missed = "  MISSED" if found.worst > ALLOWED else ""
        lines.append(f"{engine:10} {found.worst:7.2f} {ALLOWED:8.1f} {found.cpu / found.chunks * 1e6:13.1f}{missed}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

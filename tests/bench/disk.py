"""Keeps a file system busy with large, synced writes: `python -m tests.bench.disk FILE`.

The file never grows beyond SIZE and is gone when the writer is.

Must not know who is measured meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import WiretapeError
from tests.bench.targets import child, log_end

SIZE = 512 * 1024 * 1024
_BLOCK = 8 * 1024 * 1024
_SYNC_EVERY = 4  # blocks; what the disk has not taken yet stays bounded, so that it is the disk that is busy
_BEGUN = b"begun\n"
_START_SECONDS = 30.0


@dataclass
class Busy:
    """`mb_per_s` is what the disk took, known when it is over."""

    mb_per_s: float = 0.0


@contextmanager
def busy(folder: Path) -> Iterator[Busy]:
    """The file system of `folder` has all that it can do. Raises WiretapeError where nothing can be written."""
    path, log = folder / "disturbance", folder / "disturbance.log"
    figures = Busy()
    try:
        with child([sys.executable, "-m", "tests.bench.disk", str(path)], log) as process:
            deadline = time.monotonic() + _START_SECONDS
            while not log.read_bytes().startswith(_BEGUN):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise WiretapeError(
                        f"the disk cannot be kept busy; the end of the writer's output:\n{log_end(log)}"
                    )
                time.sleep(0.01)
            yield figures
        _, _, told = log.read_text().partition("\n")
        figures.mb_per_s = float(told or 0)
    finally:
        path.unlink(missing_ok=True)


def file_system(path: Path) -> str:
    """Its type, such as ext4; `?` where the kernel does not say."""
    number = path.stat().st_dev
    wanted = f"{os.major(number)}:{os.minor(number)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return "?"


def write(path: Path) -> None:
    """Until SIGTERM; then say how many megabytes a second it were."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    block = os.urandom(_BLOCK)
    written, begun = 0, time.monotonic()
    with path.open("wb", buffering=0) as file:
        os.write(1, _BEGUN)
        while not ended:
            if file.tell() + _BLOCK > SIZE:
                file.seek(0)
            file.write(block)
            written += _BLOCK
            if written // _BLOCK % _SYNC_EVERY == 0:
                os.fsync(file.fileno())
    path.unlink(missing_ok=True)
    os.write(1, b"%.1f\n" % (written / 1e6 / (time.monotonic() - begun)))


if __name__ == "__main__":
    write(Path(sys.argv[1]))

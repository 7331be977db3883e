"""What runs beside a command that `run` runs: forward and ingest, and playback where an upstream is played, until
whoever started it says so, or is gone.

Started as `python -m proxy.cli.beside LISTENER LIFELINE [PLAYBACK'S LISTENER]`, told the roles' values on standard
input. It says `ready` on standard output once the data port answers. Must not know settings, nor the command.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path

import msgspec

from proxy import log
from proxy.cli.edge import INTERRUPTED, fail
from proxy.cli.stages import MARGIN, environment, forward_stage, ingest_stage, role
from proxy.supervise import Stage, Supervisor

READY = b"ready\n"
NONE = b"null"


class Told(msgspec.Struct):
    """`grace` and `drain` are seconds: for streams that still run, and for ingest to store what is left. `playback` may
    be NONE."""

    home: str
    grace: float
    drain: float
    forward: msgspec.Raw
    ingest: msgspec.Raw
    playback: msgspec.Raw = msgspec.Raw(NONE)


def _until_it_ends(lifeline: int) -> None:
    """A second stop, sent as a byte, cuts the waiting short; the end is the first one."""
    while os.read(lifeline, 1):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


def _ready() -> None:
    os.write(sys.stdout.fileno(), READY)


def main() -> int:
    """Run until the lifeline ends. The exit code."""
    log.set_up("run")
    listener, lifeline = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    told = msgspec.json.decode(sys.stdin.buffer.read(), type=Told)
    home = Path(told.home)
    stages = [
        forward_stage(bytes(told.forward), listener, workers=1, grace=told.grace),
        ingest_stage(bytes(told.ingest), home, patience=told.drain),
    ]
    if bytes(told.playback) != NONE:
        plays = socket.socket(fileno=int(sys.argv[3]))
        stages.append(Stage((role("playback", bytes(told.playback), plays),), MARGIN, listeners=(plays,)))
    threading.Thread(target=_until_it_ends, args=(lifeline,), daemon=True).start()
    try:
        return Supervisor(home, "run", stages, environment(), _ready).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge of the program: whatever is left is told in one sentence
        return fail(error)


if __name__ == "__main__":
    sys.exit(main())

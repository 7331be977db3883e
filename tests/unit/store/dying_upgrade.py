"""An upgrade as a program of its own, which may be killed before one of the statements that it sends.

It waits for a line, so that several can be let go at the same moment.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from typing import Any

from sqlalchemy import event

from proxy.store.engine import open_engine
from proxy.store.migrate import upgrade


def main(url: str, last: int | None) -> None:
    """Upgrade the database; with `last` only so many statements are sent, and then comes a SIGKILL."""
    engine = open_engine(url, create=False)
    sent = itertools.count()

    def die(*_: Any) -> None:
        if next(sent) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    print("ready", flush=True)  # noqa: T201 - its starter reads it
    sys.stdin.readline()
    event.listen(engine, "before_cursor_execute", die)
    upgrade(engine)
    engine.dispose()

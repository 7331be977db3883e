"""An ingest as a program of its own, whose database can end it: SQL may call `crash()`, `die()`, `fail()`.

A SIGABRT, a SIGKILL, an exception. It stores all there is and ends.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import cast

from proxy.ingest.attempt import Attempts
from proxy.ingest.carry import Carrier
from proxy.store.engine import open_engine
from proxy.store.write import Writer


def crash() -> None:
    os.abort()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise RuntimeError("a fault that nobody has thought of")


def main(home: Path) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # what an exception prints is not for the tests' reader
    engine = open_engine(f"sqlite:///{home / 'wiretape.db'}", create=False)
    pooled = engine.raw_connection()
    for function in (crash, die, fail):
        cast(sqlite3.Connection, pooled.driver_connection).create_function(function.__name__, 0, function)
    pooled.close()  # it goes back to the pool, and is the one that is used from now on
    attempts = Attempts(home / "ingest.attempt")
    attempts.watch()
    try:
        carrier = Carrier(home / "journal", Writer(engine), attempts)
        while carrier.pass_once()[0]:
            pass
        carrier.close()
    finally:
        attempts.close()
    engine.dispose()

"""An ingest as a program of its own, whose database can end it: SQL may call `crash()`, `die()`, `fail()`.

A SIGABRT, a SIGKILL, an exception. It stores and interprets all there is, and ends.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from datetime import UTC
from pathlib import Path
from typing import cast

from proxy.ingest.attempt import Attempts
from proxy.ingest.carry import Carrier
from proxy.ingest.interpret import Interpreter
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
        writer = Writer(engine)
        carrier = Carrier(home / "journal", writer, attempts)
        interpreter = Interpreter(engine, writer, attempts, UTC)
        while carrier.pass_once()[0] or interpreter.pass_once():
            pass
        carrier.close()
    finally:
        attempts.close()
    engine.dispose()

"""Finds a server process in the midst of a COPY, and lets it stand still there, so that it dies in it for certain."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.chaos.sites import PostgresSite
from tests.support.rawhttp import until

PATIENCE = 120.0
_LOOK = 2.0  # seconds for an answer: who stands still may hold a lock of the server's that every look needs


class Catcher:
    """Looks at one database of a server, over a connection that ends with the server."""

    def __init__(self, site: PostgresSite) -> None:
        self._name = site.name
        self._connection = psycopg.connect(site.server.conninfo("postgres"), autocommit=True)
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._thread.shutdown()
        self._connection.close()

    def caught(self, over: Callable[[], bool] = lambda: False) -> int | None:
        """The process that stands still in the midst of a COPY of rows; waits for one until `over`."""
        found: list[int] = []

        def catch() -> bool:
            for pid in self._copying():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    if self._is_still_at_it(pid):
                        found.append(pid)
                        return True
                    os.kill(pid, signal.SIGCONT)
            return over()

        until(catch, "a COPY", PATIENCE)
        return found[0] if found else None

    def _copying(self) -> list[int]:
        """Asked many times a second, one after the other: a COPY takes some milliseconds."""
        sql = "SELECT pid FROM pg_stat_progress_copy WHERE datname = %s AND command = 'COPY FROM'"
        for _ in range(50):
            if found := self._connection.execute(sql, (self._name,)).fetchall():
                return [row[0] for row in found]
        return []

    def _is_still_at_it(self, pid: int) -> bool:
        asked = self._thread.submit(self._asked, "SELECT 1 FROM pg_stat_progress_copy WHERE pid = %s", pid)
        try:
            return bool(asked.result(_LOOK))
        except NotInTime:
            os.kill(pid, signal.SIGCONT)
            asked.result()
            return False

    def _asked(self, sql: str, pid: int) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql.encode(), (pid,)).fetchall()

"""Where a campaign's wiretape stores: the file of its home, or a database of a Postgres that nobody else uses.

Both are asked in plain SQL with `?` for values and ids as 16 bytes; must not know the project's own readers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from proxy.store.postgres import LOCK
from tests.bench.measure import process_tree
from tests.support.databases import POSTGRES, SQLITE, Site, SqliteDatabase
from tests.support.postgres import Server
from tests.support.running import alive, born, wait_for

VERSION = 18
SETTINGS = {"autovacuum": "on", "max_connections": "100"}
"""What is as on a server of one's own; `fsync` stays off: the kernel outlives each death here, and keeps the files."""


class PostgresSite:
    """A database of a server, asked over one connection, which is made anew when its server was away."""

    kind = POSTGRES

    def __init__(self, server: Server, place: Path | None = None) -> None:
        self.server = server
        self.name = server.new_database()
        if place is not None:
            server.query("postgres", f"CREATE TABLESPACE elsewhere LOCATION '{place}'")
            server.query("postgres", f"ALTER DATABASE {self.name} SET TABLESPACE elsewhere")
        self.url = server.url(self.name)
        self._connection: psycopg.Connection[Any] | None = None

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return [tuple(map(_as_bytes, row)) for row in self._asked(sql, values).fetchall()]

    def dicts(self, sql: str) -> list[dict[str, Any]]:
        found = self._asked(sql, ())
        names = [column.name for column in found.description or ()]
        return [dict(zip(names, map(_as_bytes, row), strict=True)) for row in found.fetchall()]

    def id_sql(self, value: UUID) -> str:
        return f"'{value}'::uuid"

    def _asked(self, sql: str, values: Sequence[object]) -> psycopg.Cursor[Any]:
        given = [UUID(bytes=each) if isinstance(each, bytes) and len(each) == 16 else each for each in values]
        asked = sql.replace("%", "%%").replace("?", "%s").encode()
        try:
            return self._asking().execute(asked, given)
        except psycopg.OperationalError:  # as when the server was started again since
            self.close()
            return self._asking().execute(asked, given)

    def _asking(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(self.server.conninfo(self.name), autocommit=True)
        return self._connection

    @contextmanager
    def locked(self) -> Iterator[None]:
        with psycopg.connect(self.server.conninfo(self.name)) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            yield
            other.rollback()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """While it lasts nobody is let in."""
        self.close()
        self.server.query("postgres", f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        self.server.query("postgres", ended, self.name)
        yield
        self.server.query("postgres", f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _as_bytes(value: Any) -> Any:
    return value.bytes if isinstance(value, UUID) else value


def shut_down(server: Server) -> None:
    """Stop a server as its administrator does, who does not wait for its clients."""
    server.stop(signal.SIGINT)


def crash(server: Server) -> None:
    """End a server at once (`pg_ctl stop -m immediate`), also a process of it that was made to stand still."""
    family = process_tree(pid_of(server))
    for pid in family:
        for signum in (signal.SIGQUIT, signal.SIGCONT):
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
    server.stop(signal.SIGQUIT)


def kill(server: Server) -> None:
    """End all processes of a server by kill -9, also one that was made to stand still."""
    family = {pid: born(pid) for pid in process_tree(pid_of(server))}
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.stop(signal.SIGKILL)
    wait_for(lambda: not any(alive(*each) for each in family.items()), "the end of the server")


def pid_of(server: Server) -> int:
    assert server._process is not None
    return server._process.pid


@contextmanager
def site(kind: str, folder: Path) -> Iterator[Site]:
    """Where the wiretape in `folder` is to store; a server is started for it."""
    if kind == SQLITE:
        yield SqliteDatabase(folder / "home" / "wiretape.db")
        return
    with postgres_site() as made:
        yield made


@contextmanager
def postgres_site(place: Path | None = None) -> Iterator[PostgresSite]:
    """A database of a server of its own, which may be stopped and started; its tables in a folder that is there."""
    server = Server(VERSION, **SETTINGS)
    try:
        with closing(PostgresSite(server.start(), place)) as made:
            yield made
    finally:
        server.remove()


def told(place: Site | None) -> dict[str, str]:
    """The environment of a wiretape that stores there; by default it is the file of its home."""
    return {} if place is None else {"WIRETAPE_DATABASE": place.url}

"""Databases for tests that hold on both engines: a file copied from a template, or a database of the process' Postgres.

A test that wants one asks for the fixture `kind`, or for one that is made from it; it runs once for each of KINDS.
"""

from __future__ import annotations

import atexit
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine

from proxy.store.engine import execute, open_engine
from proxy.store.engine import reading as reading_of
from proxy.store.migrate import upgrade
from proxy.store.postgres import LOCK
from tests.support import postgres

SQLITE, POSTGRES, POSTGRES_16 = "sqlite", "postgres", "postgres16"
KINDS = (SQLITE, POSTGRES)
_VERSIONS = {POSTGRES: 18, POSTGRES_16: 16}


class Site(Protocol):
    """A database. `url` is what wiretape is told."""

    kind: str
    url: str

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a statement that both engines understand."""
        ...

    def dicts(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a statement, by the names of their columns."""
        ...

    def id_sql(self, value: UUID) -> str:
        """An id as a literal."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """While it lasts nobody else can write recorded rows."""
        ...


class SqliteDatabase:
    """A file."""

    kind = SQLITE

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()

    def dicts(self, sql: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

    def execute(self, script: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.executescript(script)

    def refuse(self, table: str, event: str, when: str = "") -> None:
        condition = f"WHEN {when}" if when else ""
        does = "BEGIN SELECT RAISE(ABORT, 'no'); END"
        self.execute(f"CREATE TRIGGER no_{table}_{event} BEFORE {event} ON {table} {condition} {does}")

    def allow(self) -> None:
        for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            self.execute(f"DROP TRIGGER {name}")

    def id_sql(self, value: UUID) -> str:
        return f"x'{value.hex}'"

    @contextmanager
    def away(self) -> Iterator[None]:
        aside = self.path.with_name("aside.db")
        self.path.rename(aside)
        yield
        aside.rename(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


class PostgresDatabase:
    """A database of a server; `fresh` until somebody has changed more of it than rows."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.server = postgres_of(kind)
        self.url = self.server.url(name)
        self.fresh = True
        self._engine: Engine | None = None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        if self._engine is None:
            self._engine = open_engine(self.url, create=False)
        with reading_of(self._engine) as connection:
            yield connection

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._reading() as connection:
            return [tuple(row) for row in execute(connection, sql, values)]

    def dicts(self, sql: str) -> list[dict[str, Any]]:
        with self._reading() as connection:
            return [dict(row) for row in execute(connection, sql).mappings()]

    def execute(self, script: str) -> None:
        with psycopg.connect(self.server.conninfo(self.name), autocommit=True) as connection:
            self.fresh = self.fresh and re.search(r"\b(CREATE|ALTER|DROP)\b", script) is None
            connection.execute(script.encode())

    def refuse(self, table: str, event: str, when: str = "") -> None:
        condition = f"WHEN ({when})" if when else ""
        self.execute(
            f"""CREATE OR REPLACE FUNCTION no_{table}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE check_violation USING MESSAGE = 'no'; END $$;
CREATE TRIGGER no_{table}_{event} BEFORE {event} ON {table} FOR EACH ROW {condition} EXECUTE FUNCTION no_{table}()"""
        )

    def allow(self) -> None:
        found = self.query("SELECT DISTINCT proname::text FROM pg_proc WHERE proname LIKE 'no\\_%'")
        for (name,) in found:
            self.execute(f"DROP FUNCTION {name} CASCADE")

    def id_sql(self, value: UUID) -> str:
        return f"'{value}'::uuid"

    @contextmanager
    def away(self) -> Iterator[None]:
        self.close()
        self.server.query("postgres", f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.server.query(
            "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", self.name
        )
        yield
        self.server.query("postgres", f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    @contextmanager
    def locked(self) -> Iterator[None]:
        with psycopg.connect(self.server.conninfo(self.name)) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            yield
            other.rollback()

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def postgres_of(kind: str) -> postgres.Server:
    """The server of a kind of database."""
    return postgres.server(_VERSIONS[kind])


def kept_folder(name: str) -> Path:
    """A folder for as long as this process lives."""
    folder = tempfile.mkdtemp(prefix=f"wiretape-{name}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def template() -> Path:
    """A database file at this version's revision, to be copied: an upgrade takes longer than most tests."""
    path = kept_folder("template") / "wiretape.db"
    engine = open_engine(f"sqlite:///{path}", create=True)
    upgrade(engine)
    engine.dispose()
    return path


@cache
def _postgres_template(kind: str) -> str:
    server = postgres_of(kind)
    name = server.new_database()
    engine = open_engine(server.url(name), create=True)
    upgrade(engine)
    engine.dispose()
    return name


_spare: dict[str, list[str]] = {}

_USED = """SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' AND c.relname <> 'alembic_version'
    AND c.relnamespace = 'public'::regnamespace AND pg_relation_size(c.oid) > 0"""
_MADE = """SELECT c.oid::regclass::text FROM pg_class c WHERE c.relispartition AND c.relkind = 'r'
    AND c.relname NOT LIKE '%\\_default'"""


def _emptied(database: PostgresDatabase) -> bool:
    """Whether a used database could be made as good as new: sooner done than making another."""
    if not database.fresh:
        return False
    with psycopg.connect(database.server.conninfo(database.name), autocommit=True) as connection:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        if connection.execute(waiting).fetchone() != (0,):
            return False
        for made in connection.execute(_MADE.encode()).fetchall():
            connection.execute(f"DROP TABLE {made[0]}".encode())
        used = [row[0] for row in connection.execute(_USED.encode()).fetchall()]
        if used:
            connection.execute(f"TRUNCATE {', '.join(used)}".encode())
        for sequence in connection.execute("SELECT sequencename FROM pg_sequences WHERE last_value > 0").fetchall():
            connection.execute(f"ALTER SEQUENCE {sequence[0]} RESTART".encode())
    return True


@contextmanager
def a_postgres(kind: str = POSTGRES) -> Iterator[PostgresDatabase]:
    """A database of a Postgres; used ones are emptied and used again."""
    spare = _spare.setdefault(kind, [])
    name = spare.pop() if spare else postgres_of(kind).new_database(_postgres_template(kind))
    database = PostgresDatabase(kind, name)
    try:
        yield database
    finally:
        database.close()
        if _emptied(database):
            spare.append(name)
        else:
            database.server.drop(name)


@contextmanager
def a_database(kind: str, folder: Path) -> Iterator[SqliteDatabase | PostgresDatabase]:
    """A database of a kind; a file is made in `folder`."""
    if kind == SQLITE:
        path = folder / "wiretape.db"
        shutil.copyfile(template(), path)
        yield SqliteDatabase(path)
        return
    with a_postgres(kind) as database:
        yield database


Opener = Callable[..., Engine]


@contextmanager
def an_opener(url: str) -> Iterator[Opener]:
    """Opens engines on a database that are closed in the end."""
    with ExitStack() as stack:

        def open_it(*, busy_timeout: float = 10.0) -> Engine:
            engine = open_engine(url, create=False, busy_timeout=busy_timeout)
            stack.callback(engine.dispose)
            return engine

        yield open_it

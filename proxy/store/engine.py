"""Opening the database, its transactions and its errors; the only file that tells SQLite from Postgres.

Must not know which rows are written. Errors of the driver become store errors here, once, for every statement that
runs on the engine; raw driver calls go through `mapped`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import URL, ColumnElement, Connection, Engine, Table, create_engine, event, func
from sqlalchemy.engine import ExceptionContext

from proxy.errors import UsageError, WiretapeError
from proxy.store.errors import DatabaseAway, DatabaseMoved, DatabaseTooNew, DatabaseTooOld, ValueRefused
from proxy.store.schema import REVISIONS

BUSY_TIMEOUT = 10.0
"""Seconds that a statement waits for another process's lock."""

_IMMEDIATE = "wiretape_immediate"
_VACUUMED = 256  # pages a step, a few milliseconds
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA secure_delete = ON",
    "PRAGMA journal_size_limit = 67108864",
)


def open_engine(url: str, *, create: bool, busy_timeout: float = BUSY_TIMEOUT) -> Engine:
    """An engine for `sqlite:///PATH`, proved by a first connection.

    Only `create` makes the file (mode 0600), and it makes no tables: see `migrate.upgrade`. Raises UsageError for a URL
    that cannot work, DatabaseAway for a file that is missing or cannot be used now.
    """
    path = _path(url)
    if create:
        _create_file(path)
    try:
        found = path.stat()
    except OSError as error:
        raise DatabaseAway(
            f"the database {path} cannot be opened ({error.strerror}): check the path and that its disk is there"
        ) from error
    opened = (found.st_dev, found.st_ino)

    def connect() -> sqlite3.Connection:
        return _connect(path, opened, busy_timeout)

    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        creator=connect,
        pool_use_lifo=True,
        max_overflow=-1,  # the console's threads may need more than the pool keeps: each is only a file handle
        hide_parameters=True,  # recorded text must not get into tracebacks
    )
    engine.update_execution_options(wiretape_file=(path, opened))
    event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", _handle_error)
    with engine.connect():
        return engine


def _path(url: str) -> Path:
    scheme, colon, rest = url.partition(":")
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        raise UsageError("Postgres is not supported by this version yet; use sqlite:///PATH")
    path = rest.removeprefix("///")
    if not colon or scheme != "sqlite" or path == rest:
        raise UsageError("the database URL cannot be read, or names what is not supported: use sqlite:///PATH")
    if path in ("", ":memory:") or "?" in path or "\0" in path:
        raise UsageError(f"the database URL {url!r} names no plain file: use sqlite:///PATH")
    return Path(path).absolute()


def _create_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseAway(
            f"the database {path} cannot be created ({error.strerror}): make its folder writable"
        ) from error


def _connect(path: Path, opened: tuple[int, int], busy_timeout: float) -> sqlite3.Connection:
    """One connection, refused if the file is no longer the one that the engine was opened for."""
    with mapped(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=busy_timeout,
            isolation_level=None,  # no BEGIN by the driver: `_begin` says which one
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            if _file_id(path) != opened:
                raise _moved(path)
            # In a file without pages only: the first one fixes the mode, and later the pragma wants the write lock.
            if connection.execute("PRAGMA page_count").fetchone() == (0,):
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            for pragma in _PRAGMAS:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
    return connection


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


# --- the file ---


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _moved(path: Path) -> DatabaseMoved:
    return DatabaseMoved(
        f"the database {path} was renamed, replaced or removed while it was open: put it back, or let it be opened anew"
    )


def file_of(engine: Engine) -> Path:
    """The path of the database file."""
    path, _ = engine.get_execution_options()["wiretape_file"]
    return cast(Path, path)


def file_moved(engine: Engine) -> bool:
    """Whether the file at the engine's path is no longer the one that was opened."""
    path, opened = engine.get_execution_options()["wiretape_file"]
    return bool(_file_id(path) != opened)


def require_file(engine: Engine) -> None:
    """Raise DatabaseMoved if `file_moved`: what is written now would go into a file that nobody reads."""
    if file_moved(engine):
        raise _moved(file_of(engine))


def let_go(engine: Engine) -> None:
    """Close an engine for good; if its file was moved, all that was committed goes with it.

    SQLite leaves the log (-wal) of a moved file behind, whole, and lays it over whatever file takes the place. What
    cannot be saved so (no connection is open any more, the disk is gone) is left as SQLite leaves it.
    """
    if file_moved(engine):
        with suppress(WiretapeError, sqlite3.Error):
            connection = engine.raw_connection()
            try:
                cast(sqlite3.Connection, connection.driver_connection).execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()
    engine.dispose()


# --- transactions ---


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection whose statements all see one state of the database; nothing it does is kept."""
    with engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, *, durable: bool = False) -> Iterator[Connection]:
    """A write transaction, committed at the end, rolled back on any error.

    It takes the write lock at once, so that it cannot fail half way for it. `durable`: the commit, and with it every
    earlier one, survives power loss. Raises DatabaseMoved before it begins and instead of committing.
    """
    require_file(engine)
    with (
        engine.connect().execution_options(**{_IMMEDIATE: True}) as connection,
        make_durable(connection) if durable else nullcontext(),
        connection.begin(),
    ):
        yield connection
        require_file(engine)


@contextmanager
def make_durable(connection: Connection) -> Iterator[None]:
    """Commits inside are synced to disk (in WAL mode the sync covers every earlier commit); to be entered before BEGIN.

    A transaction that changes nothing writes no frame and so syncs nothing: the caller must write a row.
    """
    run_outside(connection, "PRAGMA synchronous = FULL")
    try:
        yield
    finally:
        run_outside(connection, "PRAGMA synchronous = NORMAL")


def run_outside(connection: Connection, script: str) -> None:
    """Run SQL outside any transaction, each statement to its end.

    `execute` would take one step of `PRAGMA incremental_vacuum`, which frees one page a step.
    """
    with mapped(file_of(connection.engine)):
        cast(sqlite3.Connection, connection.connection.driver_connection).executescript(script)


def reclaim(engine: Engine) -> None:
    """Give freed pages back to the file system, and empty the log, which still holds what was in them."""
    with engine.connect() as connection:
        free = _free_pages(connection)
        while free:
            run_outside(connection, f"PRAGMA incremental_vacuum({_VACUUMED})")
            free, before = _free_pages(connection), free
            if free >= before:
                break
        # It keeps writers out while it waits for readers: not for long. What is left goes with a later checkpoint.
        run_outside(connection, "PRAGMA busy_timeout = 100; PRAGMA wal_checkpoint(TRUNCATE)")
        connection.invalidate()  # with its short patience


def _free_pages(connection: Connection) -> int:
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar()
    connection.rollback()
    return cast(int, free)


# --- statements that only one engine has, or that must be fast ---


def insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows that give every column of `table` in order, in the driver's types (ids as 16 bytes).

    The driver's own executemany: 1.6 us a chunk where Core's takes 4. A row that is already there raises ValueRefused.
    """
    if rows:
        connection.exec_driver_sql(_insert(table, tuple(table.c.keys()), ()), list(rows))


def upsert_many(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows that give `columns` in order; of a row that is there already set these columns, no others."""
    if rows:
        keys = tuple(column.name for column in table.primary_key)
        connection.exec_driver_sql(_insert(table, columns, keys), list(rows))


@lru_cache(maxsize=64)
def _insert(table: Table, columns: tuple[str, ...], keys: tuple[str, ...]) -> str:
    quoted = ", ".join(f'"{column}"' for column in columns)
    sql = f'INSERT INTO "{table.name}" ({quoted}) VALUES ({", ".join("?" for _ in columns)})'  # noqa: S608 - our tables
    if not keys:
        return sql
    updates = ", ".join(f'"{column}" = excluded."{column}"' for column in columns if column not in keys)
    return f"{sql} ON CONFLICT ({', '.join(keys)}) DO {'UPDATE SET ' + updates if updates else 'NOTHING'}"


def one(connection: Connection, sql: str, *values: Any) -> Any:
    """The first column of the first row of a statement with `?` in it, or None: for look-ups on the write path."""
    row = connection.exec_driver_sql(sql, values).fetchone()
    return None if row is None else row[0]


def rows(connection: Connection, sql: str, *values: Any) -> Iterator[Any]:
    """The rows of a statement with `?` in it as the driver gives them, one after another: a third of what Core takes.

    The transaction must have begun.
    """
    with mapped(file_of(connection.engine)):
        yield from cast(sqlite3.Connection, connection.connection.driver_connection).execute(sql, values)


def hex_of(column: ColumnElement[UUID]) -> ColumnElement[str]:
    """SQL for the 32 lower-case hex digits of an id."""
    return func.lower(func.hex(column))


# --- errors ---

_AWAY = {
    sqlite3.SQLITE_BUSY: "is locked by another process: end that process if it does not let go",
    sqlite3.SQLITE_LOCKED: "is locked by another connection",
    sqlite3.SQLITE_FULL: "cannot grow, its disk is full: make room",
    sqlite3.SQLITE_READONLY: "is read-only: make it and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check the path and its folder's permissions",
    sqlite3.SQLITE_PERM: "may not be opened: check its permissions",
    sqlite3.SQLITE_IOERR: "cannot be read or written, its disk reports an error: check the disk",
    sqlite3.SQLITE_CORRUPT: "is damaged: restore it from a copy, or move it away",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database: check the path, or move the file away",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process: end that process if it does not let go",
    sqlite3.SQLITE_NOMEM: "cannot be used, memory is exhausted: free some",
    sqlite3.SQLITE_INTERRUPT: "was interrupted",
    sqlite3.SQLITE_SCHEMA: "was changed by another process",
}
_REFUSED = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH)


def store_error(error: BaseException, path: Path) -> WiretapeError | None:
    """The store error for what the driver raised, None for what is a fault of ours and must stay visible."""
    # The driver checks values before SQLite sees them: beyond 64 bits, lone surrogates, types that cannot be bound.
    if isinstance(error, OverflowError | UnicodeEncodeError | sqlite3.IntegrityError | sqlite3.DataError):
        return ValueRefused(f"the database {path} refuses a value: {error}")
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        binding = isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError) and "binding" in str(error)
        return ValueRefused(f"the database {path} refuses a value: {error}") if binding else None
    if code & 0xFF in _REFUSED:
        return ValueRefused(f"the database {path} refuses a value: {error}")
    if code & 0xFF in _AWAY:
        return DatabaseAway(f"the database {path} {_AWAY[code & 0xFF]} ({error})")
    if str(error).startswith(("no such table", "no such column")):
        return DatabaseAway(
            f"the database {path} lacks a table or column of this version ({error}): run `wiretape db upgrade`"
        )
    return None


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Errors of raw driver calls as store errors."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
        known = store_error(error, path)
        if known is None:
            raise
        raise known from error


def _handle_error(context: ExceptionContext) -> WiretapeError | None:
    """What SQLAlchemy raises instead of its own error."""
    return None if context.engine is None else store_error(context.original_exception, file_of(context.engine))


# --- revisions ---


def revision(engine: Engine) -> str | None:
    """The revision that the database is at; None if it has none (a new file)."""
    with reading(engine) as connection:
        exists = one(connection, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'")
        found = one(connection, "SELECT version_num FROM alembic_version") if exists else None
    return cast("str | None", found)


def check_version(engine: Engine) -> None:
    """Raise DatabaseTooNew or DatabaseTooOld unless the database is at the revision that this version works with."""
    found = revision(engine)
    if found == REVISIONS[-1]:
        return
    path = file_of(engine)
    if found is None:
        raise DatabaseTooOld(f"the database {path} has no tables yet: run `wiretape db upgrade`")
    if found in REVISIONS:
        raise DatabaseTooOld(
            f"the database {path} is at revision {found}, this version needs {REVISIONS[-1]}: run `wiretape db upgrade`"
        )
    raise DatabaseTooNew(
        f"the database {path} was written by a newer wiretape (revision {found}, this one knows up to {REVISIONS[-1]}):"
        " install that version, or name another database"
    )

"""SQLite: opening a file, its transactions, its errors, and what only it does. See `backend.py` for the seam.

Must not know which rows are written. Errors of the driver become store errors here, once, for every statement that
runs on the engine; raw driver calls go through `mapped`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import ExceptionContext

from proxy.errors import UsageError, WiretapeError
from proxy.store import shape_sqlite
from proxy.store.backend import Row, Shape, on_conflict
from proxy.store.errors import DatabaseAway, DatabaseMoved, ValueRefused

_IMMEDIATE = "wiretape_immediate"
_VACUUMED = 256  # pages a step, a few milliseconds
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA secure_delete = ON",
    "PRAGMA journal_size_limit = 67108864",
)


def open_engine(url: str, *, create: bool, busy_timeout: float) -> tuple[Engine, SQLite]:
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
    backend = SQLite(path, (found.st_dev, found.st_ino))

    def connect() -> sqlite3.Connection:
        return _connect(backend, busy_timeout)

    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        creator=connect,
        pool_use_lifo=True,
        max_overflow=-1,  # the console's threads may need more than the pool keeps: each is only a file handle
        hide_parameters=True,  # recorded text must not get into tracebacks
    )
    event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", backend.handle_error)
    with engine.connect():
        return engine, backend


def _path(url: str) -> Path:
    path = url.removeprefix("sqlite:///")
    if path == url:
        raise UsageError(
            "the database URL cannot be read, or names what is not supported: use sqlite:///PATH or"
            " postgresql://USER@HOST/NAME"
        )
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


def _connect(backend: SQLite, busy_timeout: float) -> sqlite3.Connection:
    """One connection, refused if the file is no longer the one that the engine was opened for."""
    path = backend.path
    with mapped(backend.place):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=busy_timeout,
            isolation_level=None,  # no BEGIN by the driver: `_begin` says which one
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            if backend.moved():
                raise moved(backend.place)
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


def moved(place: str) -> DatabaseMoved:
    """The error for a file that is no longer the one that was opened."""
    return DatabaseMoved(
        f"the database {place} was renamed, replaced or removed while it was open:"
        " put it back, or let it be opened anew"
    )


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


class SQLite:
    """One file. `opened` is the device and inode that it had when it was opened."""

    name = "sqlite"
    shared = False
    hex_sql = "lower(hex({}))"

    def __init__(self, path: Path, opened: tuple[int, int]) -> None:
        self._path = path
        self.place = str(path)
        self._opened = opened

    @property
    def path(self) -> Path:
        return self._path

    def moved(self) -> bool:
        try:
            found = self._path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._opened

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, engine: Engine, *, durable: bool, beside: bool) -> Iterator[Connection]:
        """It takes the write lock at once, so that it cannot fail half way for it."""
        with (
            engine.connect().execution_options(**{_IMMEDIATE: True}) as connection,
            self._made_durable(connection) if durable else nullcontext(),
            connection.begin(),
        ):
            yield connection
            if durable:
                # In WAL mode a transaction that changes nothing writes no frame, and so syncs nothing.
                sql = "INSERT INTO meta VALUES ('durable_commit', ?) ON CONFLICT (key) DO UPDATE SET value = value + 1"
                connection.exec_driver_sql(sql, ("1",))

    @contextmanager
    def _made_durable(self, connection: Connection) -> Iterator[None]:
        """Commits inside are synced to disk, and with them every earlier one; to be entered before BEGIN."""
        self.run_outside(connection, "PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self.run_outside(connection, "PRAGMA synchronous = NORMAL")

    @contextmanager
    def apart(self, connection: Connection) -> Iterator[Connection]:
        """Nobody else can write meanwhile: the same."""
        yield connection

    @contextmanager
    def one_at_a_time(self, engine: Engine, work: str) -> Iterator[bool]:
        """Only one ingest writes into a file."""
        yield True

    def let_go(self, engine: Engine) -> None:
        """If the file was moved, all that was committed goes with it.

        SQLite leaves the log (-wal) of a moved file behind, whole, and lays it over whatever file takes the place. What
        cannot be saved so (no connection is open any more, the disk is gone) is left as SQLite leaves it.
        """
        if self.moved():
            with suppress(WiretapeError, sqlite3.Error):
                connection = engine.raw_connection()
                try:
                    cast(sqlite3.Connection, connection.driver_connection).execute("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    connection.close()
        engine.dispose()

    def translated(self, sql: str) -> str:
        return sql

    def rows(self, connection: Connection, sql: str, values: Sequence[Any], *, whole: bool) -> Generator[Any]:
        with mapped(self.place):
            yield from _driver(connection).execute(sql, values)

    def insert_many(self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """The driver's own executemany: 1.6 us a chunk where Core's takes 4."""
        connection.exec_driver_sql(_insert(table, tuple(columns), None), list(rows))

    def upsert_many(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], added: Sequence[str]
    ) -> None:
        connection.exec_driver_sql(_insert(table, tuple(columns), tuple(added)), list(rows))

    def update_many(self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        connection.exec_driver_sql(_update(table, tuple(columns)), list(rows))

    def has_table(self, connection: Connection, name: str) -> bool:
        return name in self.tables(connection)

    def tables(self, connection: Connection) -> set[str]:
        return {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def size(self, connection: Connection) -> int:
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(each.stat().st_size for each in files if each.exists())

    def run_outside(self, connection: Connection, script: str) -> None:
        """Run SQL outside any transaction, each statement to its end.

        `execute` would take one step of `PRAGMA incremental_vacuum`, which frees one page a step.
        """
        with mapped(self.place):
            _driver(connection).executescript(script)

    def prepare(self, engine: Engine, ours: str) -> None:
        """Have an empty file give freed pages back: it takes that mode before the first table, or by VACUUM only."""
        with engine.connect() as connection:
            mode = connection.exec_driver_sql("PRAGMA auto_vacuum").scalar()
            # A second process may be making the very tables now: it is not another program.
            mine = "SELECT count(*) FROM sqlite_master WHERE name = ?"
            foreign = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
            if foreign and not connection.exec_driver_sql(mine, (ours,)).scalar():
                raise UsageError(f"the database {self.place} holds another program's tables: name another file")
            connection.rollback()
            if mode != 2 and not foreign:
                self.run_outside(connection, "PRAGMA auto_vacuum = INCREMENTAL; VACUUM")

    def shapes(self, engine: Engine) -> tuple[Shape, Shape]:
        with self.reading(engine) as connection:
            return shape_sqlite.wanted(), shape_sqlite.shape(connection)

    def reclaim(self, engine: Engine) -> None:
        """Give freed pages back to the file system, and empty the log, which still holds what was in them."""
        with engine.connect() as connection:
            free = _free_pages(connection)
            while free:
                self.run_outside(connection, f"PRAGMA incremental_vacuum({_VACUUMED})")
                free, before = _free_pages(connection), free
                if free >= before:
                    break
            # It keeps writers out while it waits for readers: not for long. What is left goes with a later checkpoint.
            self.run_outside(connection, "PRAGMA busy_timeout = 100; PRAGMA wal_checkpoint(TRUNCATE)")
            connection.invalidate()  # with its short patience

    def handle_error(self, context: ExceptionContext) -> WiretapeError | None:
        """What SQLAlchemy raises instead of its own error."""
        return None if context.engine is None else store_error(context.original_exception, self.place)


def _free_pages(connection: Connection) -> int:
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar()
    connection.rollback()
    return cast(int, free)


@lru_cache(maxsize=64)
def _insert(table: Table, columns: tuple[str, ...], added: tuple[str, ...] | None) -> str:
    """`added` None: a row that is there already is an error."""
    quoted = ", ".join(f'"{column}"' for column in columns)
    sql = f'INSERT INTO "{table.name}" ({quoted}) VALUES ({", ".join("?" for _ in columns)})'  # noqa: S608 - our tables
    return sql if added is None else f"{sql} {on_conflict(table, columns, added)}"


@lru_cache(maxsize=64)
def _update(table: Table, columns: tuple[str, ...]) -> str:
    (key,) = table.primary_key
    changed = ", ".join(f'"{column}" = ?' for column in columns)
    return f'UPDATE "{table.name}" SET {changed} WHERE "{key.name}" = ?'  # noqa: S608 - our tables


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


def store_error(error: BaseException, place: str) -> WiretapeError | None:
    """The store error for what the driver raised, None for what is a fault of ours and must stay visible."""
    # The driver checks values before SQLite sees them: beyond 64 bits, lone surrogates, types that cannot be bound.
    if isinstance(error, OverflowError | UnicodeEncodeError | sqlite3.IntegrityError | sqlite3.DataError):
        return ValueRefused(f"the database {place} refuses a value: {error}")
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        binding = isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError) and "binding" in str(error)
        return ValueRefused(f"the database {place} refuses a value: {error}") if binding else None
    if code & 0xFF in _REFUSED:
        return ValueRefused(f"the database {place} refuses a value: {error}")
    if code & 0xFF in _AWAY:
        return DatabaseAway(f"the database {place} {_AWAY[code & 0xFF]} ({error})")
    if str(error).startswith(("no such table", "no such column")):
        return DatabaseAway(
            f"the database {place} lacks a table or column of this version ({error}): run `wiretape db upgrade`"
        )
    return None


@contextmanager
def mapped(place: str) -> Iterator[None]:
    """Errors of raw driver calls as store errors."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
        known = store_error(error, place)
        if known is None:
            raise
        raise known from error

"""Opening the database, its transactions, and what must be fast: the only file that tells SQLite from Postgres.

Statements are written once, in SQL that both understand, with `?` for values and ids as 16 bytes; what the two do in
different ways is behind `backend.py`. Must not know which rows are written.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, cast

from sqlalchemy import Connection, CursorResult, Engine, Table

from proxy.store import sqlite
from proxy.store.backend import POSTGRES_SCHEME, Backend
from proxy.store.errors import DatabaseTooNew, DatabaseTooOld
from proxy.store.schema import REVISIONS

BUSY_TIMEOUT = 10.0
"""Seconds that a statement waits for another process's lock."""

_BACKEND = "wiretape_backend"


def open_engine(url: str, *, create: bool, busy_timeout: float = BUSY_TIMEOUT) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql://...`, proved by a first connection.

    Only `create` makes a file (mode 0600); tables are made by `migrate.upgrade`. Raises UsageError for a URL that
    cannot work, DatabaseAway for what is missing or cannot be used now.
    """
    engine: Engine
    backend: Backend
    if shares(url):
        # Its driver takes a tenth of a second to load, which every command would pay.
        engine, backend = import_module("proxy.store.postgres").open_engine(url, busy_timeout=busy_timeout)
    else:
        engine, backend = sqlite.open_engine(url, create=create, busy_timeout=busy_timeout)
    engine.update_execution_options(**{_BACKEND: backend})
    return engine


def backend_of(bind: Engine | Connection) -> Backend:
    """What an engine, or a connection of one, can do."""
    return cast(Backend, bind.engine.get_execution_options()[_BACKEND])


def place_of(engine: Engine) -> str:
    """What messages call the database: the path of a file, or a URL without a password."""
    return backend_of(engine).place


def shares(url: str) -> bool:
    """Whether several processes may write recorded rows at once into the database of a URL."""
    return POSTGRES_SCHEME.match(url) is not None


def is_shared(bind: Engine | Connection) -> bool:
    """Whether several processes may write recorded rows at once."""
    return backend_of(bind).shared


def hashes_responses(bind: Engine | Connection) -> bool:
    """Whether responses are found by a hash of their id, in `response_ids`."""
    return not backend_of(bind).shared


def hex_sql(bind: Engine | Connection, column: str) -> str:
    """SQL for the 32 lower-case hex digits of an id."""
    return backend_of(bind).hex_sql.format(column)


def require_same(engine: Engine) -> None:
    """Raise DatabaseMoved if the file is no longer the one that was opened: what is written now would go into a file
    that nobody reads."""
    backend = backend_of(engine)
    if backend.moved():
        raise sqlite.moved(backend.place)


def let_go(engine: Engine) -> None:
    """Close an engine for good."""
    backend_of(engine).let_go(engine)


def reclaim(engine: Engine) -> None:
    """Give freed room back to the file system, as far as that can be done beside others at work."""
    backend_of(engine).reclaim(engine)


def size(connection: Connection) -> int:
    """Bytes that the database takes on its disk."""
    return backend_of(connection).size(connection)


def server_time(engine: Engine) -> datetime | None:
    """What time it is where the database is; None: here."""
    if not is_shared(engine):
        return None
    with reading(engine) as connection:
        return datetime.fromtimestamp(float(one(connection, "SELECT extract(epoch FROM now())::float8")), UTC)


# --- transactions ---


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection whose statements all see one state of the database; nothing it does is kept."""
    with backend_of(engine).reading(engine) as connection:
        yield connection


@contextmanager
def writing(engine: Engine, *, durable: bool = False, beside: bool = False) -> Iterator[Connection]:
    """A write transaction, committed at the end, rolled back on any error.

    It waits for its turn at the start, so that it cannot fail half way for it. Who only adds rows of journals that
    nobody else stores may be `beside` others of the kind, where the database is shared; everybody else is alone.
    `durable`: the commit, and with it every earlier one, survives power loss. Raises DatabaseMoved before it begins and
    instead of committing.
    """
    require_same(engine)
    with backend_of(engine).writing(engine, durable=durable, beside=beside) as connection:
        yield connection
        require_same(engine)


@contextmanager
def apart(connection: Connection) -> Iterator[Connection]:
    """A connection for rows that all nodes share: seen by all at once, and kept whatever becomes of the transaction."""
    with backend_of(connection).apart(connection) as other:
        yield other


@contextmanager
def one_at_a_time(engine: Engine, work: str) -> Iterator[bool]:
    """Whether a piece of work, by its name, is ours alone to the end: nodes that share a database leave it to one."""
    with backend_of(engine).one_at_a_time(engine, work) as mine:
        yield mine


# --- statements ---


def execute(connection: Connection, sql: str, values: Sequence[Any] = ()) -> CursorResult[*tuple[Any, ...]]:
    """Run a statement with `?` in it."""
    return connection.exec_driver_sql(backend_of(connection).translated(sql), tuple(values))


def execute_many(connection: Connection, sql: str, values: Sequence[Sequence[Any]]) -> None:
    """Run a statement with `?` in it for each of `values`."""
    if values:
        connection.exec_driver_sql(backend_of(connection).translated(sql), [tuple(each) for each in values])


def one(connection: Connection, sql: str, *values: Any) -> Any:
    """The first column of the first row of a statement with `?` in it, or None."""
    row = execute(connection, sql, values).fetchone()
    return None if row is None else row[0]


def rows(connection: Connection, sql: str, *values: Any, whole: bool = False) -> Generator[Any]:
    """The rows of a statement with `?` in it as the driver gives them, one after another: a third of what Core takes.

    The transaction must have begun. `whole`: they are few, and all taken at once.
    """
    return backend_of(connection).rows(connection, sql, values, whole=whole)


def insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows that give every column of `table` in order, in the driver's types (ids as 16 bytes).

    A row that is already there raises ValueRefused.
    """
    if rows:
        backend_of(connection).insert_many(connection, table, tuple(table.c.keys()), rows)


def insert_columns(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """`insert_many` of rows that give `columns` only."""
    if rows:
        backend_of(connection).insert_many(connection, table, columns, rows)


def upsert_many(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    added: Sequence[str] = (),
) -> None:
    """Insert rows that give `columns` in order; of a row that is there already set these columns, no others.

    Those in `added` are added to what stands there.
    """
    if rows:
        backend_of(connection).upsert_many(connection, table, columns, rows, added)


def update_many(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Set `columns` of rows that are there; each of `rows` gives them in order, and then its key."""
    if rows:
        backend_of(connection).update_many(connection, table, columns, rows)


# --- revisions ---


def revision(engine: Engine) -> str | None:
    """The revision that the database is at; None if it has none (a new one)."""
    with reading(engine) as connection:
        exists = backend_of(engine).has_table(connection, "alembic_version")
        found = one(connection, "SELECT version_num FROM alembic_version") if exists else None
    return cast("str | None", found)


def check_version(engine: Engine) -> None:
    """Raise DatabaseTooNew or DatabaseTooOld unless the database is at the revision that this version works with."""
    found = revision(engine)
    if found == REVISIONS[-1]:
        return
    place = place_of(engine)
    if found is None:
        raise DatabaseTooOld(f"the database {place} has no tables yet: run `wiretape db upgrade`")
    if found in REVISIONS:
        raise DatabaseTooOld(
            f"the database {place} is at revision {found}, this version needs {REVISIONS[-1]}:"
            " run `wiretape db upgrade`"
        )
    raise DatabaseTooNew(
        f"the database {place} was written by a newer wiretape (revision {found}, this one knows up to"
        f" {REVISIONS[-1]}): install that version, or name another database"
    )

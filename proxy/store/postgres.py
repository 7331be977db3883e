"""Postgres: its transactions, and what only it does. See `backend.py` for the seam, `postgres_url.py` for connecting.

Nothing here needs a session's state, so that a pooler may hand each transaction to another server process: no prepared
statements, settings for one transaction only, advisory locks that end with it. Ids travel as their 16 bytes, JSON as
text, as they do with SQLite.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar, cast

import psycopg
from psycopg import sql as quoting
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import ExceptionContext

from proxy.errors import UsageError, WiretapeError
from proxy.store import shape_postgres
from proxy.store.backend import Row, Shape, lots, on_conflict
from proxy.store.errors import DatabaseAway
from proxy.store.postgres_errors import connect_error, mapped, store_error
from proxy.store.postgres_url import Address, check_alive, forget_reading, parse
from proxy.store.schema_postgres import PARTITIONED, TABLES
from proxy.store.schema_types import sql_type

LOCK = 0x77697265  # "wire": the advisory lock between those who write recorded rows and those who change history
OLDEST = 150000
"""The oldest server that is let in; 16 and 18 are tested, Citus runs on 15 too."""

_PARAMETERS = 500  # of one statement: its text is parsed anew each time
_FETCHED = 16  # rows of bodies that are in memory at once

Statement = Callable[[str], None]


def open_engine(url: str, *, busy_timeout: float) -> tuple[Engine, Postgres]:
    """An engine for a Postgres URL as people paste it, proved by a first connection.

    Raises UsageError for a URL or a server that cannot work, DatabaseAway for one that cannot be reached now.
    """
    address = parse(url)
    backend = Postgres(address, busy_timeout)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=backend.connect,
        pool_use_lifo=True,
        max_overflow=-1,
        use_native_hstore=False,
        hide_parameters=True,  # recorded text must not get into tracebacks
    )
    event.listen(engine, "handle_error", backend.handle_error)
    event.listen(engine, "before_cursor_execute", backend.note)
    event.listen(engine, "checkout", check_alive)
    event.listen(engine, "checkin", forget_reading)
    with engine.connect():
        return engine, backend


class _Cursor(psycopg.Cursor[Any]):
    """Takes results in the binary format: chunks come as they are, not as hex digits."""

    def __init__(self, connection: psycopg.Connection[Any], *, row_factory: Any = None) -> None:
        super().__init__(connection, row_factory=row_factory)
        self.format = Format.BINARY


class _BytesDumper(Dumper):
    """Bytes of a type that the server infers: those of an id where it expects a uuid, else bytea."""

    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer:
        return cast(Buffer, obj)


class _IdDumper(Dumper):
    """The 16 bytes of an id, where COPY is told that the column is a uuid."""

    format = Format.BINARY
    oid = psycopg.adapters.types["uuid"].oid

    def dump(self, obj: Any) -> Buffer:
        return cast(Buffer, obj)


class _JsonDumper(Dumper):
    """JSON that is written already."""

    format = Format.BINARY
    oid = psycopg.adapters.types["json"].oid

    def dump(self, obj: Any) -> Buffer:
        return cast(str, obj).encode()


class _IdLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


class _IdTextLoader(Loader):
    format = Format.TEXT

    def load(self, data: Buffer) -> bytes:
        return bytes.fromhex(bytes(data).decode().replace("-", ""))


class _JsonLoader(Loader):
    format = Format.TEXT

    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


class _JsonBinaryLoader(_JsonLoader):
    format = Format.BINARY


class _Id:
    """Stands for nothing: psycopg finds a dumper by a type, and COPY by the oid of one that is registered."""


class _Json:
    """As `_Id`."""


def _adapt(connection: psycopg.Connection[Any]) -> None:
    adapters = connection.adapters
    for kind in (bytes, bytearray, memoryview):
        adapters.register_dumper(kind, _BytesDumper)
    adapters.register_dumper(_Id, _IdDumper)
    adapters.register_dumper(_Json, _JsonDumper)
    for loader in (_IdLoader, _IdTextLoader):
        adapters.register_loader("uuid", loader)
    for json_loader in (_JsonLoader, _JsonBinaryLoader):
        adapters.register_loader("json", json_loader)


class Postgres:
    """One database of a server. Those in `statements` are told each statement that is sent, COPY too."""

    name = "postgresql"
    statements: ClassVar[list[Statement]] = []
    shared = True
    hex_sql = "replace(CAST({} AS text), '-', '')"

    def __init__(self, address: Address, busy_timeout: float) -> None:
        self.place = address.place
        self._cursors = itertools.count()
        self._address = address
        self._timeout = f"{max(int(busy_timeout * 1000), 1)}ms"

    def connect(self) -> psycopg.Connection[Any]:
        """Raises UsageError and DatabaseAway."""
        try:
            connection = psycopg.connect(self._address.conninfo, prepare_threshold=None, cursor_factory=_Cursor)
        except psycopg.Error as error:
            raise connect_error(error, self.place) from error
        _adapt(connection)
        self._address.check(connection, OLDEST)
        return connection

    def moved(self) -> bool:
        return False

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def writing(self, engine: Engine, *, durable: bool, beside: bool) -> Iterator[Connection]:
        """Whoever changes history is alone; nodes that only add to it may write at the same time (`beside`).

        A commit that is not durable may be lost with the server, together with the position that it moved: whatever
        it held is still in the journal. Commits take effect in their order, so that a durable one covers all earlier.
        """
        shared = "_shared" if beside else ""
        begin = f"""SELECT set_config('lock_timeout', %s, true), set_config('synchronous_commit', %s, true),
            pg_advisory_xact_lock{shared}({LOCK})"""
        with engine.begin() as connection:
            connection.exec_driver_sql(begin, (self._timeout, "on" if durable else "off"))
            if durable:
                # What changes nothing is not flushed; what has a transaction number is.
                connection.exec_driver_sql("SELECT pg_current_xact_id()::text")
            yield connection

    @contextmanager
    def apart(self, connection: Connection) -> Iterator[Connection]:
        """What several nodes may make at once is held for a moment only, so that they cannot wait for one another."""
        with connection.engine.begin() as other:
            yield other

    @contextmanager
    def one_at_a_time(self, engine: Engine, work: str) -> Iterator[bool]:
        """By a lock that ends with its transaction, and so with whoever holds it."""
        with engine.begin() as connection:
            sql = "SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))"
            yield connection.exec_driver_sql(sql, (LOCK, work)).scalar() is True

    def let_go(self, engine: Engine) -> None:
        engine.dispose()

    def translated(self, sql: str) -> str:
        return _translated(sql)

    def rows(self, connection: Connection, sql: str, values: Sequence[Any], *, whole: bool) -> Generator[Any]:
        """A few at a time by a cursor of the server's, beside which other statements may run."""
        translated = _translated(sql)
        self._tell(translated)
        driver = _driver(connection)
        if whole:
            with mapped(self.place), driver.cursor() as cursor:
                yield from cursor.execute(translated.encode(), values)
            return
        with mapped(self.place), driver.cursor(f"rows{next(self._cursors)}") as named:
            named.itersize = _FETCHED
            yield from named.execute(translated.encode(), values, binary=True)

    def insert_many(self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """COPY in the binary format: 5 us of the client's time for a row of 42 columns, where INSERT takes 28."""
        statement, types = _copy(table, tuple(columns))
        self._tell(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN")
        with mapped(self.place), _driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    def upsert_many(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], added: Sequence[str]
    ) -> None:
        if not added and len(table.primary_key) == 1 and len(columns) > 1:
            key = columns.index(_key(table))
            self._replace(connection, table, columns, {bytes(row[key]): row for row in rows})
            return
        for lot in lots(rows, max(_PARAMETERS // len(columns), 1)):
            values = [value for row in lot for value in row]
            connection.exec_driver_sql(_insert(table, tuple(columns), tuple(added), len(lot)), tuple(values))

    def update_many(self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        self._replace(connection, table, columns, {bytes(row[-1]): row[:-1] for row in rows}, new=False)

    def _replace(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: dict[bytes, Row], *, new: bool = True
    ) -> None:
        """Write rows anew with `columns` set: what was there is taken out in one statement and all goes in by COPY.

        An UPDATE a row costs the server more (a plan each, and the same new row), the client three times as much.
        """
        names = tuple(table.c.keys())
        places = [names.index(column) for column in columns]
        key = names.index(_key(table))
        whole = []
        waiting = dict(rows)
        for lot in lots(list(rows), _PARAMETERS):
            for row in connection.exec_driver_sql(_take_out(table, len(lot)), tuple(lot)):
                there = list(row)
                for place, value in zip(places, waiting.pop(bytes(row[key])), strict=True):
                    there[place] = value
                whole.append(tuple(there))
        if whole:
            self.insert_many(connection, table, names, whole)
        if waiting and not new:
            # They were there when this transaction looked, and nobody deletes beside it.
            raise DatabaseAway(f"the database {self.place} was changed by another node at the same moment")
        if waiting:
            self.insert_many(connection, table, columns, list(waiting.values()))

    def has_table(self, connection: Connection, name: str) -> bool:
        return name in self.tables(connection)  # not one further down the search path: it is another program's

    def tables(self, connection: Connection) -> set[str]:
        # The information schema would leave out those that this user has no right to.
        sql = """SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
            AND relnamespace = to_regnamespace(quote_ident(current_schema()))"""
        return {row[0] for row in connection.exec_driver_sql(sql)}

    def size(self, connection: Connection) -> int:
        sql = """SELECT CAST(coalesce(sum(pg_total_relation_size(c.oid)), 0) AS bigint) FROM pg_class c
            WHERE c.relkind IN ('r', 'm') AND c.relnamespace = to_regnamespace(quote_ident(current_schema()))"""
        return cast(int, connection.exec_driver_sql(sql).scalar())

    def prepare(self, engine: Engine, ours: str) -> None:
        with engine.connect() as connection:
            found = self.tables(connection)
        clash = sorted(found & {each.name for each in TABLES})
        if clash and ours not in found:
            raise UsageError(
                f"the database {self.place} holds another program's table {clash[0]}: name another database, or give"
                " this user a schema of its own (ALTER ROLE ... SET search_path)"
            )

    def shapes(self, engine: Engine) -> tuple[Shape, Shape]:
        with engine.connect() as connection:
            found = shape_postgres.shape(connection)
            connection.rollback()
            return shape_postgres.wanted(connection), found

    def reclaim(self, engine: Engine) -> None:
        """Have deleted rows' room used again, and what is at the end of a table given back; who is busy is left out."""
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM (SKIP_LOCKED) {', '.join(PARTITIONED)}")

    def note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        """What SQLAlchemy is about to send."""
        self._tell(statement)

    def _tell(self, statement: str) -> None:
        for told in self.statements:
            told(statement)

    def handle_error(self, context: ExceptionContext) -> WiretapeError | None:
        """What SQLAlchemy raises instead of its own error."""
        if isinstance(context.original_exception, WiretapeError):
            return None  # from connecting
        return store_error(context.original_exception, self.place)


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = cast("psycopg.Connection[Any] | None", connection.connection.driver_connection)
    if driver is None:
        raise DatabaseAway("the connection to the database is gone")
    return driver


def _key(table: Table) -> str:
    (column,) = table.primary_key
    return column.name


@lru_cache(maxsize=512)
def _translated(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


@lru_cache(maxsize=64)
def _copy(table: Table, columns: tuple[str, ...]) -> tuple[quoting.Composed, list[str]]:
    named = quoting.SQL(", ").join(quoting.Identifier(column) for column in columns)
    statement = quoting.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(quoting.Identifier(table.name), named)
    return statement, [sql_type(table.c[column]) for column in columns]


@lru_cache(maxsize=256)
def _insert(table: Table, columns: tuple[str, ...], added: tuple[str, ...], number: int) -> str:
    quoted = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join([f"({', '.join(['%s'] * len(columns))})"] * number)
    return f'INSERT INTO "{table.name}" ({quoted}) VALUES {values} {on_conflict(table, columns, added)}'  # noqa: S608 - ours


@lru_cache(maxsize=256)
def _take_out(table: Table, number: int) -> str:
    quoted = ", ".join(f'"{column.name}"' for column in table.c)
    marks = ", ".join(["%s"] * number)
    return f'DELETE FROM "{table.name}" WHERE "{_key(table)}" IN ({marks}) RETURNING {quoted}'  # noqa: S608 - ours

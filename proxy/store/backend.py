"""What an engine must be able to do that SQL does not say alike everywhere: the seam between `engine.py` and the two
databases, `sqlite.py` and `postgres.py`. Must not know any table by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Table

POSTGRES_SCHEME = re.compile(r"postgres(?:ql)?(?:\+[a-z0-9]+)?://", re.IGNORECASE)
"""How a URL for Postgres begins; here so that who has a file need not load a driver to know."""

Row = tuple[Any, ...]

Shape = dict[str, dict[str, str]]
"""What a database consists of: "table NAME", "index NAME", "view NAME" -> its parts -> how each is defined."""


class Backend(Protocol):
    """One open database. `place` is what messages call it, without a password."""

    name: str
    place: str
    shared: bool
    """Whether several processes may write recorded rows at once."""
    hex_sql: str
    """How the 32 lower-case hex digits of the id `{}` are had."""

    def moved(self) -> bool:
        """Whether what is at the place is no longer what was opened."""
        ...

    def reading(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A transaction that sees one state and keeps nothing."""
        ...

    def writing(self, engine: Engine, *, durable: bool, beside: bool) -> AbstractContextManager[Connection]:
        """A write transaction; with `beside` others of the kind may go on at the same time, where `shared`."""
        ...

    def apart(self, connection: Connection) -> AbstractContextManager[Connection]:
        """A connection for what is to be seen by all at once, whatever becomes of the transaction that is open."""
        ...

    def one_at_a_time(self, engine: Engine, work: str) -> AbstractContextManager[bool]:
        """Whether a piece of work is ours alone, as long as it lasts."""
        ...

    def let_go(self, engine: Engine) -> None:
        """Close all connections for good."""
        ...

    def translated(self, sql: str) -> str:
        """Our SQL, with `?` for values, in the driver's form."""
        ...

    def rows(self, connection: Connection, sql: str, values: Sequence[Any], *, whole: bool) -> Generator[Any]:
        """Rows as the driver gives them, as cheaply as it can; a few at a time unless `whole`."""
        ...

    def insert_many(self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """New rows, as fast as the driver can."""
        ...

    def upsert_many(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], added: Sequence[str]
    ) -> None:
        """New rows; of those that are there set `columns`, and add to what stands in `added`."""
        ...

    def update_many(self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Set `columns` of rows that are there; each of `rows` ends with its primary key, a single column."""
        ...

    def has_table(self, connection: Connection, name: str) -> bool:
        """Whether there is a table of this name where ours are."""
        ...

    def tables(self, connection: Connection) -> set[str]:
        """The names of all tables where ours are."""
        ...

    def size(self, connection: Connection) -> int:
        """Bytes that the database takes on its disk."""
        ...

    def prepare(self, engine: Engine, ours: str) -> None:
        """Make a new database ready for its tables; raise UsageError if it is another program's. `ours` is the table
        that tells that it is not."""
        ...

    def shapes(self, engine: Engine) -> tuple[Shape, Shape]:
        """What this version wants, and what is there."""
        ...

    def reclaim(self, engine: Engine) -> None:
        """Give freed room back to the file system as far as that can be done beside others at work."""
        ...


def lots(values: Iterable[Any], most: int = 500) -> Iterator[list[Any]]:
    """`values` in lists of bounded length: engines bound a statement's parameters."""
    remaining = iter(values)
    while lot := list(islice(remaining, most)):
        yield lot


def marks(values: Collection[Any]) -> str:
    """As many `?` as there are values."""
    return ", ".join("?" * len(values))


def on_conflict(table: Table, columns: Sequence[str], added: Sequence[str]) -> str:
    """What an INSERT of `columns` does with a row that is there: sets them, adds those in `added`, or leaves it."""
    keys = [column.name for column in table.primary_key]
    sums = {column: f'"{table.name}"."{column}" + ' for column in added}
    updates = [f'"{each}" = {sums.get(each, "")}excluded."{each}"' for each in columns if each not in keys]
    return f"ON CONFLICT ({', '.join(keys)}) DO {'UPDATE SET ' + ', '.join(updates) if updates else 'NOTHING'}"

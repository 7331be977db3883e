"""A database as a version of ours left it at an earlier revision, with rows in every table.

Rows are written and read by the drivers, as what the tables hold: nothing here knows the tables of today.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from alembic import command

from proxy.store.engine import backend_of, open_engine, writing
from proxy.store.migrate import _config
from tests.support.databases import SQLITE, postgres_of

Rows = dict[str, list[tuple[Any, ...]]]

ENDED, OPEN = (UUID(f"01990000-{number:04x}-7000-8000-000000000001") for number in (1, 2))
STARTED_US = 0x0199_0000_0001 * 1000

_NAMES = {1: "here", 2: "openai", 3: "m-1", 4: "POST", 5: "/v1/messages", 6: "agent-7", 7: "assistant", 8: "0f" * 8}
_KEYS = {"openai": "upstream", "m-1": "model_served", "POST": "method", "/v1/messages": "target", "agent-7": "session"}

_CHOSEN: dict[str, list[dict[str, Any]]] = {
    "names": [{"id": number, "kind": number, "value": value} for number, value in _NAMES.items()],
    "exchanges": [
        {"id": ENDED, "outcome": 0, "origin": 0, "record": 0, "node": 1, "started_us": STARTED_US, "wire_end": 0}
        | {key: number for number, value in _NAMES.items() for key in [_KEYS.get(value)] if key is not None}
        | {"target_long": None, "tag_set": 1, "first_visible_us": 3_000_000, "end_us": 5_000_000, "output_tokens": 50}
        | {"credential": 8, "model_asked": 3, "cost_pico": 5 * 10**11, "cost_reported_pico": None},
        {"id": OPEN, "outcome": None, "wire_end": None, "status": None, "interpreter": None, "usage_state": None}
        | {"origin": 0, "record": 0, "upstream": 2, "first_visible_us": None, "target": 5, "target_long": None}
        | {"model_served": None},
    ],
    "header_sets": [{"id": 1, "items": '[["Host", "api.example"], ["Date", 0]]'}],
    "heads": [{"exchange_id": ENDED, "side": 0, "set_id": 1, "volatile": '["yesterday"]'}],
    "tag_sets": [{"id": 1}],
    "tag_set_items": [{"set_id": 1, "name": "env", "value": "ci"}],
    "exchange_tags": [{"exchange_id": OPEN, "name": "run", "value": "4711"}],
    "texts": [
        {"exchange_id": ENDED, "seq": -1, "role": 7, "session": None, "hash": None, "data": "An answer, gr\xfc\xdfend"},
        {"exchange_id": ENDED, "seq": 0, "role": 7, "session": 6, "data": "what was asked"},
    ],
    "chunks": [
        {"exchange_id": each, "side": side, "seq": seq, "data": bytes(range(256)) * (seq + 1)}
        for each in (ENDED, OPEN)
        for seq, side in enumerate((0, 1, 1))
    ],
    "spend_keys": [{"day": 20_000, "model": 3, "credential": 8, "virtual_key": 0, "writer": 1, "cost_pico": 10**12}],
    "credential_names": [{"credential": 8, "name": "CI"}],
    "billed": [{"exchange": ENDED, "upstream": 2}],
}
"""What stands in rows where it matters; every other column, and table, has some value of its type."""


@dataclass(frozen=True)
class Old:
    """The database; on Postgres `name` is what it is called there."""

    kind: str
    url: str
    name: str

    def run(self, work: Callable[[Any], Any]) -> Any:
        """Do something with a connection of the driver's, in a transaction."""
        if self.kind == SQLITE:
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
                return work(connection)
        with psycopg.connect(postgres_of(self.kind).conninfo(self.name)) as session:
            return work(session)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self.run(lambda connection: connection.execute(sql).fetchall()))

    def columns(self) -> dict[str, list[tuple[str, str]]]:
        """Table -> its columns with their types, without Alembic's table and without what an engine keeps by itself."""
        if self.kind == SQLITE:
            sql = """SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c
                WHERE m.type = 'table' AND m.name NOT LIKE 'texts\\_index%' ESCAPE '\\' ORDER BY m.name, c.cid"""
        else:
            sql = """SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
                FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind IN ('r', 'p')
                AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0
                ORDER BY c.relname, a.attnum"""
        found: dict[str, list[tuple[str, str]]] = {}
        for table, column, kind in self.query(sql):
            if table != "alembic_version":
                found.setdefault(table, []).append((column, kind.lower()))
        return found

    def rows(self, tables: dict[str, list[tuple[str, str]]]) -> Rows:
        """All that stands in these columns of these tables."""

        def read(connection: Any) -> Rows:
            found = {}
            for table, columns in tables.items():
                named = ", ".join(f'"{column}"' for column, _ in columns)
                rows = connection.execute(f'SELECT {named} FROM "{table}"').fetchall()  # noqa: S608 - theirs
                found[table] = sorted(rows, key=repr)
            return found

        read_rows: Rows = self.run(read)
        return read_rows

    @property
    def revision(self) -> str:
        ((found,),) = self.query("SELECT version_num FROM alembic_version")
        return str(found)


def upgrade_to(url: str, revision: str) -> None:
    """Bring a database to a revision that need not be the newest."""
    engine = open_engine(url, create=True)
    backend_of(engine).prepare(engine, "alembic_version")
    with writing(engine) as connection:
        command.upgrade(_config(connection), revision)
    engine.dispose()


def make(kind: str, folder: Path, revision: str) -> Old:
    """A database at a revision, with rows in every table; a file is made in `folder`."""
    if kind == SQLITE:
        old = Old(kind, f"sqlite:///{folder / 'old.db'}", "")
    else:
        name = postgres_of(kind).new_database()
        old = Old(kind, postgres_of(kind).url(name), name)
    upgrade_to(old.url, revision)
    tables = old.columns()

    def fill(connection: Any) -> None:
        for table, columns in tables.items():
            for number, chosen in enumerate(_CHOSEN.get(table, [{}]), 1):
                _insert(connection, table, columns, chosen, number)
        if kind == SQLITE:
            connection.execute("INSERT INTO texts_index (rowid, data) SELECT id, data FROM texts")

    old.run(fill)
    return old


def _insert(connection: Any, table: str, columns: list[tuple[str, str]], chosen: dict[str, Any], number: int) -> None:
    sqlite = isinstance(connection, sqlite3.Connection)
    written = [(column, kind) for column, kind in columns if kind != "tsvector"]
    values = [
        chosen[column] if column in chosen else _some(column, kind, number * 100 + place)
        for place, (column, kind) in enumerate(written)
    ]
    if sqlite:
        values = [value.bytes if isinstance(value, UUID) else value for value in values]
    named = ", ".join(f'"{column}"' for column, _ in written)
    marks = ", ".join(["?" if sqlite else "%s"] * len(written))
    connection.execute(f'INSERT INTO "{table}" ({named}) VALUES ({marks})', values)  # noqa: S608 - theirs


def _some(column: str, kind: str, number: int) -> Any:
    """A value of a type, another one for each number; the id of an exchange is that of one there is."""
    if column == "exchange_id":
        return ENDED
    if kind in ("uuid", "blob") and column in ("id", "worker", "replay_of"):
        return UUID(int=number)
    if kind in ("blob", "bytea"):
        return f"bytes {number}".encode()
    if kind == "boolean":
        return number % 2 == 0
    if kind in ("float", "double precision"):
        return number / 8
    if kind == "json" or (kind == "text" and column in ("data", "items", "volatile")):
        return f'{{"n": {number}, "\xfc": "\U0001f600"}}'
    return f"{column} {number}" if kind == "text" else number

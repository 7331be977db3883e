"""Bringing a database to this version's revision, and saying how its tables differ from what this version wants.

Apart from engine.py because Alembic takes a tenth of a second to import; must not know any revision's content.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine

from proxy.errors import UsageError
from proxy.store.engine import file_of, reading, revision, run_outside, writing
from proxy.store.errors import DatabaseTooNew
from proxy.store.schema import REVISIONS, metadata
from proxy.store.schema_meaning import VIRTUAL
from proxy.store.schema_views import VIEWS

_SHADOWS = tuple(f"{name}_" for name in VIRTUAL)  # what SQLite keeps a virtual table's content in

Shape = dict[str, dict[str, str]]
"""What a database consists of: "table NAME", "index NAME", "view NAME" -> its parts -> how each is defined."""


def migrations_folder(package: Path = Path(__file__).parents[1]) -> Path:
    """Where the revisions are: `_migrations` in an installed package, in a checkout `migrations` beside it."""
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Bring the database to this version's revision, in one transaction; nothing is done if it is there.

    Raises DatabaseTooNew, DatabaseAway. Two processes may call it at once: the second waits and finds nothing to do.
    """
    found = revision(engine)
    if found is not None and found not in REVISIONS:
        raise DatabaseTooNew(
            f"the database {file_of(engine)} was written by a newer wiretape (revision {found}, this one knows up to"
            f" {REVISIONS[-1]}): install that version"
        )
    if found is None:
        _prepare(engine)
    with writing(engine) as connection:
        command.upgrade(_config(connection), REVISIONS[-1])


def _prepare(engine: Engine) -> None:
    """Have an empty file give freed pages back: SQLite takes that mode before the first table, else by VACUUM only."""
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA auto_vacuum").scalar()
        # A second process may be making the very tables now: it is not another program.
        mine = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
        foreign = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
        if foreign and not connection.exec_driver_sql(mine).scalar():
            raise UsageError(f"the database {file_of(engine)} holds another program's tables: name another file")
        connection.rollback()
        if mode != 2 and not foreign:
            run_outside(connection, "PRAGMA auto_vacuum = INCREMENTAL; VACUUM")


def _config(connection: Connection) -> Config:
    config = Config()
    # ConfigParser would take a % of the path for the start of an interpolation.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def schema_differences(engine: Engine) -> list[str]:
    """How the database differs from this version's tables, indexes and views, one sentence each; empty if it does not.

    Tables, indexes and views that are not ours are left out.
    """
    with reading(engine) as connection:
        found = shape(connection)
    return differences(wanted_shape(), found)


def wanted_shape() -> Shape:
    """The shape of a database that has exactly the tables and views of schema.py and schema_views.py."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            metadata.create_all(connection)
            for statement in VIRTUAL.values():
                connection.exec_driver_sql(statement)
            for name, select in VIEWS.items():
                connection.exec_driver_sql(f"CREATE VIEW {name} AS {select}")
            return shape(connection)
    finally:
        engine.dispose()


def differences(wanted: Shape, found: Shape) -> list[str]:
    """What `found` lacks of `wanted` or has otherwise, as sentences."""
    said = []
    for thing, parts in wanted.items():
        if thing not in found:
            said.append(f"{thing} is missing")
            continue
        for part in sorted(parts.keys() | found[thing].keys()):
            want, have = parts.get(part), found[thing].get(part)
            if have is None:
                said.append(f"{thing}: {part} is missing")
            elif want is None:
                said.append(f"{thing}: {part} is not of this version")
            elif want != have:
                said.append(f"{thing}: {part} is {have!r}, should be {want!r}")
    return said


def shape(connection: Connection) -> Shape:
    """The shape of a SQLite database, but for Alembic's own table and SQLite's."""
    found: Shape = {}
    stored = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").all()
    for kind, name, sql in stored:
        if name.startswith(("sqlite_", *_SHADOWS)) or name == "alembic_version":
            continue
        if name in VIRTUAL:
            found[f"table {name}"] = {"definition": _plain(sql)}
        elif kind == "table":
            found[f"table {name}"] = _table_shape(connection, name, sql)
        else:
            found[f"{kind} {name}"] = {"definition": _plain(sql)}
    return found


def _table_shape(connection: Connection, name: str, sql: str) -> dict[str, str]:
    parts = {"storage": "without rowid" if _plain(sql).endswith("without rowid") else "rowid"}
    for row in _pragma(connection, "table_xinfo", name):
        position, column, kind, not_null, default, key, _hidden = row
        null = "not null" if not_null else "null"
        parts[f"column {column}"] = f"{kind} {null}, number {position}, default {default}, key {key}"
    for row in _pragma(connection, "index_list", name):
        if row[3] == "u":
            columns = ", ".join(str(each[2]) for each in _pragma(connection, "index_info", row[1]))
            parts[f"unique ({columns})"] = "yes"
    return parts


def _pragma(connection: Connection, pragma: str, name: str) -> list[Any]:
    return list(connection.exec_driver_sql(f"SELECT * FROM pragma_{pragma}(?)", (name,)))  # noqa: S608 - our pragmas


def _plain(sql: str) -> str:
    """SQL with what does not matter taken out: case, quotes around names, blanks."""
    return re.sub(r"\s+", " ", sql.replace('"', "")).strip().lower()

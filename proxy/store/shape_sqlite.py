"""What a SQLite database consists of, so that it can be compared with what this version wants."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, create_engine

from proxy.store.backend import Shape
from proxy.store.schema import metadata
from proxy.store.schema_meaning import VIRTUAL
from proxy.store.schema_views import views

_SHADOWS = tuple(f"{name}_" for name in VIRTUAL)  # what SQLite keeps a virtual table's content in


def wanted() -> Shape:
    """The shape of a database that has exactly the tables and views of this version."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            metadata.create_all(connection)
            for statement in VIRTUAL.values():
                connection.exec_driver_sql(statement)
            for name, select in views(postgres=False).items():
                connection.exec_driver_sql(f"CREATE VIEW {name} AS {select}")
            return shape(connection)
    finally:
        engine.dispose()


def shape(connection: Connection) -> Shape:
    """The shape of a database, but for Alembic's own table and SQLite's."""
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

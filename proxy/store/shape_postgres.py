"""What a Postgres database consists of, so that it can be compared with what this version wants.

Partitions are not told apart: which there are is a matter of time and retention.
"""

from __future__ import annotations

from sqlalchemy import Connection

from proxy.store.backend import Shape
from proxy.store.schema_postgres import statements

_SCRATCH = "wiretape_wanted"

_COLUMNS = """SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)::text, a.attnotnull,
    coalesce(pg_get_expr(d.adbin, d.adrelid), 'none')::text, c.relkind::text,
    coalesce(pg_get_partkeydef(c.oid), 'none')::text
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d
    ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = to_regnamespace(current_schema()::text) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum"""
_CONSTRAINTS = """SELECT c.relname::text, pg_get_constraintdef(k.oid)::text FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid WHERE c.relnamespace = to_regnamespace(current_schema()::text)
    AND NOT c.relispartition AND k.contype IN ('p', 'u', 'f', 'c')"""
_INDEXES = """SELECT i.relname::text, replace(pg_get_indexdef(i.oid), quote_ident(current_schema()) || '.', '')::text
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
    WHERE c.relnamespace = to_regnamespace(current_schema()::text) AND NOT c.relispartition
    AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.oid)"""
_VIEWS = """SELECT c.relname::text, pg_get_viewdef(c.oid, true)::text FROM pg_class c
    WHERE c.relnamespace = to_regnamespace(current_schema()::text) AND c.relkind = 'v'"""
_DEFAULTS = """SELECT p.relname::text, d.relname::text FROM pg_partitioned_table t
    JOIN pg_class p ON p.oid = t.partrelid JOIN pg_class d ON d.oid = t.partdefid
    WHERE p.relnamespace = to_regnamespace(current_schema()::text)"""


def wanted(connection: Connection) -> Shape:
    """The shape of this version's tables and views, had by making them where nobody sees it. Ends the transaction."""
    try:
        connection.exec_driver_sql(f"CREATE SCHEMA {_SCRATCH}")
        connection.exec_driver_sql(f"SET LOCAL search_path TO {_SCRATCH}")
        for statement in statements():
            connection.exec_driver_sql(statement.replace("%", "%%"))
        return shape(connection)
    finally:
        connection.rollback()


def shape(connection: Connection) -> Shape:
    """The shape of the schema that is in use, but for Alembic's own table."""
    found: Shape = {}
    positions: dict[str, int] = {}
    for table, column, kind, not_null, default, storage, parted in connection.exec_driver_sql(_COLUMNS):
        if table == "alembic_version":
            continue
        parts = found.setdefault(
            f"table {table}", {"storage": {"r": "table", "p": "partitioned"}.get(storage, storage)}
        )
        parts["parted by"] = parted
        position = positions[table] = positions.get(table, -1) + 1
        null = "not null" if not_null else "null"
        plain = "nextval" if default.startswith("nextval(") else default
        parts[f"column {column}"] = f"{kind} {null}, number {position}, default {plain}"
    for table, definition in connection.exec_driver_sql(_CONSTRAINTS):
        if not definition.startswith("NOT NULL") and f"table {table}" in found:
            found[f"table {table}"][definition] = "yes"
    for table, default in connection.exec_driver_sql(_DEFAULTS):
        if f"table {table}" in found:
            found[f"table {table}"]["default partition"] = default
    for index, definition in connection.exec_driver_sql(_INDEXES):
        found[f"index {index}"] = {"definition": definition}
    for view, definition in connection.exec_driver_sql(_VIEWS):
        found[f"view {view}"] = {"definition": definition}
    return found

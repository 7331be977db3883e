"""What a Postgres database consists of, so that it can be compared with what this version wants.

Partitions are not told apart: which there are is a matter of time and retention. Only the schema that is in use counts.
"""

from __future__ import annotations

import re

from sqlalchemy import Connection

from proxy.store.backend import Shape
from proxy.store.schema_postgres import statements

_APART = "wiretape_wanted_"
"""What the names of the wanted tables begin with while they exist: they may stand beside those in use."""

_HERE = "(SELECT n.oid FROM pg_namespace n WHERE n.nspname = current_schema())"
_PLAIN = "replace(replace({}, quote_ident(current_schema()) || '.', ''), 'pg_temp.', '')::text"

_COLUMNS = f"""SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)::text, a.attnotnull,
    coalesce(pg_get_expr(d.adbin, d.adrelid), CASE a.attidentity WHEN '' THEN 'none' ELSE 'identity' END)::text,
    c.relkind::text,
    coalesce(pg_get_partkeydef(c.oid), 'none')::text
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d
    ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = {_HERE} AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum"""  # noqa: S608 - the constants above
_CONSTRAINTS = f"""SELECT c.relname::text, pg_get_constraintdef(k.oid)::text FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid WHERE c.relnamespace = {_HERE}
    AND NOT c.relispartition AND k.contype IN ('p', 'u', 'f', 'c')"""  # noqa: S608 - the constants above
_INDEXES = f"""SELECT i.relname::text, {_PLAIN.format("pg_get_indexdef(i.oid)")}, x.indisvalid
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
    WHERE c.relnamespace = {_HERE} AND NOT c.relispartition
    AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.oid)"""  # noqa: S608 - the constants above
_VIEWS = f"""SELECT c.relname::text, pg_get_viewdef(c.oid, true)::text FROM pg_class c
    WHERE c.relnamespace = {_HERE} AND c.relkind = 'v'"""  # noqa: S608 - the constants above
_DEFAULTS = f"""SELECT p.relname::text, d.relname::text FROM pg_partitioned_table t
    JOIN pg_class p ON p.oid = t.partrelid JOIN pg_class d ON d.oid = t.partdefid
    WHERE p.relnamespace = {_HERE}"""  # noqa: S608 - the constants above

_MADE = re.compile(r"\s*CREATE (?:TABLE|INDEX|VIEW) (\w+)")


def wanted(connection: Connection) -> Shape:
    """The shape of this version's tables and views, had by making them where nobody sees it. Ends the transaction.

    They are temporary where this user may make such tables, which most may who can do no more than read; else they are
    beside those in use, where whoever upgrades the database may make tables. It takes no right to the database itself.
    """
    try:
        may = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
        if connection.exec_driver_sql(may).scalar():
            connection.exec_driver_sql("SET LOCAL search_path TO pg_temp")
        for statement in _apart(statements()):
            connection.exec_driver_sql(statement.replace("%", "%%"))
        return {
            _ours(thing): {_ours(part): _ours(how) for part, how in parts.items()}
            for thing, parts in shape(connection).items()
            if _APART in thing
        }
    finally:
        connection.rollback()


def _apart(made: list[str]) -> list[str]:
    """The statements with other names for all that they make."""
    names = "|".join(match[1] for match in map(_MADE.match, made) if match is not None)
    named = re.compile(rf"\b(TABLE|INDEX|VIEW|OF|ON|FROM|JOIN) ({names})\b(?!\.)")
    return [named.sub(rf"\1 {_APART}\2", each) for each in made]


def _ours(text: str) -> str:
    return text.replace(_APART, "")


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
    for index, definition, valid in connection.exec_driver_sql(_INDEXES):
        found[f"index {index}"] = {"definition": definition if valid else f"{definition} (not valid)"}
    for view, definition in connection.exec_driver_sql(_VIEWS):
        found[f"view {view}"] = {"definition": definition}
    return found

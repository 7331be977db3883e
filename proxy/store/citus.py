"""Citus: who outgrows one Postgres spreads the same tables over several servers. How they lie there, and what that asks
of every statement: THE RULES, which the tests hold against all that they see.

Distributed tables are spread by one column; rows of one exchange lie together. Reference tables are on every server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy import Connection, Engine

from proxy.errors import UsageError
from proxy.store.engine import execute, is_shared, one, place_of, writing
from proxy.store.schema_postgres import PARTITIONED, TABLES

REFERENCE = ("meta", "names", "header_sets", "tag_sets", "tag_set_items", "prices", "credential_names")
"""The tables that every server has: small, and joined with all others."""

DISTRIBUTED: Mapping[str, str] = {
    **{table: "id" if table == "exchanges" else "exchange_id" for table in sorted(PARTITIONED, key="exchanges".__ne__)},
    "journals": "worker",
    "billed": "response_key",
    "spend_hours": "writer",
    "spend_keys": "writer",
    "spend_tags": "writer",
}
"""Table -> the column by which it is spread; `exchanges` first, beside which the rows of exchanges are put."""


def distribute(engine: Engine) -> list[str]:
    """Spread the tables, with or without rows in them; which were. Those that are spread already are left as they are.

    Raises UsageError where there is no Citus.
    """
    place = place_of(engine)
    if not is_shared(engine):
        raise UsageError(f"the database {place} is a file: only a Postgres with Citus can be distributed")
    done = []
    with writing(engine, durable=True) as connection:
        if one(connection, "SELECT to_regproc('create_distributed_table') IS NOT NULL") is not True:
            raise UsageError(
                f"the database {place} has no Citus: install it on every server, then on the coordinator run"
                " CREATE EXTENSION citus and SELECT citus_add_node('HOST', 5432) for each worker"
            )
        spread = _spread(connection)
        for table in REFERENCE:
            if table not in spread:
                execute(connection, "SELECT create_reference_table(?)", (table,))
                done.append(table)
        for table, column in DISTRIBUTED.items():
            if table not in spread:
                beside = "exchanges" if table in PARTITIONED and table != "exchanges" else "none"
                sql = "SELECT create_distributed_table(?, ?, colocate_with => ?)"
                execute(connection, sql, (table, column, beside))
                done.append(table)
    return done


def _spread(connection: Connection) -> set[str]:
    """The tables that are spread already."""
    sql = "SELECT c.relname::text FROM pg_dist_partition p JOIN pg_class c ON c.oid = p.logicalrelid"
    return {row[0] for row in execute(connection, sql).fetchall()}


# THE RULES

_INSERT = re.compile(r'INSERT\s+INTO\s+"?(\w+)"?.*?ON\s+CONFLICT\s*(?:\(([^)]*)\))?', re.IGNORECASE | re.DOTALL)
_UPDATE = re.compile(r'\bUPDATE\s+"?(\w+)"?\s+SET\s+(.*?)(?:\bWHERE\b|$)', re.IGNORECASE | re.DOTALL)
_UNIQUE = re.compile(r'CREATE\s+UNIQUE\s+INDEX.*?\bON\s+"?(\w+)"?\s*\(([^)]*)\)', re.IGNORECASE | re.DOTALL)
_FROM = re.compile(r'\b(?:FROM|JOIN|INTO|UPDATE)\s+"?(\w+)"?', re.IGNORECASE)
_LOCKS = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|KEY\s+SHARE|SHARE)\b", re.IGNORECASE)
_OUTER = re.compile(r"\((?:[^()]|\([^()]*\))*\)")


def problems(statement: str) -> list[str]:
    """How a statement breaks the rules, a sentence each; names are those of our tables, unqualified."""
    found = []
    for table, target in _INSERT.findall(statement):
        if table in DISTRIBUTED and target and DISTRIBUTED[table] not in _words(target):
            found.append(f"a conflict in {table} is looked for without {DISTRIBUTED[table]}")
        if table in DISTRIBUTED and not target and "DO UPDATE" in statement.upper():
            found.append(f"a conflict in {table} names no columns")
    for table, changed in _UPDATE.findall(statement):
        if table in DISTRIBUTED and re.search(rf'(?:^|,)\s*"?{DISTRIBUTED[table]}"?\s*=', changed):
            found.append(f"{DISTRIBUTED[table]} of {table} is changed, by which it is spread")
    for table, columns in _UNIQUE.findall(statement):
        if table in DISTRIBUTED and DISTRIBUTED[table] not in _words(columns):
            found.append(f"a unique index of {table} lacks {DISTRIBUTED[table]}")
    used = {table for table in _FROM.findall(_OUTER.sub("", statement)) if table in DISTRIBUTED}
    if _LOCKS.search(statement) and used:
        found.append(f"rows of {', '.join(sorted(used))} are locked, which works on one server only")
    if re.search(r"\bREFERENCES\b|\bFOREIGN\s+KEY\b", statement, re.IGNORECASE) and "CREATE TABLE" in statement.upper():
        found.append("a foreign key crosses servers")
    apart = used - set(PARTITIONED)
    if apart and len(used) > 1:
        found.append(f"{', '.join(sorted(used))} are joined, and do not lie together")
    return found


def schema_problems() -> list[str]:
    """How the tables themselves break the rules: each key must hold the column by which its table is spread."""
    found = [f"{each.name} is neither spread nor everywhere" for each in TABLES if not _placed(each.name)]
    for table in TABLES:
        column = DISTRIBUTED.get(table.name)
        if column is not None and column not in table.primary_key.columns:
            found.append(f"the primary key of {table.name} lacks {column}")
        found += [f"{table.name} refers to another table" for _ in table.foreign_keys]
    return found


def _placed(table: str) -> bool:
    return (table in DISTRIBUTED) != (table in REFERENCE)


def _words(columns: str) -> set[str]:
    return set(re.findall(r"\w+", columns))

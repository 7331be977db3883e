"""Makes docs/schema.md: `python -m tests.support.schema_page > docs/schema.md`.

All that the schema says itself is taken from there; the sentences are in `schema_meanings.py`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any

from sqlalchemy import Column, Integer, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from proxy.exchange import Origin, Outcome, Side, WireEnd
from proxy.store import schema_postgres
from proxy.store.schema import NameKind, metadata
from proxy.store.schema_meaning import VIRTUAL
from proxy.store.schema_views import views
from tests.support.schema_meanings import ANY, INDEXES, MEANINGS, OF_ALL, SUMS, VIEWS
from tests.support.schema_queries import QUERIES

_SQLITE: Dialect = sqlite.dialect()
_POSTGRES: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this constructor untyped
_ON_SQLITE = {each.name: each for each in metadata.sorted_tables}
_ON_POSTGRES = {each.name: each for each in schema_postgres.TABLES}
_TABLES = [name for name in MEANINGS if name in _ON_SQLITE]
_NO_NAMES = {"id", "journal", "tag_set", "set_id", "price", "interpreter", "hour", "day"}
"""Columns of whole numbers that are no ids of `names`."""

_WORDS: dict[str, type[IntEnum]] = {"origin": Origin, "wire_end": WireEnd, "outcome": Outcome, "side": Side}
_UNITS = {"_us": "µs", "_pico": "10⁻¹² USD", "_tokens": "tokens", "bytes": "bytes", "hour": "hours", "day": "days"}
"""What a column is counted in, by the end of its name."""
_NUMBERS = {"record": "0 `all`, 1 `meta` (all but bodies)"}

_TITLE = """# Tables and views

For people with an SQL client. This page is made from the schema itself: `python -m tests.support.schema_page`.

SQLite: the file `wiretape.db` in the home; open it read-only (`sqlite3 "file:wiretape.db?mode=ro"`), as often as you
like, while it is written to. Postgres: the database of your URL; a role with `SELECT` is enough. Only read: what is
written past `wiretape` goes wrong in the sums. `wiretape db check` says whether the tables are as they should be.

## What holds everywhere

- **Ids** of exchanges are UUIDv7: 16 bytes (`BLOB`) in SQLite, `uuid` in Postgres, in the order of time. Views show
  them as text in `id`, and as the tables have them in `exchange_id`, by which to join and to look up: in SQLite
  `x'01990000…'` (32 digits without dashes), in Postgres `'01990000-…'`.
- **Names**: text that repeats stands once in `names`, and other tables have its `id`. Columns of the type *name* are
  such ids, integers. The views show the text.
- **Times** end with `_us`: microseconds since the exchange began; `started_us` since 1970 in UTC.
- **Money** ends with `_pico`: whole numbers of 10⁻¹² USD, exact; a dollar is 1,000,000,000,000. `cost_usd` of the views
  is a floating number, to be read and not to be added up to the last digit.
- **NULL is unknown**, never zero: tokens that nobody told, an exchange that still runs (`outcome`), or one that is not
  interpreted yet (`interpreter`). In the rollups unknown is counted apart. 0 in a rollup's *name* is: none.
- **Bodies**: `chunks` as they came; after `retention.pack_after` packed in `tapes`, which only wiretape reads
  (`wiretape replay ID`). Texts, usage and headers stay as they are.
- **Exchanges by time**: by `id`, which has an index, rather than by `started`, which has none.
"""

_PARTS = """## Partitions (Postgres)

{tables} are parted by ranges of exchange ids, that is by time: a partition a month (`chunks_y2026m03`), or a day where
retention is short (`chunks_y2026m03d14`). Ingest makes them ahead of time. What fits none, from a wrong clock, is in
`NAME_default`. Retention drops whole partitions. Ask the tables, not their partitions; a condition on the id lets
Postgres leave partitions out. SQLite has none.
"""


def page() -> str:
    """The page. Raises LookupError for what has no meaning, and for a meaning of what is not there."""
    _check()
    tables = ["## Tables\n", *map(_table, _TABLES), _other_tables(), _partitions()]
    return "\n".join([_TITLE, _words(), _views(), _queries(), *tables])


def _check() -> None:
    """Everything has a sentence, and every sentence belongs to something."""
    _same("tables", MEANINGS, {*_ON_SQLITE, *_ON_POSTGRES, ANY, SUMS})
    _same("views", VIEWS, views(postgres=False))
    _same("indexes", INDEXES, {name for table in _TABLES for name in _indexes(table)})
    for table in _TABLES:
        _same(f"columns of {table}", {*MEANINGS[table], *_columns(table)}, {OF_ALL, *_columns(table)})
    every = {column for table in _TABLES for column in _columns(table)}
    _same("columns of many tables", {*every, *MEANINGS[ANY], *MEANINGS[SUMS]}, every)


def _same(what: str, said: Iterable[str], there: Iterable[str]) -> None:
    missing, about_nothing = sorted(set(there) - set(said)), sorted(set(said) - set(there))
    if missing or about_nothing:
        raise LookupError(f"{what}: no sentence about {missing}, sentences about {about_nothing}, which are not there")


def _sides(name: str) -> Iterator[Table]:
    """A table as each engine that has it has it."""
    for tables in (_ON_SQLITE, _ON_POSTGRES):
        if name in tables:
            yield tables[name]


def _columns(name: str) -> dict[str, list[Column[Any]]]:
    """The columns of a table, on either engine; those that only Postgres has come last."""
    found: dict[str, list[Column[Any]]] = {}
    for table in _sides(name):
        for column in table.c:
            found.setdefault(column.name, []).append(column)
    return found


def _indexes(name: str) -> dict[str, str]:
    """The indexes of a table that are no keys, on either engine: how each is defined."""
    found = {}
    for table in _sides(name):
        for index in table.indexes:
            where = index.dialect_kwargs.get("postgresql_where")
            found[str(index.name)] = _listed(index.columns) + (f" where `{where}`" if where is not None else "")
    for statement in schema_postgres.EXTRA_INDEXES:
        words = re.fullmatch(r"CREATE INDEX (\w+) ON (\w+) \((\w+)\) WHERE (.+)", statement)
        if words is None:
            raise LookupError(f"not understood: {statement}")
        if words[2] == name:
            found[words[1]] = f"`{words[3]}` where `{words[4]}`"
    on = [{str(index.name) for index in table.indexes} for table in _sides(name)]
    return {
        each: how + ("" if len(on) == 2 and all(each in names for names in on) else f"; {_only(each, on)} only")
        for each, how in found.items()
    }


def _only(index: str, on: list[set[str]]) -> str:
    return "SQLite" if index in on[0] else "Postgres"


def _meaning(table: str, column: str) -> str:
    shared = MEANINGS[SUMS] if table.startswith("spend_") else MEANINGS[ANY]
    found = MEANINGS[table].get(column, shared.get(column))
    if found is None:
        raise LookupError(f"{table}.{column} has no meaning")
    return found


def _type(table: Table | None, column: str, dialect: Dialect) -> str:
    if table is None or column not in table.c:
        return "-"
    kind = table.c[column].type
    if type(kind) is Integer and column not in _NO_NAMES:
        return "name"
    return kind.compile(dialect=dialect).lower()


def _unit(column: str) -> str:
    return next((unit for ending, unit in _UNITS.items() if column.endswith(ending)), "")


def _listed(columns: Iterable[Column[Any]]) -> str:
    return ", ".join(f"`{each.name}`" for each in columns)


def _key(name: str) -> str:
    keys = list(dict.fromkeys(_listed(table.primary_key.columns) for table in _sides(name)))
    unique = {
        _listed(each.columns)
        for table in list(_sides(name))[:1]
        for each in table.constraints
        if isinstance(each, UniqueConstraint)
    }
    said = f"Key: {'; in Postgres '.join(keys)}."
    return said + "".join(f" Each once: {each}." for each in sorted(unique - set(keys)))


def _table(name: str) -> str:
    """The section of a table."""
    parted = " Parted by time in Postgres." if name in schema_postgres.PARTITIONED else ""
    lines = [f"### {name}\n", f"{MEANINGS[name][OF_ALL]} {_key(name)}{parted}\n"]
    lines += ["| column | SQLite | Postgres | unit | NULL | meaning |", "|---|---|---|---|---|---|"]
    for column, on in _columns(name).items():
        here = _type(_ON_SQLITE.get(name), column, _SQLITE)
        there = _type(_ON_POSTGRES.get(name), column, _POSTGRES)
        null = "yes" if any(each.nullable for each in on) else ""
        lines.append(f"| `{column}` | {here} | {there} | {_unit(column)} | {null} | {_meaning(name, column)} |")
    indexes = _indexes(name)
    if indexes:
        lines.append("\nIndexes:\n")
        lines += [f"- `{each}` for {INDEXES[each]}: {indexes[each]}" for each in INDEXES if each in indexes]
    return "\n".join(lines) + "\n"


def _words() -> str:
    lines = [
        "## Words\n",
        "Numbers that stand for words; the views show the words.\n",
        "| column | words |",
        "|---|---|",
    ]
    for column, words in _WORDS.items():
        lines.append(f"| `{column}` | {', '.join(f'{each.value} `{each.name.lower()}`' for each in words)} |")
    lines += [f"| `{column}` | {words} |" for column, words in _NUMBERS.items()]
    kinds = ", ".join(f"{each.value} `{each.name.lower()}`" for each in NameKind)
    lines.append(f"| `names.kind` | {kinds} |")
    return "\n".join(lines) + "\n"


def _views() -> str:
    lines = ["## Views\n", "| view | what it shows |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in VIEWS.items()]
    return "\n".join(lines) + "\n"


def _queries() -> str:
    lines = ["## Questions\n"]
    for query in QUERIES:
        lines.append(f"**{query.question}** {query.remark}\n" if query.remark else f"**{query.question}**\n")
        if query.sqlite == query.postgres:
            lines.append(f"```sql\n{query.sqlite}\n```\n")
        else:
            lines.append(f"SQLite:\n\n```sql sqlite\n{query.sqlite}\n```\n")
            lines.append(f"Postgres:\n\n```sql postgres\n{query.postgres}\n```\n")
    return "\n".join(lines)


def _other_tables() -> str:
    listed = ", ".join(f"`{name}`" for name in VIRTUAL)
    return f"""### Others

{listed}, in SQLite, is the full-text index (FTS5): its `rowid` is the `id` in `texts`; the tables beside it whose names
begin so are its own. `alembic_version` says at which revision the tables are.
"""


def _partitions() -> str:
    return _PARTS.format(tables=", ".join(f"`{each}`" for each in schema_postgres.PARTITIONED))


if __name__ == "__main__":
    sys.stdout.write(page())

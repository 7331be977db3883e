"""Taking interned rows away once no exchange refers to them: names, header sets, tag sets.

A writer in another process may be about to use the id of any such row. So a row is first *set apart*: it is still found
by its id but no longer by its content, and writers forget their ids. Then it is looked for, and deleted or put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Table,
    cast,
    delete,
    exists,
    select,
    update,
)

from proxy.store.engine import reading, writing
from proxy.store.intern import SWEPT, content_hash, tag_contents
from proxy.store.schema import NAMED, NameKind, exchanges, header_sets, heads, meta, names, tag_set_items, tag_sets

Ids = dict[Table, set[int]]
"""Ids of rows of `names`, `header_sets` and `tag_sets`."""

# Names that a request or an answer brings along. Rollups and prices refer to the other kinds too, for good.
_KINDS = (
    NameKind.METHOD,
    NameKind.TARGET,
    NameKind.CLIENT,
    NameKind.CLIENT_KIND,
    NameKind.SESSION,
    NameKind.REASON,
)
_NAME_COLUMNS = tuple(exchanges.c[column] for column, kind in NAMED.items() if kind in _KINDS)
SWEPT_COLUMNS: tuple[Column[Any], ...] = (*_NAME_COLUMNS, exchanges.c.tag_set)
"""The columns of `exchanges` that refer to what a sweep may take away."""

_RECENT = 1000
_AT_ONCE = 1000
_SHIFT = 64


def no_ids() -> Ids:
    return {names: set(), header_sets: set(), tag_sets: set()}


def note_used(connection: Connection, rows: Iterable[RowMapping], used: Ids) -> None:
    """Add to `used` what exchanges (`id` and SWEPT_COLUMNS) refer to, while they are still there."""
    ids = []
    for row in rows:
        ids.append(row["id"])
        used[names] |= {row[column.name] for column in _NAME_COLUMNS} - {None}
        used[tag_sets] |= {row["tag_set"]} - {None}
    of_heads = select(heads.c.set_id, heads.c.reason).where(heads.c.exchange_id.in_(ids)).distinct()
    for set_id, reason in connection.execute(of_heads):
        used[header_sets].add(set_id)
        used[names] |= {reason} - {None}


def sweep(engine: Engine, used: Ids) -> None:
    """Delete those of the rows that nothing refers to. What is rare is looked for in whole tables, without a lock."""
    with reading(engine) as connection:
        _drop_recent(connection, used)
    if not any(used.values()):
        return
    token = ""
    for table, ids in used.items():
        for lot in _lots(ids):
            with writing(engine) as connection:
                token = _set_apart(connection, table, lot)
    with reading(engine) as connection:
        apart, needed = _apart(connection), _needed(connection)
    for table, ids in apart.items():
        for lot in _lots(ids):
            with writing(engine) as connection:
                if connection.scalar(select(meta.c.value).where(meta.c.key == SWEPT)) != token:
                    return  # another sweep began after this one looked; it looks at these rows too
                _put_back(connection, table, [each for each in lot if each in needed[table]])
                _delete(connection, table, [each for each in lot if each not in needed[table]])


def _lots(ids: set[int]) -> Iterator[list[int]]:
    remaining = iter(sorted(ids))
    while lot := list(islice(remaining, _AT_ONCE)):
        yield lot


def _drop_recent(connection: Connection, used: Ids) -> None:
    """Leave out what the newest rows refer to: nearly all that is shared, so that a sweep reads little."""
    newest = select(*SWEPT_COLUMNS).order_by(exchanges.c.id.desc()).limit(_RECENT)
    for row in connection.execute(newest).mappings():
        used[names] -= {row[column.name] for column in _NAME_COLUMNS}
        used[tag_sets].discard(row["tag_set"])
    order = (heads.c.exchange_id.desc(), heads.c.side.desc(), heads.c.seq.desc())
    for set_id, reason in connection.execute(select(heads.c.set_id, heads.c.reason).order_by(*order).limit(_RECENT)):
        used[header_sets].discard(set_id)
        used[names].discard(reason)


def _set_apart(connection: Connection, table: Table, ids: list[int]) -> str:
    """Returns the token by which the sweep knows that it is the last that began."""
    chosen = update(table).where(table.c.id.in_(ids))
    if table is names:
        # Unique, since it holds the id; and the kind can be had back.
        kinds = names.c.kind.in_([int(kind) for kind in _KINDS])
        connection.execute(chosen.where(kinds).values(kind=-(cast(names.c.id, BigInteger) * _SHIFT + names.c.kind)))
    else:
        connection.execute(chosen.values(hash=None))
    token = uuid4().hex
    connection.execute(delete(meta).where(meta.c.key == SWEPT))
    connection.execute(meta.insert().values(key=SWEPT, value=token))
    return token


def _is_apart(table: Table) -> ColumnElement[bool]:
    return table.c.kind < 0 if table is names else table.c.hash.is_(None)


def _apart(connection: Connection) -> Ids:
    """All that is set apart, also by a sweep that did not end."""
    return {table: set(connection.scalars(select(table.c.id).where(_is_apart(table)))) for table in no_ids()}


def _needed(connection: Connection) -> Ids:
    """What of that is referred to."""
    kinds = {-kind % _SHIFT for kind in connection.scalars(select(names.c.kind).where(_is_apart(names)))}
    columns: list[tuple[Table, Column[Any]]] = [(header_sets, heads.c.set_id), (tag_sets, exchanges.c.tag_set)]
    columns += [(names, column) for column in _NAME_COLUMNS if int(NAMED[column.name]) in kinds]
    if int(NameKind.REASON) in kinds:
        columns.append((names, heads.c.reason))
    needed = no_ids()
    for table, column in columns:
        apart = select(table.c.id).where(_is_apart(table))
        if connection.scalar(apart.limit(1)) is not None:
            needed[table] |= set(connection.scalars(select(column).where(column.in_(apart)).distinct()))
    return needed


def _put_back(connection: Connection, table: Table, ids: list[int]) -> None:
    """Let rows be found by their content again, but for those of which a writer has made another meanwhile."""
    for row in connection.execute(select(table).where(table.c.id.in_(ids), _is_apart(table))).mappings():
        values: dict[str, Any]
        if table is names:
            values = {"kind": -row["kind"] % _SHIFT}
            twin = exists().where(names.c.kind == values["kind"], names.c.value == row["value"])
        else:
            values = {"hash": content_hash(_contents(connection, table, row))}
            twin = exists().where(table.c.hash == values["hash"])
        if not connection.scalar(select(twin)):
            connection.execute(update(table).where(table.c.id == row["id"]).values(**values))


def _contents(connection: Connection, table: Table, row: RowMapping) -> str:
    if table is header_sets:
        return str(row["items"])
    items = select(tag_set_items.c.name, tag_set_items.c.value).where(tag_set_items.c.set_id == row["id"])
    return tag_contents(sorted((name, value) for name, value in connection.execute(items)))


def _delete(connection: Connection, table: Table, ids: list[int]) -> None:
    gone = select(table.c.id).where(table.c.id.in_(ids), _is_apart(table))
    if table is tag_sets:
        connection.execute(delete(tag_set_items).where(tag_set_items.c.set_id.in_(gone)))
    connection.execute(delete(table).where(table.c.id.in_(gone)))

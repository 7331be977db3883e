"""Rows of `exchanges` as `Exchange` objects, with text in the place of ids; journals likewise.

Shared by the writer, which takes up open exchanges again, and by the readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import islice
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Connection, Select, select

from proxy.exchange import Origin, Outcome, WireEnd
from proxy.store.rows import Exchange, JournalRow
from proxy.store.schema import NAMED, exchange_tags, exchanges, journals, names, tag_set_items

_AT_ONCE = 500
_COLUMNS = list(exchanges.c.keys())  # `id` first
_ENUMERATED = [
    (_COLUMNS.index(name), kind) for name, kind in (("origin", Origin), ("wire_end", WireEnd), ("outcome", Outcome))
]
_NAMED = [_COLUMNS.index(each) for each in NAMED]
_TARGET, _TARGET_LONG, _TAG_SET = (_COLUMNS.index(each) for each in ("target", "target_long", "tag_set"))
_in_order = itemgetter(*(_TAG_SET if each.name == "tags" else _COLUMNS.index(each.name) for each in fields(Exchange)))
_OF_JOURNAL = [column.name for column in journals.c if column.name != "node"]


def load_exchanges(connection: Connection, wanted: Select[Any]) -> list[Exchange]:
    """The exchanges of a `select(exchanges)`, in its order."""
    rows = [tuple(row) for row in connection.execute(wanted)]
    ids = {row[place] for row in rows for place in _NAMED} - {None}
    texts: dict[int | None, str] = dict(_by_key(connection, select(names.c.id, names.c.value), names.c.id, ids))
    tags = _tags(connection, rows)
    return [_exchange(row, texts, tags) for row in rows]


def _exchange(row: tuple[Any, ...], texts: dict[int | None, str], tags: dict[UUID, list[tuple[str, str]]]) -> Exchange:
    """By places, not by names: a page of 50 in 2 ms instead of 6."""
    values = list(row)
    for place in _NAMED:
        values[place] = texts.get(values[place])
    for place, kind in _ENUMERATED:
        if values[place] is not None:
            values[place] = kind(values[place])
    if values[_TARGET_LONG] is not None:
        values[_TARGET] = values[_TARGET_LONG]
    values[_TAG_SET] = tuple(sorted(tags.get(values[0], ())))
    return Exchange(*_in_order(values))


def _tags(connection: Connection, rows: list[tuple[Any, ...]]) -> dict[UUID, list[tuple[str, str]]]:
    sets: dict[int, list[tuple[str, str]]] = {}
    used = {row[_TAG_SET] for row in rows} - {None}
    for set_id, name, value in _by_key(connection, select(tag_set_items), tag_set_items.c.set_id, used):
        sets.setdefault(set_id, []).append((name, value))
    found = {row[0]: list(sets.get(row[_TAG_SET], ())) for row in rows}
    for exchange, name, value in _by_key(connection, select(exchange_tags), exchange_tags.c.exchange_id, found.keys()):
        found[exchange].append((name, value))
    return found


def _by_key(connection: Connection, query: Select[Any], key: Column[Any], values: Iterable[Any]) -> Iterator[Any]:
    """The rows of `query` whose `key` is one of `values`, asked for in lots: engines bound a statement's parameters."""
    remaining = iter(values)
    while lot := list(islice(remaining, _AT_ONCE)):
        yield from connection.execute(query.where(key.in_(lot)))


def load_journals(connection: Connection, worker: UUID | None = None) -> list[JournalRow]:
    """All journals, the oldest first; or that of one worker."""
    query = select(journals, names.c.value.label("named")).join(names, names.c.id == journals.c.node)
    query = query if worker is None else query.where(journals.c.worker == worker)
    found = connection.execute(query.order_by(journals.c.started_us, journals.c.id)).mappings()
    return [JournalRow(node=row["named"], **{column: row[column] for column in _OF_JOURNAL}) for row in found]

"""Rows of `exchanges` as `Exchange` objects, with text in the place of ids; journals likewise.

Shared by the writer, which takes up open exchanges again, and by the readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Connection, RowMapping, Select, select

from proxy.exchange import Origin, Outcome, WireEnd
from proxy.store.rows import Exchange, JournalRow
from proxy.store.schema import NAMED, exchange_tags, exchanges, journals, names, tag_set_items

_AT_ONCE = 500
_ENUMERATED = {"origin": Origin, "wire_end": WireEnd, "outcome": Outcome}
_OWN = [column.name for column in exchanges.c if column.name not in ("tag_set", "target_long")]
_OF_JOURNAL = [column.name for column in journals.c if column.name != "node"]


def load_exchanges(connection: Connection, wanted: Select[Any]) -> list[Exchange]:
    """The exchanges of a `select(exchanges)`, in its order."""
    rows = list(connection.execute(wanted).mappings())
    ids = {row[column] for row in rows for column in NAMED} - {None}
    texts = dict(_by_key(connection, select(names.c.id, names.c.value), names.c.id, ids))
    tags = _tags(connection, rows)
    return [_exchange(row, texts, tags) for row in rows]


def _exchange(row: RowMapping, texts: dict[int, str], tags: dict[UUID, list[tuple[str, str]]]) -> Exchange:
    values: dict[str, Any] = {column: row[column] for column in _OWN}
    for column in NAMED:
        values[column] = texts.get(values[column])
    for column, kind in _ENUMERATED.items():
        if values[column] is not None:
            values[column] = kind(values[column])
    if row["target_long"] is not None:
        values["target"] = row["target_long"]
    return Exchange(**values, tags=tuple(sorted(tags.get(row["id"], ()))))


def _tags(connection: Connection, rows: list[RowMapping]) -> dict[UUID, list[tuple[str, str]]]:
    sets: dict[int, list[tuple[str, str]]] = {}
    used = {row["tag_set"] for row in rows} - {None}
    for set_id, name, value in _by_key(connection, select(tag_set_items), tag_set_items.c.set_id, used):
        sets.setdefault(set_id, []).append((name, value))
    found = {row["id"]: list(sets.get(row["tag_set"], ())) for row in rows}
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

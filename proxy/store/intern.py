"""Ids for what repeats: names, header sets, tag sets, prices. Looks up or makes the row; remembers so and so many ids.

Runs inside the writer's transaction: what a rolled-back transaction made is forgotten, and all is forgotten when a
sweep has taken rows away meanwhile. Must not know exchanges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from proxy.store import clean
from proxy.store.backend import lots, marks
from proxy.store.engine import apart, execute, insert_many, one
from proxy.store.headersets import HeaderSets
from proxy.store.rows import Pairs
from proxy.store.schema import NameKind, tag_set_items

TAG_VALUES = 256
"""Distinct values of one tag name that may become parts of tag sets, counted over the whole database."""

SWEPT = "interned"
"""The key in `meta` whose value changes whenever a sweep sets interned rows apart."""

_CACHED = 8192
_FEW = 3  # so many new names are looked up one by one
_MAX_TAG_NAMES = 1024


class _Cache:
    """At most twice `limit` ids by key; what was asked for since the last turn-over stays (a cheap kind of LRU)."""

    __slots__ = ("_limit", "_old", "young")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.young: dict[Any, int] = {}
        self._old: dict[Any, int] = {}

    def get(self, key: Any) -> int | None:
        found = self.young.get(key)
        if found is None and key in self._old:
            found = self._old[key]
            self.put(key, found)
        return found

    def put(self, key: Any, value: int) -> None:
        if len(self.young) >= self._limit:
            self._old, self.young = self.young, {}
        self.young[key] = value

    def clear(self) -> None:
        self.young.clear()
        self._old.clear()


class Interner:
    """The ids of one writer. `begin` and `end` enclose its transactions."""

    def __init__(self) -> None:
        self._names = _Cache(_CACHED)
        self._header_sets = _Cache(_CACHED // 4)
        self._tag_sets = _Cache(_CACHED)
        self._prices = _Cache(_CACHED // 4)
        self._tag_values: dict[str, set[str]] = {}
        self._splitter = HeaderSets()
        self._swept: str | None = None
        self._gained = False

    def begin(self, connection: Connection) -> None:
        """To be called first in a transaction: while it lasts no sweep can come between."""
        swept = one(connection, "SELECT value FROM meta WHERE key = ?", SWEPT)
        if swept != self._swept:
            self._forget()
            self._swept = swept

    def end(self, *, committed: bool) -> None:
        """To be called when the transaction is over."""
        if self._gained and not committed:
            self._forget()
        self._gained = False

    def _forget(self) -> None:
        for cache in (self._names, self._header_sets, self._tag_sets, self._prices):
            cache.clear()
        self._tag_values.clear()

    def name_id(self, connection: Connection, kind: NameKind, value: str | None) -> int | None:
        """The id of a name, of which the first 512 bytes count; None for None."""
        if value is None:
            return None
        found = self._names.young.get((kind, value))
        return self._name(connection, kind, value) if found is None else found

    def _name(self, connection: Connection, kind: NameKind, value: str) -> int:
        if len(value) > clean.INDEXED_BYTES:
            value = clean.capped(value)
        found = self._names.get((kind, value))
        if found is None:
            found = self._row(connection, "names", ("kind", "value"), (int(kind), clean.capped(value)))
            self._names.put((kind, value), found)
        return found

    def names_ahead(self, connection: Connection, wanted: Iterable[tuple[NameKind, str | None]]) -> None:
        """Make the names of a batch that there are not yet, in two statements; one by one each would take as many."""
        missing: dict[NameKind, set[str]] = {}
        for kind, value in wanted:
            if value is not None and self._names.get((kind, value)) is None:
                missing.setdefault(kind, set()).add(clean.capped(value))
        for kind, values in missing.items():
            for lot in lots(sorted(values)) if len(values) > _FEW else ():
                sql = f"SELECT value, id FROM names WHERE kind = ? AND value IN ({marks(lot)})"  # noqa: S608 - ours
                found = {row[0]: row[1] for row in execute(connection, sql, (int(kind), *lot))}
                for new in lots([each for each in lot if each not in found], 200):
                    make = f"""INSERT INTO names (kind, value) VALUES {", ".join([f"({int(kind)}, ?)"] * len(new))}
                        ON CONFLICT DO NOTHING RETURNING value, id"""  # noqa: S608 - question marks
                    with apart(connection) as other:
                        found |= {row[0]: row[1] for row in execute(other, make, new)}
                    self._gained = True
                for value, number in found.items():
                    self._names.put((kind, value), int(number))

    def _row(
        self, connection: Connection, table: str, keys: Sequence[str], values: Sequence[Any], *more: tuple[str, Any]
    ) -> int:
        """The id of the row with these values in `keys`, which is made, with `more` in it, if there is none."""
        same = " AND ".join(f"{key} = ?" for key in keys)
        find = f"SELECT id FROM {table} WHERE {same}"  # noqa: S608 - tables and columns of ours
        found = one(connection, find, *values)
        while found is None:
            columns = (*keys, *(name for name, _ in more))
            make = f"""INSERT INTO {table} ({", ".join(columns)}) VALUES ({", ".join("?" for _ in columns)})
                ON CONFLICT DO NOTHING RETURNING id"""  # noqa: S608 - tables and columns of ours
            with apart(connection) as other:
                found = one(other, make, *values, *(value for _, value in more))
            self._gained = True
            if found is None:  # another node was faster
                found = one(connection, find, *values)
        return int(found)

    def header_set(self, connection: Connection, items: Pairs) -> tuple[int, str]:
        """The id of a head's set, and its volatile values as JSON."""
        key, volatile = self._splitter.split(items)
        found = self._header_sets.get(key)
        if found is None:
            if self._splitter.learn(items):
                key, volatile = self._splitter.split(items)
            found = self._header_set(connection, self._splitter.contents(items))
            self._header_sets.put(key, found)
        return found, volatile

    def _header_set(self, connection: Connection, contents: str) -> int:
        return self._row(connection, "header_sets", ("hash",), (content_hash(contents),), ("items", contents))

    def price(self, connection: Connection, data: str | None) -> int | None:
        """The id of a price (JSON); None for None."""
        if data is None:
            return None
        found = self._prices.get(data)
        if found is None:
            found = self._row(connection, "prices", ("hash",), (content_hash(data),), ("data", data))
            self._prices.put(data, found)
        return found

    def tag_set(self, connection: Connection, tags: Pairs) -> tuple[int | None, Pairs]:
        """The id of the set of those tags that may share one (None if there are none), and the other tags, clean."""
        given = tuple(tags)
        found = self._tag_sets.get(given)
        if found is not None:
            return found, ()
        shared: list[tuple[str, str]] = []
        alone: list[tuple[str, str]] = []
        for name, value in sorted({(clean.capped(name), clean.capped(value)) for name, value in given}):
            (shared if self._fits(connection, name, value) else alone).append((name, value))
        if not shared:
            return None, alone
        found = self._tag_set(connection, shared)
        if not alone:
            self._tag_sets.put(given, found)
        return found, alone

    def _fits(self, connection: Connection, name: str, value: str) -> bool:
        values = self._tag_values.get(name)
        if values is None:
            if len(self._tag_values) >= _MAX_TAG_NAMES:
                self._tag_values.clear()
            sql = "SELECT DISTINCT value FROM tag_set_items WHERE name = ? LIMIT ?"
            values = {row[0] for row in execute(connection, sql, (name, TAG_VALUES))}
            self._tag_values[name] = values
        if value in values:
            return True
        if len(values) >= TAG_VALUES:
            return False
        values.add(value)
        self._gained = True
        return True

    def _tag_set(self, connection: Connection, tags: list[tuple[str, str]]) -> int:
        hashed = content_hash(tag_contents(tags))
        find = "SELECT id FROM tag_sets WHERE hash = ?"
        found = one(connection, find, hashed)
        while found is None:
            with apart(connection) as other:
                made = one(other, "INSERT INTO tag_sets (hash) VALUES (?) ON CONFLICT DO NOTHING RETURNING id", hashed)
                if made is not None:
                    insert_many(other, tag_set_items, [(made, name, value) for name, value in tags])
            self._gained = True
            found = made if made is not None else one(connection, find, hashed)
        return int(found)


def content_hash(contents: str) -> bytes:
    """What a set is found by: 16 bytes, so that two sets of one database never meet by chance."""
    return hashlib.blake2b(contents.encode(), digest_size=16).digest()


def tag_contents(tags: Pairs) -> str:
    """The canonical form of a tag set, whose hash finds it; `tags` clean, sorted, each once."""
    return msgspec.json.encode(tags).decode()

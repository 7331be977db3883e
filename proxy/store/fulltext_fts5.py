"""The full-text index of SQLite over `texts`: FTS5 without content.

Up to which row of `texts` it got stands in `meta`. To take a text out, FTS5 wants it again just as it was put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, column, select
from sqlalchemy import text as sql_text

from proxy.store import clean
from proxy.store.engine import execute, execute_many, one, reading, writing
from proxy.store.schema_meaning import texts

INDEXED_TEXT = 256 * 1024
"""Bytes of one text that are indexed."""

INDEXED = "texts_indexed"
"""The key in `meta`: all rows of `texts` up to this id are in the index."""

_ROWS, _BYTES = 200, 256 * 1024  # of one transaction: some 50 ms
_MERGED = 64  # pages a step of a merge


def index_some(engine: Engine) -> bool:
    """Index texts that are not yet, in one short transaction; whether there are more."""
    with reading(engine) as connection:
        if one(connection, "SELECT 1 FROM texts WHERE id > ? LIMIT 1", _indexed(connection)) is None:
            return False
    with writing(engine) as connection:
        after = _indexed(connection)
        rows, size = [], 0
        waiting = "SELECT id, substr(data, 1, ?) FROM texts WHERE id > ? ORDER BY id LIMIT ?"
        for number, data in execute(connection, waiting, (INDEXED_TEXT, after, _ROWS)):
            rows.append((number, _indexed_part(data)))
            size += len(data)
            if size >= _BYTES:
                break
        if rows:
            execute_many(connection, "INSERT INTO texts_index (rowid, data) VALUES (?, ?)", rows)
            _set_indexed(connection, rows[-1][0])
    return len(rows) == _ROWS or size >= _BYTES


def waiting(connection: Connection) -> int:
    """How many texts are not in the index."""
    return int(one(connection, "SELECT count(*) FROM texts WHERE id > ?", _indexed(connection)) or 0)


def exchanges_with(words: str) -> Select[Any]:
    """The ids of the exchanges that have all the words in one text."""
    wanted = " ".join(f'"{word.replace(chr(34), chr(34) * 2)}"' for word in words.split())
    found = sql_text("SELECT rowid FROM texts_index WHERE texts_index MATCH :words").bindparams(words=wanted)
    return select(texts.c.exchange_id).where(texts.c.id.in_(found.columns(column("rowid"))))


def drop_texts(connection: Connection, condition: str, values: Sequence[object]) -> None:
    """Delete the rows of `texts` that a condition with `?` names, from the index too."""
    indexed = _indexed(connection)
    if indexed:
        sql = f"SELECT id, substr(data, 1, ?) FROM texts WHERE ({condition}) AND id <= ?"  # noqa: S608 - ours
        found = execute(connection, sql, (INDEXED_TEXT, *values, indexed)).fetchall()
        gone = [(number, _indexed_part(data)) for number, data in found]
        if gone:
            execute_many(connection, "INSERT INTO texts_index (texts_index, rowid, data) VALUES ('delete', ?, ?)", gone)
    execute(connection, f"DELETE FROM texts WHERE {condition}", values)  # noqa: S608 - ours
    if indexed:
        # SQLite gives the ids of the newest rows again once these are gone.
        highest = one(connection, "SELECT max(id) FROM texts") or 0
        if highest < indexed:
            _set_indexed(connection, highest)


def forget_words(engine: Engine) -> None:
    """Rewrite the index without the words of deleted texts, which it only marks as gone; in short transactions."""
    with writing(engine) as connection:
        before = _merge(connection, -_MERGED)
    while before:
        with writing(engine) as connection:
            before = _merge(connection, _MERGED)


def _merge(connection: Connection, pages: int) -> bool:
    """One step; whether there was something to do. Below zero: begin to merge everything into one."""
    changed = "SELECT total_changes()"
    before = one(connection, changed)
    execute(connection, "INSERT INTO texts_index (texts_index, rank) VALUES ('merge', ?)", (pages,))
    return bool(one(connection, changed) - before >= 2)  # FTS5's own sign that it did something


def _indexed_part(data: str) -> str:
    return clean.capped(data, INDEXED_TEXT)


def _indexed(connection: Connection) -> int:
    return int(one(connection, "SELECT value FROM meta WHERE key = ?", INDEXED) or 0)


def _set_indexed(connection: Connection, number: int) -> None:
    sql = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    execute(connection, sql, (INDEXED, str(number)))

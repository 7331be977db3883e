"""The full-text index of Postgres: the column `words` of `texts`, a tsvector of the words that a text has.

Words are made here as FTS5 makes them (runs of letters and digits, without case and accents), so that both databases
find the same; they have no positions, which is a quarter of the size. A text that is not indexed yet has none.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from sqlalchemy import Connection, Engine, Select, select
from sqlalchemy import text as sql_text

from proxy.store import clean
from proxy.store.engine import execute, one, reading, writing
from proxy.store.schema_meaning import texts

INDEXED_TEXT = 256 * 1024
"""Bytes of one text that are indexed."""

_LONGEST = 255  # bytes of a word: Postgres takes up to 2,046
_ROWS, _BYTES = 200, 256 * 1024  # of one transaction
_WORD = re.compile(r"[^\W_]+")
_WAITING = "words IS NULL"


def words_of(text: str) -> list[str]:
    """The words of a text, each once."""
    plain = unicodedata.normalize("NFKD", text)
    if not plain.isascii():
        plain = "".join(each for each in plain if not unicodedata.combining(each))
    # A character has four bytes at most: nearly every word is short enough at a glance.
    words = set(_WORD.findall(plain.casefold()))
    return sorted({each if len(each) * 4 <= _LONGEST else clean.capped(each, _LONGEST) for each in words})


def index_some(engine: Engine) -> bool:
    """Index texts that are not yet, in one short transaction; whether there are more."""
    with reading(engine) as connection:
        if one(connection, f"SELECT 1 FROM texts WHERE {_WAITING} LIMIT 1") is None:  # noqa: S608 - ours
            return False
    with writing(engine, beside=True) as connection:
        # Another node may take the same ones: what it writes is the same, and here it only costs.
        waiting = f"SELECT exchange_id, seq, left(data, ?) FROM texts WHERE {_WAITING} LIMIT ?"  # noqa: S608 - ours
        done = size = 0
        for exchange, seq, data in execute(connection, waiting, (INDEXED_TEXT, _ROWS)).fetchall():
            # One text, since the driver takes its time for each element of an array.
            sql = """UPDATE texts SET words = array_to_tsvector(string_to_array(?, ' '))
                WHERE exchange_id = ? AND seq = ? AND words IS NULL"""
            execute(connection, sql, (" ".join(words_of(clean.capped(data, INDEXED_TEXT))), exchange, seq))
            done, size = done + 1, size + len(data)
            if size >= _BYTES:
                break
    return done == _ROWS or size >= _BYTES


def waiting(connection: Connection) -> int:
    """How many texts are not in the index."""
    return int(one(connection, f"SELECT count(*) FROM texts WHERE {_WAITING}") or 0)  # noqa: S608 - ours


def exchanges_with(words: str) -> Select[Any]:
    """The ids of the exchanges that have all the words in one text."""
    wanted = " & ".join("'" + each.replace("'", "''") + "'" for each in words_of(words))
    found = sql_text("words @@ CAST(:words AS tsquery)").bindparams(words=wanted)
    return select(texts.c.exchange_id).where(found)

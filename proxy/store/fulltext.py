"""Full text over `texts`, filled by a pass that lags behind ingest: which of the two indexes a database has.

SQLite's FTS5 is in `fulltext_fts5.py`, Postgres' tsvector in `fulltext_tsvector.py`. Both find the exchanges that have
all the words in one text, whatever case and accents they are written with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select

from proxy.store import clean, fulltext_fts5, fulltext_tsvector
from proxy.store.backend import lots, marks
from proxy.store.engine import execute, is_shared


def index_some(engine: Engine) -> bool:
    """Index texts that are not yet, in one short transaction; whether there are more."""
    return fulltext_tsvector.index_some(engine) if is_shared(engine) else fulltext_fts5.index_some(engine)


def waiting(connection: Connection) -> int:
    """How many texts are not in the index."""
    return fulltext_tsvector.waiting(connection) if is_shared(connection) else fulltext_fts5.waiting(connection)


def exchanges_with(connection: Connection, words: str) -> Select[Any]:
    """The ids of the exchanges that have all the words in one text. Whatever is written is words, no query language."""
    if is_shared(connection):
        return fulltext_tsvector.exchanges_with(clean.text(words))
    return fulltext_fts5.exchanges_with(clean.text(words))


def drop_texts(connection: Connection, condition: str, values: Sequence[object]) -> None:
    """Delete the rows of `texts` that a condition with `?` names, from the index too."""
    if is_shared(connection):
        execute(connection, f"DELETE FROM texts WHERE {condition}", values)  # noqa: S608 - ours
    else:
        fulltext_fts5.drop_texts(connection, condition, values)


def drop_texts_of(connection: Connection, exchanges: Sequence[bytes]) -> None:
    """`drop_texts` of whole exchanges."""
    for lot in lots(exchanges):
        drop_texts(connection, f"exchange_id IN ({marks(lot)})", lot)


def forget_words(engine: Engine) -> None:
    """Take the words of deleted texts out of an index that only marked them as gone."""
    if not is_shared(engine):
        fulltext_fts5.forget_words(engine)

"""A ledger of millions of exchanges, and how long what is asked of it takes.

`python -m tests.bench.ledger --engine sqlite|postgres`: fills a database with rows as ingest would have left them,
then asks (questions.py). Rows are written whole, by COPY or executemany; the rollups are summed in SQL, day by day.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Table

from proxy.errors import WiretapeError
from proxy.exchange import Side
from proxy.store import clean
from proxy.store.billing import response_key
from proxy.store.engine import execute, hashes_responses, insert_columns, insert_many, is_shared, open_engine, writing
from proxy.store.intern import content_hash
from proxy.store.migrate import upgrade
from proxy.store.rollups import MODEL, spent_sql, sums_sql
from proxy.store.rows import ChunkRow, HeadRow, JournalRow
from proxy.store.schema import NameKind, exchanges, names, response_ids
from proxy.store.schema_meaning import SPENT, billed, meanings, spend_hours, spend_keys, spend_tags, texts, usage_raw
from proxy.store.schema_postgres import PARTITIONED
from proxy.store.write import Writer
from tests.bench.ledger_rows import NODES, VARIETY, VARYING, Rows, Words
from tests.bench.questions import ask, table
from tests.support.postgres import Server

DAYS = 400
DAY_US = 86_400_000_000

_LOT = 25_000  # rows of one transaction, at least, which holds whole days
_SORTED = 500_000  # keys without an order that are put in one once sorted: a tenth of the time
_SESSIONS = 4096  # names made at once
_SAMPLED = 1000  # one in so many has bodies
_CACHE_KIB = 400_000
_RESPONSE, _SESSION = VARYING.index("response_id"), len(VARYING) + 2

_HEADERS = [("content-type", "application/json"), ("user-agent", "agent/1.0"), ("accept", "*/*")]
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" a few more words"}}]}\n\n'


class Filler:
    """Fills one database at this version's revision, that has no rows yet."""

    def __init__(self, engine: Engine, until_us: int, variety: int = VARIETY) -> None:
        self._engine = engine
        self._until_us = until_us
        self._writer = Writer(engine)
        self._connection: Connection | None = None
        self._sessions: list[int] = []
        self._named = 0
        self._waiting: dict[Table, list[tuple[Any, ...]]] = {billed: [], response_ids: []}
        with self._writer.transaction():
            self._writer.claim_zone("UTC")
            journals = [self._writer.put_journal(JournalRow(UUID(int=7 + at), each)) for at, each in enumerate(NODES)]
            interner, connection = self._writer._intern, self._writer._connection
            words = Words(
                self._writer.name_id,
                lambda tags: self._writer.tag_set_id(tags)[0],
                lambda data: interner.price(connection, data),
                journals,
            )
            self._rows = Rows(words, self._session, variety)
        self._upstream = self._rows.columns.index("upstream")

    def fill(self, number: int) -> None:
        """Write all rows, and what belongs to them."""
        if is_shared(self._engine):
            self._make_partitions()
        days_a_lot = -(-_LOT * DAYS // number)
        rows = self._rows(number, self._until_us, DAYS * DAY_US)
        for _, lot in groupby(rows, lambda row: row[2] // DAY_US // days_a_lot):
            self._write(list(lot))
        self._finish(number)

    # To be called inside one of the writer's transactions

    def _session(self) -> int:
        if not self._sessions:
            connection = self._writer._connection
            numbers = range(self._named, self._named + _SESSIONS)
            self._named += _SESSIONS
            made = [(int(NameKind.SESSION), f"session-{each:07}") for each in numbers]
            insert_columns(connection, names, ("kind", "value"), made)
            sql = "SELECT id FROM names WHERE kind = ? AND value >= ?"
            found = execute(connection, sql, (int(NameKind.SESSION), made[0][1])).fetchall()
            self._sessions = sorted((row[0] for row in found), reverse=True)
        return self._sessions.pop()

    # The transactions

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        raise NotImplementedError

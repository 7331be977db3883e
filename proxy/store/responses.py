"""Exchanges by the id that the provider gave its response.

SQLite finds them in a small table by 8 bytes of the id's hash, since an index on the text costs four times as much
there; Postgres by an index. Must not know who counts (billing.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from proxy.store import clean
from proxy.store.engine import execute, execute_many, hashes_responses, upsert_many
from proxy.store.schema import response_ids


def note(connection: Connection, given: Sequence[tuple[str | None, bytes]]) -> None:
    """Let exchanges be found by their responses' ids, as they came."""
    if hashes_responses(connection):
        rows = [(clean.short_hash(clean.capped(each)), exchange) for each, exchange in given if each]
        upsert_many(connection, response_ids, ("hash", "exchange_id"), rows)


def forget(connection: Connection, stored: Sequence[tuple[str | None, bytes]]) -> None:
    """Let exchanges no longer be found by these ids, as they are stored."""
    if hashes_responses(connection):
        rows = [(clean.short_hash(each), exchange) for each, exchange in stored if each is not None]
        execute_many(connection, "DELETE FROM response_ids WHERE hash = ? AND exchange_id = ?", rows)


def exchanges_of(connection: Connection, response_id: str, most: int) -> list[UUID]:
    """The newest exchanges that carried a response with this id."""
    wanted = clean.capped(response_id)
    if hashes_responses(connection):
        sql = """SELECT r.exchange_id FROM response_ids r JOIN exchanges e ON e.id = r.exchange_id
            WHERE r.hash = ? AND e.response_id = ? ORDER BY r.exchange_id DESC LIMIT ?"""
        values: tuple[object, ...] = (clean.short_hash(wanted), wanted, most)
    else:
        sql = "SELECT id FROM exchanges WHERE response_id = ? ORDER BY id DESC LIMIT ?"
        values = (wanted, most)
    return [UUID(bytes=row[0]) for row in execute(connection, sql, values)]

"""Who counts: a response's tokens count once, however often they were sent, fetched again or resumed.

Knows the table `billed`; must not know tokens or rollups. A POST always counts. A retrieval counts only if it carries
usage, and only for an id that nobody has counted; it gives way to the POST that made the response.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from proxy.store.rollups import lots, marks

Key = tuple[bytes, int]
"""A response: the hash of its id, and the upstream, whose ids are its own."""


class Bill(NamedTuple):
    """An exchange that may count. `key` is None without an id, `earlier` is the one it had when it was read before;
    `counts`: its origin is one whose tokens were paid for."""

    exchange: bytes
    key: Key | None
    earlier: Key | None
    counts: bool
    retrieves: bool
    carries_usage: bool


class _Claim(NamedTuple):
    exchange: bytes
    retrieved: bool
    there: bool  # the exchange was not deleted meanwhile


class Settled(NamedTuple):
    """Which of the bills count, and which other exchanges do so no longer."""

    counted: dict[bytes, bool]
    uncounted: list[bytes]


def response_key(response_id: str | None, upstream: int | None) -> Key | None:
    """What a response is known by; `response_id` as it is stored."""
    if not response_id:
        return None
    return hashlib.blake2b(response_id.encode(), digest_size=16).digest(), upstream or 0


def settle(connection: Connection, bills: Sequence[Bill]) -> Settled:
    """Decide in the order given, and write down who counts for what."""
    claims = _claims(connection, {key for bill in bills for key in (bill.key, bill.earlier) if key is not None})
    before = dict(claims)
    settled = Settled({}, [])
    for bill in bills:
        claimed = bill.key if bill.counts and bill.carries_usage else None
        if bill.earlier is not None and bill.earlier != claimed:
            held = claims.get(bill.earlier)
            if held is not None and held.exchange == bill.exchange:
                del claims[bill.earlier]
        settled.counted[bill.exchange] = bill.counts and _counts(bill, claimed, claims, settled)
    _write(connection, before, claims)
    return settled


def _counts(bill: Bill, claimed: Key | None, claims: dict[Key, _Claim], settled: Settled) -> bool:
    """Whether a bill counts; takes the claim for it where it may."""
    if claimed is None:
        return not bill.retrieves
    holder = claims.get(claimed)
    if holder is None or holder.exchange == bill.exchange:
        claims[claimed] = _Claim(bill.exchange, bill.retrieves, there=True)
        return True
    if bill.retrieves:
        return False
    if not holder.retrieved:
        return True  # some servers give each response the same id
    if not holder.there:
        return False  # it was counted, and can no longer be taken back
    claims[claimed] = _Claim(bill.exchange, retrieved=False, there=True)
    if holder.exchange in settled.counted:
        settled.counted[holder.exchange] = False
    else:
        settled.uncounted.append(holder.exchange)
    return True


def _claims(connection: Connection, keys: Iterable[Key]) -> dict[Key, _Claim]:
    found = {}
    wanted = set(keys)
    for lot in lots(sorted({key[0] for key in wanted})):
        sql = f"""SELECT b.response_key, b.upstream, b.exchange, b.retrieved, e.id IS NOT NULL
            FROM billed b LEFT JOIN exchanges e ON e.id = b.exchange
            WHERE b.response_key IN ({marks(lot)})"""  # noqa: S608 - question marks
        for hashed, upstream, exchange, retrieved, there in connection.exec_driver_sql(sql, tuple(lot)).fetchall():
            if (hashed, upstream) in wanted:
                found[hashed, upstream] = _Claim(exchange, bool(retrieved), bool(there))
    return found


def _write(connection: Connection, before: dict[Key, _Claim], claims: dict[Key, _Claim]) -> None:
    gone = [key for key in before if key not in claims]
    if gone:
        connection.exec_driver_sql("DELETE FROM billed WHERE response_key = ? AND upstream = ?", gone)
    made = [
        (*key, claim.exchange, claim.retrieved)
        for key, claim in claims.items()
        if key not in before or before[key][:2] != claim[:2]
    ]
    if made:
        sql = """INSERT INTO billed (response_key, upstream, exchange, retrieved) VALUES (?, ?, ?, ?)
            ON CONFLICT (response_key, upstream) DO UPDATE SET exchange = excluded.exchange,
            retrieved = excluded.retrieved"""
        connection.exec_driver_sql(sql, made)

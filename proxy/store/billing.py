"""Who counts: a response's tokens count once, however often they were sent, fetched again or resumed.

Knows the table `billed`; must not know tokens or rollups. A POST always counts. A retrieval counts only if it carries
usage, and only for an id that nobody has counted; it gives way to the POST that made the response.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from proxy.store.backend import lots, marks
from proxy.store.engine import execute, execute_many

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
    """Decide in the order given, and write down who counts for what.

    Another node may claim a response at the same moment: then what it wrote down is read, and all is decided again.
    """
    keys = {key for bill in bills for key in (bill.key, bill.earlier) if key is not None}
    while True:
        claims = _claims(connection, keys)
        before = dict(claims)
        settled = Settled({}, [])
        given = {bill.exchange for bill in bills}
        for bill in bills:
            claimed = bill.key if bill.counts and bill.carries_usage else None
            if bill.earlier is not None and bill.earlier != claimed:
                held = claims.get(bill.earlier)
                if held is not None and held.exchange == bill.exchange:
                    del claims[bill.earlier]
            settled.counted[bill.exchange] = bill.counts and _counts(bill, claimed, claims, settled, given)
        if _write(connection, before, claims):
            return settled


def _counts(
    bill: Bill, claimed: Key | None, claims: dict[Key, _Claim], settled: Settled, given: Collection[bytes]
) -> bool:
    """Whether a bill counts; takes the claim for it where it may. `given` are all that are being decided on."""
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
    elif holder.exchange not in given:  # else its turn is still to come
        settled.uncounted.append(holder.exchange)
    return True


def _claims(connection: Connection, keys: Iterable[Key]) -> dict[Key, _Claim]:
    wanted = set(keys)
    found: dict[Key, tuple[bytes, bool]] = {}
    for lot in lots(sorted({key[0] for key in wanted})):
        sql = f"""SELECT response_key, upstream, exchange, retrieved FROM billed
            WHERE response_key IN ({marks(lot)})"""  # noqa: S608 - question marks
        for hashed, upstream, exchange, retrieved in execute(connection, sql, lot).fetchall():
            if (hashed, upstream) in wanted:
                found[hashed, upstream] = exchange, bool(retrieved)
    there: set[bytes] = set()
    for lot in lots({exchange for exchange, _ in found.values()}):
        sql = f"SELECT id FROM exchanges WHERE id IN ({marks(lot)})"  # noqa: S608 - question marks
        there.update(row[0] for row in execute(connection, sql, lot).fetchall())
    return {key: _Claim(exchange, retrieved, exchange in there) for key, (exchange, retrieved) in found.items()}


def _write(connection: Connection, before: dict[Key, _Claim], claims: dict[Key, _Claim]) -> bool:
    """Whether all was as it was when it was read; else nothing can be said yet."""
    gone = [key for key in before if key not in claims]
    execute_many(connection, "DELETE FROM billed WHERE response_key = ? AND upstream = ?", gone)
    taken = [(key, claim) for key, claim in claims.items() if key in before and before[key][:2] != claim[:2]]
    for (hashed, upstream), claim in sorted(taken):
        sql = """UPDATE billed SET exchange = ?, retrieved = ?
            WHERE response_key = ? AND upstream = ? AND exchange = ?"""
        held = before[hashed, upstream].exchange
        if not execute(connection, sql, (claim.exchange, claim.retrieved, hashed, upstream, held)).rowcount:
            return False
    made = sorted((*key, claim.exchange, claim.retrieved) for key, claim in claims.items() if key not in before)
    for lot in lots(made, 100):
        sql = f"""INSERT INTO billed (response_key, upstream, exchange, retrieved)
            VALUES {", ".join(["(?, ?, ?, ?)"] * len(lot))} ON CONFLICT (response_key, upstream) DO NOTHING"""  # noqa: S608 - question marks
        if execute(connection, sql, [value for row in lot for value in row]).rowcount != len(lot):
            return False
    return True

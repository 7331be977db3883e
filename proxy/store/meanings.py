"""Writing what exchanges meant: columns, rows, who counts, and the rollups, all in the transaction that is open.

Knows tables and rows; must not know how meaning comes about. Writing the same again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection

from proxy.exchange import Origin
from proxy.store import clean, responses
from proxy.store.backend import lots, marks
from proxy.store.billing import Bill, response_key, settle
from proxy.store.engine import execute, insert_columns, insert_many, update_many
from proxy.store.fulltext import drop_texts_of
from proxy.store.intern import Interner, content_hash
from proxy.store.rollups import HIGHEST_PICO, HIGHEST_TOKENS, Ledger
from proxy.store.rows import MeaningRow
from proxy.store.schema import MEANING, NAMED, NameKind, exchanges
from proxy.store.schema_meaning import OF_MEANING, SPENT, meanings, rate_limits, safety, texts, usage, usage_raw

USAGE_RAW_BYTES = 256 * 1024
"""A longer usage object is not kept: cut short it would be no JSON."""

ERROR_BYTES = 4096

ANSWER, REASONING = "assistant", "reasoning"
"""The roles of answers in `texts`; prompt messages have the provider's words."""

ANSWER_SEQ = {ANSWER: -1, REASONING: -2}
"""The `seq` of answers; those of prompt messages count from 0."""

_COUNTED_ORIGINS = (int(Origin.LIVE), int(Origin.RESEND))
_FOUND = ", ".join(("id", "origin", "upstream", "session", "counted", "interpreter", *MEANING))
_OWN = 6  # columns of _FOUND before those of MEANING
_RESPONSE_ID = _OWN + MEANING.index("response_id")
_BILLED_AS = _OWN + MEANING.index("billed_as")


def _fit(column: str) -> tuple[NameKind | None, Callable[[Any], Any] | None]:
    """How a column's values are made fit: by a kind of names, by a function, or (neither) as a price."""
    if column in NAMED or column == "price":
        return NAMED.get(column), None
    if column in ("response_id", "request_id", "billed_as"):
        return None, clean.capped
    if column == "interpretation_error":
        return None, partial(clean.capped, limit=ERROR_BYTES)
    highest = {"tokens": HIGHEST_TOKENS, "pico": HIGHEST_PICO, "count": 2**15 - 1}.get(column.rpartition("_")[2])
    return None, clean.integer if highest is None else partial(clean.count, highest=highest)


_FITS = [_fit(column) for column in MEANING]
_columns = attrgetter(*MEANING)


class Written(NamedTuple):
    """What was done: exchanges written, how many of them had another meaning before, and what spend has of them, by
    SPENT, before and after."""

    exchanges: int = 0
    changed: int = 0
    before: tuple[int, ...] = (0,) * len(SPENT)
    after: tuple[int, ...] = (0,) * len(SPENT)

    def __add__(self, other: Written) -> Written:  # type: ignore[override]  # two sums, not two tuples behind one another
        return Written(
            self.exchanges + other.exchanges,
            self.changed + other.changed,
            tuple(map(sum, zip(self.before, other.before, strict=True))),
            tuple(map(sum, zip(self.after, other.after, strict=True))),
        )


def put_meanings(
    connection: Connection, intern: Interner, rows: Sequence[MeaningRow], zone: tzinfo, *, again: bool
) -> Written:
    """Write what exchanges meant; those that are gone are left out, and without `again` those already read."""
    found = _found(connection, [row.exchange.bytes for row in rows])
    given = [row for row in rows if row.exchange.bytes in found]
    if not again:
        given = [row for row in given if found[row.exchange.bytes][5] is None]
    if not given:
        return Written()
    keys = [row.exchange.bytes for row in given]
    read = [key for key in keys if found[key][5] is not None]
    earlier = _data(connection, read)
    ledger = Ledger(connection, intern, zone)
    before = ledger.take_away(read)
    values = [_values(connection, intern, row) for row in given]
    settled = settle(connection, [_bill(row, each, found) for row, each in zip(given, values, strict=True)])
    others = ledger.take_away(settled.uncounted)
    before = tuple(map(sum, zip(before, others, strict=True)))
    for lot in lots(settled.uncounted):
        execute(connection, f"UPDATE exchanges SET counted = FALSE WHERE id IN ({marks(lot)})", lot)  # noqa: S608 - ours
    written = [(*each, settled.counted[key], key) for each, key in zip(values, keys, strict=True)]
    update_many(connection, exchanges, (*MEANING, "counted"), written)
    _replace(connection, read, found)
    _put_rows(connection, intern, given, found)
    after = ledger.add(keys)
    ledger.write()
    for lot in lots(row.exchange.bytes for row in given if row.bodiless):
        execute(connection, f"DELETE FROM chunks WHERE exchange_id IN ({marks(lot)})", lot)  # noqa: S608 - ours
    changed = 0
    for row, each, key in zip(given, values, keys, strict=True):
        had = (*found[key][_OWN:], bool(found[key][4]))
        changed += had != (*each, settled.counted[key]) or not clean.same_json(earlier.get(key), row.data)
    return Written(len(given), changed, before, after)


def _found(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, Any]:
    """The rows of `exchanges` that are there, by id, with the columns of _FOUND."""
    found = {}
    for lot in lots(keys):
        sql = f"SELECT {_FOUND} FROM exchanges WHERE id IN ({marks(lot)})"  # noqa: S608 - columns of ours
        found.update({row[0]: row for row in execute(connection, sql, tuple(lot)).fetchall()})
    return found


def _data(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for lot in lots(keys):
        sql = f"SELECT exchange_id, data FROM meanings WHERE exchange_id IN ({marks(lot)})"  # noqa: S608 - ours
        found.update({row[0]: row[1] for row in execute(connection, sql, tuple(lot)).fetchall()})
    return found


def _values(connection: Connection, intern: Interner, row: MeaningRow) -> tuple[Any, ...]:
    """The values of MEANING, in its order."""
    values: list[Any] = []
    for value, (kind, fit) in zip(_columns(row), _FITS, strict=True):
        if value is None:
            values.append(None)
        elif kind is not None:
            values.append(intern.name_id(connection, kind, value))
        elif fit is not None:
            values.append(fit(value))
        else:
            values.append(intern.price(connection, value))
    return tuple(values)


def _bill(row: MeaningRow, values: tuple[Any, ...], found: dict[bytes, Any]) -> Bill:
    key = row.exchange.bytes
    _, origin, upstream, *_ = there = found[key]
    return Bill(
        exchange=key,
        key=response_key(values[_BILLED_AS - _OWN] or values[_RESPONSE_ID - _OWN], upstream),
        earlier=response_key(there[_BILLED_AS] or there[_RESPONSE_ID], upstream),
        counts=origin in _COUNTED_ORIGINS,
        retrieves=row.retrieves,
        carries_usage=row.carries_usage,
    )


def _replace(connection: Connection, read: Sequence[bytes], found: dict[bytes, Any]) -> None:
    """Delete what was written when exchanges were read before."""
    if not read:
        return
    drop_texts_of(connection, read)
    for table in OF_MEANING:
        if table is not texts:
            for lot in lots(read):
                gone = f"DELETE FROM {table.name} WHERE exchange_id IN ({marks(lot)})"  # noqa: S608 - our tables
                execute(connection, gone, lot)
    responses.forget(connection, [(found[key][_RESPONSE_ID], key) for key in read])


def _put_rows(connection: Connection, intern: Interner, rows: Sequence[MeaningRow], found: dict[bytes, Any]) -> None:
    """Insert all that has no column on the exchange."""
    of: dict[str, list[tuple[Any, ...]]] = {"data": [], "raw": [], "usage": [], "limits": [], "safety": []}
    for row in rows:
        key = bytearray(row.exchange.bytes)
        if row.data is not None:
            of["data"].append((key, row.data))
        if row.usage_raw is not None and len(row.usage_raw) <= USAGE_RAW_BYTES:
            of["raw"].append((key, clean.text(row.usage_raw)))
        kinds = {intern.name_id(connection, NameKind.USAGE_KIND, kind): amount for kind, amount in row.usage.items()}
        of["usage"] += [(key, kind, clean.integer(amount)) for kind, amount in kinds.items()]
        of["limits"] += _limits(connection, intern, row, key)
        of["safety"] += _ratings(connection, intern, row, key)
    responses.note(connection, [(row.response_id, row.exchange.bytes) for row in rows])
    for table, name in (
        (meanings, "data"),
        (usage_raw, "raw"),
        (usage, "usage"),
        (rate_limits, "limits"),
        (safety, "safety"),
    ):
        insert_many(connection, table, of[name])
    _put_texts(connection, intern, rows, found)


def _limits(connection: Connection, intern: Interner, row: MeaningRow, key: bytearray) -> list[tuple[Any, ...]]:
    limits = {}
    for kind, *numbers in row.rate_limits:
        bounded = [None if each is None else clean.integer(each) for each in numbers]
        limits[intern.name_id(connection, NameKind.RATE_LIMIT, kind)] = bounded
    return [(key, kind, *numbers) for kind, numbers in limits.items()]


def _ratings(connection: Connection, intern: Interner, row: MeaningRow, key: bytearray) -> list[tuple[Any, ...]]:
    found = []
    for seq, (side, category, level, score, blocked) in enumerate(row.ratings):
        named = [intern.name_id(connection, NameKind.SAFETY, each) for each in (category, level)]
        found.append((key, seq, side, *named, score, blocked))
    return found


def _put_texts(connection: Connection, intern: Interner, rows: Sequence[MeaningRow], found: dict[bytes, Any]) -> None:
    """Insert answers, and those prompt messages that their session does not have yet."""
    made: list[tuple[Any, ...]] = []
    for row in rows:
        key = bytearray(row.exchange.bytes)
        session = found[row.exchange.bytes][3]
        for seq, (role, data, answer) in enumerate(row.texts):
            if data:
                data = clean.text(data)
                hashed = None if session is None else content_hash(data)
                made.append((key, ANSWER_SEQ[role] if answer else seq, role, session, hashed, data, answer))
    known = _of_sessions(connection, [(session, hashed) for _, _, _, session, hashed, _, answer in made if not answer])
    values = []
    for key, seq, role, session, hashed, data, answer in made:
        if session is not None:
            if (session, hashed) in known and not answer:
                continue
            known.add((session, hashed))
        values.append((key, seq, intern.name_id(connection, NameKind.ROLE, role), session, hashed, data))
    insert_columns(connection, texts, ("exchange_id", "seq", "role", "session", "hash", "data"), values)


def _of_sessions(connection: Connection, wanted: Sequence[tuple[int | None, bytes]]) -> set[tuple[int, bytes]]:
    """Those of the texts (session, hash) that an exchange of the session has already."""
    found: set[tuple[int, bytes]] = set()
    hashes: dict[int, set[bytes]] = {}
    for session, hashed in wanted:
        if session is not None:
            hashes.setdefault(session, set()).add(hashed)
    for session, of_session in hashes.items():
        for lot in lots(of_session):
            # The index is partial, and used only for a query that repeats its condition.
            sql = f"""SELECT hash FROM texts WHERE session IS NOT NULL
                AND session = ? AND hash IN ({marks(lot)})"""  # noqa: S608 - question marks
            found.update((session, row[0]) for row in execute(connection, sql, (session, *lot)).fetchall())
    return found

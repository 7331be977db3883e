"""The only writer of recorded rows: transactions in which ingest puts what it copied, and the position it got to.

Knows tables and rows; must not know what the bytes mean. Every value is cleaned here, so that no recorded text or
number can stop a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, select, update

from proxy.store import clean
from proxy.store.bodies import Stored, stored
from proxy.store.costs import Costed, put_costs
from proxy.store.credentials import name_if_new
from proxy.store.engine import execute, insert_many, is_shared, one, place_of, upsert_many, writing
from proxy.store.errors import DatabaseAway
from proxy.store.intern import Interner
from proxy.store.load import load_exchanges, load_journals
from proxy.store.meanings import Written, put_meanings
from proxy.store.rows import (
    ChangeRow,
    ChunkRow,
    Exchange,
    ExchangeRow,
    GapRow,
    HeadRow,
    JournalRow,
    MeaningRow,
    Pairs,
)
from proxy.store.schema import (
    CARRIAGE,
    NOT_COMPLETED,
    NameKind,
    changes,
    chunks,
    exchange_tags,
    exchanges,
    gaps,
    heads,
    literally,
)
from proxy.store.zone import claim_zone

ERROR_BYTES = 4096
"""Longest error text that is kept of an exchange."""

_LOWEST, _HIGHEST = clean.LOWEST, clean.HIGHEST
_counts = attrgetter(*CARRIAGE[CARRIAGE.index("request_bytes") : CARRIAGE.index("request_hash")])
_hashes = attrgetter(*CARRIAGE[CARRIAGE.index("request_hash") : CARRIAGE.index("replay_of")])


def _bounded(value: int | None) -> int | None:
    return value if value is None or _LOWEST <= value <= _HIGHEST else clean.integer(value)


def _key(exchange: UUID) -> bytearray:
    """An id in the form that the driver binds fastest: it looks for an adapter of every `bytes`, not of a bytearray."""
    return bytearray(exchange.bytes)


class Writer:
    """Writes rows in transactions; every method but `transaction` must be called inside one.

    `beside`: it writes only what belongs to journals that nobody else stores, see `engine.writing`.
    Use by one thread. Raises DatabaseAway, DatabaseMoved, ValueRefused; after any of them the transaction is undone.
    """

    def __init__(self, engine: Engine, *, beside: bool = False) -> None:
        self._engine = engine
        self._beside = beside
        self._intern = Interner()
        self._bound = bytes if is_shared(engine) else bytearray  # as the driver takes it without looking for an adapter
        self._open: Connection | None = None

    @contextmanager
    def transaction(self, *, durable: bool = False, alone: bool = False) -> Iterator[None]:
        """A write transaction, committed at the end. With `durable` it and all earlier ones survive power loss; with
        `alone` nobody else writes meanwhile, though the writer is one of several."""
        committed = False
        try:
            with writing(self._engine, durable=durable, beside=self._beside and not alone) as connection:
                self._open = connection
                self._intern.begin(connection)
                yield
            committed = True
        finally:
            self._open = None
            self._intern.end(committed=committed)

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeError("the writer's methods work inside `with writer.transaction()` only")
        return self._open

    # --- what repeats ---

    def name_id(self, kind: NameKind, value: str) -> int:
        """The id in `names` of a value, of which the first 512 bytes count."""
        found = self._intern.name_id(self._connection, kind, value)
        assert found is not None
        return found

    def header_set_id(self, items: Pairs) -> tuple[int, str]:
        """The id in `header_sets` of a head, and the JSON list of its volatile values."""
        return self._intern.header_set(self._connection, items)

    def tag_set_id(self, tags: Pairs) -> tuple[int | None, Pairs]:
        """The id in `tag_sets` of the tags that may share a set, and the tags that need rows of their own."""
        return self._intern.tag_set(self._connection, tags)

    # --- rows ---

    def put_exchanges(self, rows: Iterable[ExchangeRow]) -> None:
        """Insert exchanges, or set the carriage columns of those that are there; meaning columns stay as they are."""
        values: list[tuple[Any, ...]] = []
        alone: list[tuple[Any, ...]] = []
        rows = list(rows)
        self._intern.names_ahead(self._connection, [(NameKind.TARGET, row.target) for row in rows])
        self._intern.names_ahead(self._connection, [(NameKind.SESSION, row.session) for row in rows])
        for row in rows:
            key = _key(row.id)
            tag_set: int | None = None
            if row.tags:
                tag_set, others = self.tag_set_id(row.tags)
                alone += [(key, name, value) for name, value in others]
            values.append(self._exchange_values(row, key, tag_set))
        upsert_many(self._connection, exchanges, CARRIAGE, values)
        upsert_many(self._connection, exchange_tags, tuple(exchange_tags.c.keys()), alone)

    def _exchange_values(self, row: ExchangeRow, key: bytearray, tag_set: int | None) -> tuple[Any, ...]:
        """The values of CARRIAGE, in its order."""
        named, connection, target = self._intern.name_id, self._connection, row.target
        return (
            key,
            row.journal,
            _bounded(row.ordinal),
            int(row.origin),
            clean.integer(row.started_us),
            named(connection, NameKind.NODE, row.node),
            named(connection, NameKind.UPSTREAM, row.upstream),
            named(connection, NameKind.DIALECT, row.dialect),
            named(connection, NameKind.METHOD, row.method),
            named(connection, NameKind.TARGET, target),
            _long(target),
            named(connection, NameKind.CLIENT, row.client),
            named(connection, NameKind.CLIENT_KIND, row.client_kind),
            named(connection, NameKind.CREDENTIAL, row.credential),
            named(connection, NameKind.SESSION, row.session),
            tag_set,
            row.record,
            named(connection, NameKind.HTTP_VERSION, row.http_version),
            _bounded(row.status),
            named(connection, NameKind.REASON, row.reason),
            None if row.wire_end is None else int(row.wire_end),
            None if row.error is None else clean.capped(row.error, ERROR_BYTES),
            None if row.outcome is None else int(row.outcome),
            *[each if each is None or _LOWEST <= each <= _HIGHEST else clean.integer(each) for each in _counts(row)],
            *_hashes(row),
            None if row.replay_of is None else _key(row.replay_of),
        )

    def put_chunks(self, rows: Iterable[ChunkRow]) -> None:
        """Insert chunks; one that is already there raises ValueRefused."""
        keys: dict[int, bytearray] = {}  # by number: a UUID's own hash takes ten times as long
        values = []
        bound = self._bound
        for exchange, side, seq, at_us, data in rows:
            key = keys.get(exchange.int)
            if key is None:
                keys[exchange.int] = key = _key(exchange)
            if not (0 <= seq <= _HIGHEST and 0 <= at_us <= _HIGHEST):
                seq, at_us = clean.integer(seq), clean.integer(at_us)
            values.append((key, side, seq, at_us, bound(data)))
        insert_many(self._connection, chunks, values)

    def put_heads(self, rows: Iterable[HeadRow]) -> None:
        """Insert heads and trailers; one that is already there raises ValueRefused."""
        values = []
        for exchange, side, seq, at_us, status, reason, items in rows:
            set_id, volatile = self._intern.header_set(self._connection, items)
            reason_id = self._intern.name_id(self._connection, NameKind.REASON, reason)
            place = (_key(exchange), int(side), clean.integer(seq), clean.integer(at_us))
            values.append((*place, _bounded(status), reason_id, set_id, volatile))
        insert_many(self._connection, heads, values)

    def put_changes(self, rows: Iterable[ChangeRow]) -> None:
        """Insert change records; one that is already there raises ValueRefused."""
        values = [(_key(row[0]), clean.integer(row[1]), clean.integer(row[2]), clean.text(row[3])) for row in rows]
        insert_many(self._connection, changes, values)

    def put_gaps(self, rows: Iterable[GapRow]) -> None:
        """Insert gap records; one that is already there raises ValueRefused."""
        values = []
        for exchange, seq, at_us, side, lost, reason in rows:
            counts = (clean.integer(seq), clean.integer(at_us), int(side), clean.integer(lost))
            values.append(
                (_key(exchange), *counts, self._intern.name_id(self._connection, NameKind.GAP_REASON, reason))
            )
        insert_many(self._connection, gaps, values)

    def put_meanings(self, rows: Sequence[MeaningRow], zone: tzinfo, *, again: bool = False) -> Written:
        """Write what exchanges meant, count them in the days of `zone`; see meanings.py."""
        return put_meanings(self._connection, self._intern, rows, zone, again=again)

    def put_costs(self, rows: Sequence[Costed], zone: tzinfo) -> Written:
        """Write the costs of exchanges anew; see costs.py."""
        return put_costs(self._connection, self._intern, rows, zone)

    def claim_zone(self, wanted: str | None) -> str:
        """Make `wanted` the zone of the database's days if it has none yet; the one that holds."""
        return claim_zone(self._connection, wanted)

    def note_interpretation_error(self, exchange: UUID, error: str) -> None:
        """Say what of an exchange could not be stored; what is there is interpreted all the same."""
        noted = update(exchanges).where(exchanges.c.id == exchange)
        self._connection.execute(noted.values(interpretation_error=clean.capped(error, ERROR_BYTES)))

    def name_credential(self, fingerprint: str, name: str) -> None:
        """Say what a credential is called, if nobody has said so yet."""
        name_if_new(self._connection, self.name_id(NameKind.CREDENTIAL, fingerprint), name)

    # --- positions ---

    def put_journal(self, row: JournalRow) -> int:
        """Write how far a journal is stored; returns its id and sets it in `row`."""
        sql = """INSERT INTO journals
            (worker, node, started_us, segment, "offset", stored, highest_ordinal, lost_records, ended)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (worker) DO UPDATE SET segment = excluded.segment, "offset" = excluded."offset",
            stored = excluded.stored, highest_ordinal = excluded.highest_ordinal,
            lost_records = excluded.lost_records, ended = excluded.ended RETURNING id"""
        node = self.name_id(NameKind.NODE, row.node)
        counts = (row.started_us, row.segment, row.offset, row.stored, row.highest_ordinal, row.lost_records)
        bounded = [clean.integer(each) for each in counts]
        row.id = int(one(self._connection, sql, row.worker.bytes, node, *bounded, bool(row.ended)))
        return row.id

    def move_journal(self, row: JournalRow, stands: tuple[int, int] | None) -> None:
        """Write how far a journal is stored, and set its id in `row`, if it `stands` at this (segment, offset); with
        None, if it is not there yet.

        To be called first in a transaction: whoever is about to commit something of the same journal, such as the
        server of a process that was killed meanwhile, is waited for. Raises DatabaseAway if the journal has moved on.
        """
        counts = (row.segment, row.offset, row.stored, row.highest_ordinal, row.lost_records)
        values = [*map(clean.integer, counts), bool(row.ended)]
        if stands is None:
            sql = """INSERT INTO journals
                (worker, node, started_us, segment, "offset", stored, highest_ordinal, lost_records, ended)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (worker) DO NOTHING RETURNING id"""
            node = self.name_id(NameKind.NODE, row.node)
            found = one(self._connection, sql, row.worker.bytes, node, clean.integer(row.started_us), *values)
        else:
            sql = """UPDATE journals SET segment = ?, "offset" = ?, stored = ?, highest_ordinal = ?, lost_records = ?,
                ended = ? WHERE worker = ? AND segment = ? AND "offset" = ? RETURNING id"""
            found = one(self._connection, sql, *values, row.worker.bytes, *map(clean.integer, stands))
        if found is None:
            raise DatabaseAway(f"the database {place_of(self._engine)} has more of journal {row.worker} than before")
        row.id = int(found)

    def journals(self) -> list[JournalRow]:
        """All journals, the oldest first."""
        return load_journals(self._connection)

    def journal(self, worker: UUID) -> JournalRow | None:
        """One worker's journal, None if nothing of it is stored."""
        return next(iter(load_journals(self._connection, worker)), None)

    def open_exchanges(self, journal: int) -> list[Exchange]:
        """The exchanges of a journal that have no outcome yet, the oldest first."""
        is_open = (literally(NOT_COMPLETED), exchanges.c.outcome.is_(None), exchanges.c.journal == journal)
        return load_exchanges(self._connection, select(exchanges).where(*is_open).order_by(exchanges.c.id))

    def chunk_totals(self, exchange: UUID) -> dict[int, Stored]:
        """Side -> number and bytes of the stored chunks of an exchange."""
        return stored(self._connection, exchange)

    # --- what is said of the database itself ---

    def meta(self, key: str) -> str | None:
        """A value of `meta`, None if it was never set."""
        found = one(self._connection, "SELECT value FROM meta WHERE key = ?", key)
        return None if found is None else str(found)

    def set_meta(self, key: str, value: str) -> None:
        """Set a value of `meta`."""
        sql = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        execute(self._connection, sql, (clean.text(key), clean.text(value)))


def _long(target: str | None) -> str | None:
    """The whole target if `names` holds only its beginning."""
    if target is None or (len(target) <= clean.INDEXED_BYTES and target.isascii()):
        return None
    whole = clean.text(target)
    return whole if len(whole.encode()) > clean.INDEXED_BYTES else None

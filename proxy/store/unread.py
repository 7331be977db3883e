"""Reading recorded exchanges back to be interpreted: which are waiting, what of them is stored, bodies in pieces; and
which were not understood.

Knows tables; must not know what bytes mean. Memory is bounded by the heads of a few exchanges, and one small body.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from proxy.exchange import Side, WireEnd
from proxy.store.backend import lots, marks
from proxy.store.bodies import chunks, is_intact, is_stored, packed_of, unpacked
from proxy.store.engine import execute, one
from proxy.store.names import named
from proxy.store.rows import Pairs
from proxy.store.schema import NOT_UNDERSTOOD, UNREAD

Pieces = Iterable[tuple[int, bytes]]
"""Chunks of one side: microseconds since the exchange began, and bytes. To be read once, before the next exchange."""

SMALL_BYTES = 1 << 20
"""Bodies that take no more memory together are read at once; larger ones as they are asked for."""

_CHUNK_BYTES = 150  # what a chunk takes besides its data

_NAMES, _JOINS = named("upstream", "dialect", "method", "target")
_COLUMNS = f"""e.id, {_NAMES}, e.target_long, e.started_us, e.record, e.status, e.wire_end,
e.request_bytes + e.response_bytes, e.request_chunks + e.response_chunks, e.unrecorded_bytes, e.lost_records,
e.request_sent_us, e.interpreter, e.interpretation_error"""
_set_items = msgspec.json.Decoder(list[tuple[str, str | int]])
_volatile = msgspec.json.Decoder(list[str])


@dataclass(slots=True)
class Recorded:
    """An ended exchange as it is stored. `size` and `chunks`: of both bodies, on the wire. `bodies`: whether chunks of
    it are there to be read, if there ever were any."""

    id: UUID
    upstream: str | None
    dialect: str | None
    method: str | None
    target: str | None
    target_long: str | None
    started_us: int
    record: int
    status: int | None
    wire_end: WireEnd | None
    size: int
    chunks: int
    unrecorded_bytes: int
    lost_records: int
    request_sent_us: int | None
    interpreter: int | None
    interpretation_error: str | None
    request_headers: Pairs = ()
    response_headers: Pairs = ()
    request: Pieces = ()
    response: Pieces = ()
    bodies: bool = True


Of = Sequence[int] | None
"""Ids of the journals whose exchanges are meant; None: of all."""


def unread(connection: Connection, limit: int, of: Of = None) -> list[UUID]:
    """The oldest ended exchanges that nobody has interpreted yet."""
    sql = f"SELECT id FROM exchanges WHERE ({UNREAD}) {_within(of)} ORDER BY id LIMIT ?"  # noqa: S608 - ours
    return [UUID(bytes=row[0]) for row in execute(connection, sql, (limit,))]


def left_unread(connection: Connection, limit: int, besides: Sequence[int], before: UUID) -> list[UUID]:
    """Those that began before an id and whose own ingest has not come to them; but for those of some journals."""
    left = f"AND coalesce(journal, 0) NOT IN ({', '.join(map(str, besides)) or -1})"
    sql = f"SELECT id FROM exchanges WHERE ({UNREAD}) {left} AND id < ? ORDER BY id LIMIT ?"  # noqa: S608 - ours
    return [UUID(bytes=row[0]) for row in execute(connection, sql, (before.bytes, limit))]


def count_unread(connection: Connection, most: int = 10_000, of: Of = None) -> int:
    """How many exchanges nobody has interpreted yet, counted up to `most`."""
    sql = f"SELECT count(*) FROM (SELECT 1 FROM exchanges WHERE ({UNREAD}) {_within(of)} LIMIT ?) u"  # noqa: S608 - ours
    return int(one(connection, sql, most))


def _within(of: Of) -> str:
    return "" if of is None else f"AND journal IN ({', '.join(map(str, of)) or -1})"


class Foreign(NamedTuple):
    """A kind of request whose exchanges were carried and mean nothing to us; `path` without what differs each time."""

    upstream: str | None
    method: str | None
    path: str


_DIFFERS = re.compile(r"[^/]*\d[^/]*\d[^/]*\d[^/]*|\d+|[^/]{41,}")


def not_understood(connection: Connection, most: int = 10_000) -> dict[Foreign, int]:
    """How often what was not understood, of the latest `most` exchanges that succeeded, the most frequent first."""
    shown, joins = named("upstream", "method", "target")
    sql = f"""SELECT {shown} FROM (SELECT id, upstream, method, target FROM exchanges
        WHERE {NOT_UNDERSTOOD} AND status < 400 ORDER BY id DESC LIMIT ?) e {joins}"""  # noqa: S608 - columns and a condition of ours
    found: Counter[Foreign] = Counter()
    for upstream, method, target in execute(connection, sql, (most,)):
        path = "/".join(
            "*" if _DIFFERS.fullmatch(each) else each for each in (target or "").partition("?")[0].split("/")
        )
        found[Foreign(upstream, method, path)] += 1
    return dict(found.most_common())


def ended(connection: Connection, since: UUID, until: UUID | None, limit: int) -> list[UUID]:
    """Ended exchanges from `since` on and before `until`, the oldest first."""
    last = b"\xff" * 16 if until is None else until.bytes
    sql = "SELECT id FROM exchanges WHERE id >= ? AND id < ? AND outcome IS NOT NULL ORDER BY id LIMIT ?"
    return [UUID(bytes=row[0]) for row in execute(connection, sql, (since.bytes, last, limit))]


def recorded(connection: Connection, ids: Sequence[UUID]) -> Iterator[Recorded]:
    """Those of the exchanges that are there, in the order of their ids, each with its heads and bodies."""
    for lot in lots(sorted(each.bytes for each in ids)):
        found = _exchanges(connection, lot)
        _add_heads(connection, found)
        packed = packed_of(connection, lot)
        for group in _groups(found, packed):
            if len(group) > 1 or _is_small(group[0], packed):
                _add_small(connection, group)
            else:
                _add_bodies(connection, group[0], packed)
            yield from group


def _exchanges(connection: Connection, keys: Sequence[bytes]) -> list[Recorded]:
    sql = f"SELECT {_COLUMNS} FROM exchanges e {_JOINS} WHERE e.id IN ({marks(keys)}) ORDER BY e.id"  # noqa: S608 - ours
    found = []
    for row in execute(connection, sql, tuple(keys)).fetchall():
        exchange = Recorded(UUID(bytes=row[0]), *row[1:])
        exchange.wire_end = None if exchange.wire_end is None else WireEnd(exchange.wire_end)
        found.append(exchange)
    return found


def _add_heads(connection: Connection, found: Sequence[Recorded]) -> None:
    """The request's head, and the last of the response's that is not interim."""
    by_id = {each.id.bytes: each for each in found}
    sql = f"""SELECT h.exchange_id, h.side, h.status, h.set_id, s.items, h.volatile
        FROM heads h JOIN header_sets s ON s.id = h.set_id
        WHERE h.exchange_id IN ({marks(by_id)}) ORDER BY h.exchange_id, h.side, h.seq"""  # noqa: S608 - ours
    sets: dict[int, list[tuple[str, str | int]]] = {}
    for key, side, status, set_id, items, volatile in execute(connection, sql, tuple(by_id)).fetchall():
        if side not in (Side.REQUEST, Side.RESPONSE) or (status is not None and 100 <= status < 200 and status != 101):
            continue
        if set_id not in sets:
            sets[set_id] = _set_items.decode(items)
        values = _volatile.decode(volatile)
        pairs = [(name, value if isinstance(value, str) else values[value]) for name, value in sets[set_id]]
        if side == Side.REQUEST:
            by_id[key].request_headers = pairs
        else:
            by_id[key].response_headers = pairs


def _is_small(exchange: Recorded, packed: Collection[bytes]) -> bool:
    return exchange.id.bytes not in packed and _room(exchange) <= SMALL_BYTES


def _room(exchange: Recorded) -> int:
    """The memory that the bodies take."""
    return exchange.size + exchange.chunks * _CHUNK_BYTES


def _groups(found: Iterable[Recorded], packed: Collection[bytes]) -> Iterator[list[Recorded]]:
    """Small ones together, as many as may be read at once; others alone."""
    group: list[Recorded] = []
    room = 0
    for exchange in found:
        small = _is_small(exchange, packed)
        if group and (not small or room + _room(exchange) > SMALL_BYTES):
            yield group
            group, room = [], 0
        group.append(exchange)
        room += _room(exchange)
        if not small:
            yield group
            group, room = [], 0
    if group:
        yield group


def _add_small(connection: Connection, group: Sequence[Recorded]) -> None:
    sides: dict[tuple[bytes, int], list[tuple[int, bytes]]] = {}
    for key, side, at_us, data in unpacked(connection, [each.id.bytes for each in group]):
        sides.setdefault((key, side), []).append((at_us, data))
    for each in group:
        each.request = sides.get((each.id.bytes, int(Side.REQUEST)), ())
        each.response = sides.get((each.id.bytes, int(Side.RESPONSE)), ())
        each.bodies = bool(each.request or each.response) or not each.size


def _add_bodies(connection: Connection, exchange: Recorded, packed: Collection[bytes]) -> None:
    """Of one that is large, or packed: in pieces, as they are asked for."""
    if exchange.id.bytes in packed and not is_intact(connection, exchange.id):
        exchange.bodies = False  # nothing recorded may stop who reads, nor take the place of what was understood
        return
    exchange.request = _pieces(connection, exchange.id, int(Side.REQUEST))
    exchange.response = _pieces(connection, exchange.id, int(Side.RESPONSE))
    exchange.bodies = is_stored(connection, exchange.id)


def _pieces(connection: Connection, exchange: UUID, side: int) -> Iterator[tuple[int, bytes]]:
    return ((each.at_us, each.data) for each in chunks(connection, exchange, side))

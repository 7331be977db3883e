"""Reading what was recorded: lists, one exchange, its heads and bytes, counts. For commands, console and playback.

Every function takes a connection of `engine.reading`, so that one caller sees one state. Must not write anything.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, TextClause, and_, func, or_, select, text, union_all

from proxy.errors import UsageError
from proxy.exchange import Origin, Outcome, Side, id_time_us
from proxy.store import bodies, clean, credentials, fulltext, schema
from proxy.store.engine import hex_sql
from proxy.store.load import load_exchanges, load_journals
from proxy.store.names import first_id, name_ids
from proxy.store.responses import exchanges_of
from proxy.store.rows import ChangeRow, ChunkRow, Exchange, GapRow, HeadRow, JournalRow
from proxy.store.schema import (
    COSTLY,
    COSTLY_PICO,
    FAILED,
    NOT_COMPLETED,
    NOT_LIVE,
    SERVED_ANOTHER,
    NameKind,
    exchanges,
    header_sets,
    heads,
    literally,
    names,
)

Condition = ColumnElement[bool] | TextClause

DAY_US = 86_400_000_000
_WINDOW_DAYS = (1, 7, 30)
_CANDIDATES = 5
_SETS = 500
_WAYS = 8  # models; of more, a walk back in time finds the first sooner


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of exchanges is narrowed to; None does not narrow.

    `since_us` (inclusive) and `until_us` (exclusive) are microseconds since 1970. `status` is a number or a class such
    as "4xx". `tag` is a name and a value, or a name and None for any value. `model` is one that was asked for or that
    served, `credential` a name or a fingerprint or the beginning of one; `search` are words, all of which are in one
    text; `errors` keeps what failed.
    """

    since_us: int | None = None
    until_us: int | None = None
    upstream: str | None = None
    status: int | str | None = None
    outcome: Outcome | Literal["open"] | None = None
    tag: tuple[str, str | None] | None = None
    session: str | None = None
    origin: Origin | None = None
    model: str | None = None
    credential: str | None = None
    search: str | None = None
    min_cost_pico: int | None = None
    errors: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is stored. `outcomes` has a key for every outcome that occurs, None for exchanges that are open.

    `stored` counts the request heads of all journals, `missing` those that were numbered but never stored; `journals`
    has the same for each. Deleting exchanges lowers `exchanges`, not `stored`.
    """

    exchanges: int
    outcomes: dict[Outcome | None, int]
    chunks: int
    stored: int
    missing: int
    journals: list[JournalRow] = field(default_factory=list)


def list_exchanges(connection: Connection, filters: Filters, limit: int, before: UUID | None = None) -> list[Exchange]:
    """Up to `limit` exchanges, the newest first; for the next page give the last one's id as `before`.

    Looks at one day, then at seven, then at thirty, then at the rest, so that a filter which many exchanges pass is
    answered from few of them.
    """
    conditions = _conditions(connection, filters)
    if conditions is None:
        return []
    upper = _earlier(before, None if filters.until_us is None else first_id(filters.until_us))
    newest = upper or _newest(connection)
    if newest is None:
        return []
    lowest = None if filters.since_us is None else first_id(filters.since_us)
    models = None if filters.model is None else name_ids(connection, NameKind.MODEL, filters.model)
    if models == []:
        return []
    found: list[Exchange] = []
    for days in (*_WINDOW_DAYS, None):
        lower = lowest
        if days is not None:
            lower = first_id(id_time_us(newest) - days * DAY_US)
            lower = lower if lowest is None or lower > lowest else lowest
        window: list[Condition] = [] if upper is None else [exchanges.c.id < upper]
        window += [] if lower is None else [exchanges.c.id >= lower]
        found += _page(connection, [*window, *conditions], models, limit - len(found))
        if len(found) >= limit or lower == lowest:
            break
        upper = lower
    return _as_of_now(connection, found)


def _page(connection: Connection, conditions: list[Condition], models: list[int] | None, limit: int) -> list[Exchange]:
    """The newest exchanges; those of `models`, that asked for one or got it, each by an index of its own.

    The ids first, then their rows: in one statement Postgres would rather walk back through all rows of the time.
    """
    column = exchanges.c
    newest_first = select(exchanges).order_by(column.id.desc()).limit(limit)
    if models is None:
        return load_exchanges(connection, newest_first.where(*conditions))
    if len(models) > _WAYS:
        any_of = or_(column.model_asked.in_(models), column.model_served.in_(models))
        return load_exchanges(connection, newest_first.where(*conditions, any_of))
    ways = [column.model_asked == each for each in models]
    ways += [and_(column.model_served == each, literally(SERVED_ANOTHER)) for each in models]
    ids = select(column.id).where(*conditions).order_by(column.id.desc()).limit(limit)
    found = connection.scalars(union_all(*[select(ids.where(way).subquery().c.id) for way in ways]))
    newest = sorted(set(found), reverse=True)[:limit]
    return load_exchanges(connection, newest_first.where(column.id.in_(newest))) if newest else []


def _as_of_now(connection: Connection, found: list[Exchange]) -> list[Exchange]:
    """A row is written when its exchange begins and when it ends: in between the counts are those of its chunks."""
    for each in found:
        if each.outcome is None:
            totals = bodies.stored(connection, each.id)
            each.request_chunks, each.request_bytes = totals.get(int(Side.REQUEST), (0, 0))
            each.response_chunks, each.response_bytes = totals.get(int(Side.RESPONSE), (0, 0))
    return found


def _newest(connection: Connection) -> UUID | None:
    return connection.scalar(select(exchanges.c.id).order_by(exchanges.c.id.desc()).limit(1))


def _earlier(one: UUID | None, other: UUID | None) -> UUID | None:
    return min(one, other) if one is not None and other is not None else one or other


def _conditions(connection: Connection, filters: Filters) -> list[Condition] | None:
    """The filters as SQL, but for time; None if one names what no exchange has.

    The conditions of partial indexes are repeated literally: with a bound number SQLite would not use the index.
    """
    conditions: list[Condition] = []
    for column, kind, value in (
        (exchanges.c.upstream, NameKind.UPSTREAM, filters.upstream),
        (exchanges.c.session, NameKind.SESSION, filters.session),
    ):
        if value is not None:
            named = _name_id(connection, kind, value)
            if named is None:
                return None
            conditions.append(column == named)
    if filters.origin is not None:
        conditions.append(exchanges.c.origin == int(filters.origin))
    if filters.origin not in (None, Origin.LIVE):
        conditions.append(literally(NOT_LIVE))
    if filters.status is not None:
        conditions += _status(filters.status)
    if filters.outcome == "open":
        conditions.append(exchanges.c.outcome.is_(None))
    elif filters.outcome is not None:
        conditions.append(exchanges.c.outcome == int(filters.outcome))
    if filters.outcome not in (None, Outcome.COMPLETED):
        conditions.append(literally(NOT_COMPLETED))
    if filters.tag is not None:
        tagged = _tagged(connection, *filters.tag)
        if tagged is None:
            return None
        conditions.append(tagged)
    return [*conditions, *_of_meaning(connection, filters)]


def _of_meaning(connection: Connection, filters: Filters) -> list[Condition]:
    """The filters that look at what exchanges meant, and at who paid. Raises UsageError for an unknown credential."""
    column = exchanges.c
    conditions: list[Condition] = []
    if filters.credential is not None:
        found = [each.id for each in credentials.find(connection, filters.credential)]
        conditions += [column.credential.in_(found), column.credential.is_not(None)]
    if filters.min_cost_pico is not None:
        conditions.append(func.coalesce(column.cost_reported_pico, column.cost_pico) >= filters.min_cost_pico)
        if filters.min_cost_pico > COSTLY_PICO:
            conditions.append(literally(COSTLY))
    if filters.errors:
        conditions.append(column.failed.is_(True))
    if filters.search is not None:
        conditions.append(column.id.in_(fulltext.exchanges_with(connection, filters.search)))
    return conditions


def _name_id(connection: Connection, kind: NameKind, value: str) -> int | None:
    found = select(names.c.id).where(names.c.kind == int(kind), names.c.value == clean.capped(value))
    return connection.scalar(found)


def _status(wanted: int | str) -> list[Condition]:
    column = exchanges.c.status
    conditions: list[Condition]
    if isinstance(wanted, str):
        if not re.fullmatch("[1-9]xx", wanted.lower()):
            raise UsageError(f"the status {wanted!r} is neither a number nor a class: use for example 429 or 4xx")
        first = int(wanted[0]) * 100
        # Not as a range: SQLite would walk the index on status, and sort by id all that it finds.
        conditions = [column // 100 == first // 100]
    else:
        first = wanted
        conditions = [column == wanted]
    return [literally(FAILED), *conditions] if first >= 400 else conditions


def _tagged(connection: Connection, name: str, value: str | None) -> ColumnElement[bool] | None:
    """Looked up first: a row is compared with a few numbers, and with the rows for rare tags only if there are any."""
    sets, alone = schema.tag_set_items.c, schema.exchange_tags.c
    in_sets, in_rows = [sets.name == clean.capped(name)], [alone.name == clean.capped(name)]
    if value is not None:
        in_sets.append(sets.value == clean.capped(value))
        in_rows.append(alone.value == clean.capped(value))
    having = select(sets.set_id).where(*in_sets)
    some = list(connection.scalars(having.distinct().limit(_SETS + 1)))
    found: list[ColumnElement[bool]] = []
    if some:
        found.append(exchanges.c.tag_set.in_(some if len(some) <= _SETS else having))
    if connection.scalar(select(alone.exchange_id).where(*in_rows).limit(1)) is not None:
        found.append(exchanges.c.id.in_(select(alone.exchange_id).where(*in_rows)))
    return or_(*found) if found else None


def find_exchange(connection: Connection, given: str) -> UUID:
    """The exchange that a person means: by its id, by the first or last hex digits of it (at least 4), by the id that
    the provider gave its response, or by `last`.

    Raises UsageError if there is none or more than one.
    """
    if given.strip().lower() == "last":
        newest = _newest(connection)
        if newest is None:
            raise UsageError("there is no exchange yet: send a request through the data port first")
        return newest
    digits = given.strip().lower().replace("-", "")
    if not re.fullmatch("[0-9a-f]{4,32}", digits):
        answered = exchanges_of(connection, given.strip(), _CANDIDATES + 1)
        if not answered:
            raise UsageError(
                f"{given!r} is no exchange id: give the whole id, 4 or more of its digits, the id of its response, or"
                " `last`"
            )
        return _only(given, answered)
    beginning = exchanges.c.id.between(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))
    ids = _ids(connection, beginning)
    if not ids and len(digits) < 32:
        # Every id is looked at for its ending: only where none begins so.
        ending = text(f"{hex_sql(connection, 'exchanges.id')} LIKE :ending").bindparams(ending=f"%{digits}")
        ids = _ids(connection, ending)
    if not ids:
        raise UsageError(f"there is no exchange {given}: `wiretape ls` lists what there is")
    return _only(given, ids)


def _only(given: str, ids: list[UUID]) -> UUID:
    if len(ids) > 1:
        shown = ", ".join(str(each) for each in ids[:_CANDIDATES]) + (", ..." if len(ids) > _CANDIDATES else "")
        raise UsageError(f"{given} may be any of {shown}: give more digits")
    return ids[0]


def _ids(connection: Connection, match: Condition) -> list[UUID]:
    wanted = select(exchanges.c.id).where(match).order_by(exchanges.c.id.desc()).limit(_CANDIDATES + 1)
    return list(connection.scalars(wanted))


def get_exchange(connection: Connection, exchange: UUID) -> Exchange | None:
    """All that the row of an exchange says, None if there is no such exchange."""
    found = _as_of_now(connection, load_exchanges(connection, select(exchanges).where(exchanges.c.id == exchange)))
    return found[0] if found else None


def resends(connection: Connection, exchange: UUID) -> list[Exchange]:
    """The exchanges that sent this one again, the oldest first."""
    again = select(exchanges).where(literally(NOT_LIVE), exchanges.c.replay_of == exchange)
    return _as_of_now(connection, load_exchanges(connection, again.order_by(exchanges.c.id)))


def headers(connection: Connection, exchange: UUID) -> list[HeadRow]:
    """The heads and trailers of an exchange by their sequence, each with its headers in order."""
    reason = select(names.c.value).where(names.c.id == heads.c.reason).scalar_subquery()
    query = (
        select(heads, header_sets.c["items"].label("set_items"), reason.label("reason_text"))
        .join(header_sets, header_sets.c.id == heads.c.set_id)
        .where(heads.c.exchange_id == exchange)
        .order_by(heads.c.seq, heads.c.side)
    )
    return [
        HeadRow(
            exchange, row.side, row.seq, row.at_us, row.status, row.reason_text, _pairs(row.set_items, row.volatile)
        )
        for row in connection.execute(query)
    ]


def _pairs(items: str, volatile: str) -> list[tuple[str, str]]:
    values = msgspec.json.decode(volatile, type=list[str])
    steady = msgspec.json.decode(items, type=list[tuple[str, str | int]])
    return [(name, value if isinstance(value, str) else values[value]) for name, value in steady]


def chunks(connection: Connection, exchange: UUID, side: int | None = None) -> Generator[ChunkRow]:
    """The chunks of an exchange, or of one side of it, by their sequence. Memory does not grow with their number."""
    yield from bodies.chunks(connection, exchange, side)


def changes(connection: Connection, exchange: UUID) -> list[ChangeRow]:
    """What was changed on the way, by sequence."""
    column = schema.changes.c
    query = select(schema.changes).where(column.exchange_id == exchange).order_by(column.seq)
    return [ChangeRow(*row) for row in connection.execute(query)]


def gaps(connection: Connection, exchange: UUID) -> list[GapRow]:
    """What passed unrecorded, by sequence."""
    column = schema.gaps.c
    reason = select(names.c.value).where(names.c.id == column.reason).scalar_subquery().label("reason_text")
    query = select(schema.gaps, reason).where(column.exchange_id == exchange).order_by(column.seq)
    found = connection.execute(query)
    return [GapRow(row.exchange_id, row.seq, row.at_us, row.side, row.bytes, row.reason_text) for row in found]


def tags(connection: Connection, exchange: UUID) -> list[tuple[str, str]]:
    """The tags of an exchange, sorted; empty also if there is no such exchange."""
    found = get_exchange(connection, exchange)
    return [] if found is None else list(found.tags)


def journals(connection: Connection) -> list[JournalRow]:
    """All journals, the oldest first."""
    return load_journals(connection)


def get_meta(connection: Connection, key: str) -> str | None:
    """A value of `meta`, None if it was never set."""
    return connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == key))


def counts(connection: Connection) -> Counts:
    """How much is stored, and what is missing."""
    total = _size(connection, exchanges)
    # Not completed are few and have an index; the completed, nearly all, are the rest.
    few = select(exchanges.c.outcome, func.count()).where(literally(NOT_COMPLETED)).group_by(exchanges.c.outcome)
    outcomes = {None if outcome is None else Outcome(outcome): number for outcome, number in connection.execute(few)}
    completed = total - sum(outcomes.values())
    if completed:
        outcomes[Outcome.COMPLETED] = completed
    found = load_journals(connection)
    return Counts(
        exchanges=total,
        outcomes=outcomes,
        chunks=_size(connection, schema.chunks) + (connection.scalar(select(func.sum(schema.tapes.c.chunks))) or 0),
        stored=sum(journal.stored for journal in found),
        missing=sum(journal.missing for journal in found),
        journals=found,
    )


def _size(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0

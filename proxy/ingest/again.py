"""Doing history again: reading stored exchanges anew, or only pricing them anew, beside an ingest that goes on.

Each step is one short transaction, so that it can be interrupted anywhere and run again. Must not know the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import tzinfo
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from proxy.ingest.complete import META, cost_data, price_json
from proxy.ingest.interpret import Reader
from proxy.interpret.meaning import Meaning, Part, Usage
from proxy.interpret.price import Pricing
from proxy.store import Engine, clean
from proxy.store.costs import Costed, costed
from proxy.store.engine import reading
from proxy.store.errors import ValueRefused
from proxy.store.meanings import Written
from proxy.store.unread import ended, recorded
from proxy.store.write import Writer

AT_ONCE = 64  # exchanges of one transaction
_BYTES = 4 << 20  # of bodies, at most, that are read for one


class Step(NamedTuple):
    """What one transaction did. `skipped`: exchanges whose bodies are not stored, so that they cannot be read again.
    `last` is the newest exchange that is done."""

    written: Written
    skipped: int
    last: UUID


def reinterpret(engine: Engine, since: UUID, until: UUID | None, zone: tzinfo, pricing: Pricing) -> Iterator[Step]:
    """Read the ended exchanges from `since` on again, before `until`, the oldest first.

    Raises DatabaseAway and ValueRefused; what was done by then stays done.
    """
    writer, reader = Writer(engine), Reader(pricing)
    while True:
        rows, skipped, size, last = [], 0, 0, None
        with reading(engine) as connection:
            for found in recorded(connection, ended(connection, since, until, AT_ONCE)):
                last = found.id
                if found.interpreter is not None and (found.record == META or not found.bodies):
                    skipped += 1
                else:
                    rows.append(reader.row(found))
                    size += found.size
                if size > _BYTES:
                    break
        if last is None:
            return
        with writer.transaction():
            written = writer.put_meanings(rows, zone, again=True)
        yield Step(written, skipped, last)
        since = UUID(int=last.int + 1)


class Newcomers:
    """Interprets exchanges that were just put into the store by somebody else than ingest, as ingest would."""

    def __init__(self, engine: Engine, zone: tzinfo, pricing: Pricing) -> None:
        self._engine = engine
        self._writer = Writer(engine)
        self._reader = Reader(pricing)
        self._zone = zone

    def interpret(self, ids: Sequence[UUID]) -> None:
        """Interpret them, but for those that ingest has read by now. Raises DatabaseAway.

        What the database refuses is left to ingest, which finds out what it is of each.
        """
        waiting = sorted(ids)
        while waiting:
            rows, size = [], 0
            with reading(self._engine) as connection:
                for found in recorded(connection, waiting[:AT_ONCE]):
                    rows.append(self._reader.row(found))
                    size += found.size
                    if size > _BYTES:
                        break
            if not rows:
                return
            with suppress(ValueRefused), self._writer.transaction():
                self._writer.put_meanings(rows, self._zone)
            waiting = [each for each in waiting if each > rows[-1].exchange]


def reprice(engine: Engine, since: UUID, until: UUID | None, zone: tzinfo, pricing: Pricing) -> Iterator[Step]:
    """Price the interpreted exchanges from `since` on again, before `until`, from what is stored of their meaning."""
    writer = Writer(engine)
    while True:
        with reading(engine) as connection:
            ids = ended(connection, since, until, AT_ONCE)
            found = costed(connection, ids)
        if not ids:
            return
        changed = [each for each in found if _price(each, pricing)]
        written = Written(exchanges=len(found) - len(changed))
        if changed:
            with writer.transaction():
                written += writer.put_costs(changed, zone)
        yield Step(written, len(ids) - len(found), ids[-1])
        since = UUID(int=ids[-1].int + 1)


def _price(row: Costed, pricing: Pricing) -> bool:
    """Set a row's cost to what it is now; whether that is another."""
    had = (row.cost_pico, row.cost_reported_pico, row.cost_status)
    before = row.price, row.data
    data = msgspec.json.decode(row.data, type=dict[str, Any])
    found = pricing.cost(meaning_of(row, data), row.upstream, row.started_us)
    row.cost_pico, row.cost_reported_pico, row.cost_status = found.pico, found.reported_pico, found.status
    row.price = price_json(found)
    row.data = clean.json(data | {"cost": cost_data(found)})
    same = all(clean.same_json(*each) for each in zip(before, (row.price, row.data), strict=True))
    return had != (row.cost_pico, row.cost_reported_pico, row.cost_status) or not same


def meaning_of(row: Costed, data: Mapping[str, Any]) -> Meaning:
    """As much of a meaning as is stored and as a price follows from; `data` is that of `meanings`."""
    usage = data.get("usage")
    return Meaning(
        operation=row.operation,
        model_asked=row.model_asked,
        response_model=row.model_served,
        service_tier=row.service_tier,
        usage=None if usage is None else msgspec.convert(usage, Usage),
        usage_state=row.usage_state,  # type: ignore[arg-type]  # a word that a meaning had when it was stored
        usage_conflict=bool(data.get("usage_conflict")),
        parts=_parts(data.get("parts", ())),
        shares=_parts(data.get("shares", ())),
        cost_reported_pico=row.cost_reported_pico,
    )


def _parts(stored: Sequence[Mapping[str, Any]]) -> list[Part]:
    return [Part(**{**part, "usage": msgspec.convert(part["usage"], Usage)}) for part in stored]

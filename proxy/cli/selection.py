"""Which exchanges a command is to write: those that are named, or all that pass its filters, the oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from proxy.cli import progress, render
from proxy.cli.door import settings, store
from proxy.cli.filters import Flags, check_search, check_upstream, filters_of, found_id, pages
from proxy.cli.show import ID_HELP
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.store import Engine
    from proxy.store.read import Filters
    from proxy.store.rows import Exchange

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help=ID_HELP)]
LimitFlag = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="The newest so many.")]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The exchanges that were asked for, the oldest first."""

    settings: Settings
    engine: Engine
    exchanges: Iterator[Exchange]
    total: int

    @property
    def ids(self) -> Iterator[UUID]:
        """Their ids, in the place of `exchanges`."""
        return (each.id for each in self.exchanges)


@contextmanager
def chosen_ones(
    ctx: typer.Context, exchanges: list[str] | None, flags: Flags, limit: int | None, before: str | None
) -> Iterator[Chosen]:
    """Those with the given ids, or those that pass. Raises UsageError."""
    here = settings(ctx)
    filters = filters_of(flags)
    if exchanges and (flags.narrow or limit is not None or before is not None):
        raise UsageError("give either ids or filters, not both")
    engine = store(here)
    try:
        check_upstream(engine, here, flags.upstream)
        check_search(engine, here, flags.search)
        if exchanges:
            named = {each for each in (found_id(engine, given) for given in exchanges) if each is not None}
            found, total = _named(engine, sorted(named)), len(named)
        else:
            found, total = _oldest_first(engine, filters, limit, found_id(engine, before))
        yield Chosen(here, engine, found, total)
    finally:
        engine.dispose()


def _named(engine: Engine, ids: list[UUID]) -> Iterator[Exchange]:
    from proxy.store.engine import reading
    from proxy.store.read import get_exchange

    for each in ids:
        with reading(engine) as connection:
            found = get_exchange(connection, each)
        if found is not None:  # deleted meanwhile
            yield found


def _oldest_first(
    engine: Engine, filters: Filters, limit: int | None, before: UUID | None
) -> tuple[Iterator[Exchange], int]:
    """The exchanges that pass, as of now, and how many. Notes where the pages are and reads them again, the last one
    first."""
    starts = [(page[0].id, len(page)) for page in pages(engine, filters, limit, before)]
    return _again(engine, filters, starts), sum(size for _, size in starts)


def _again(engine: Engine, filters: Filters, starts: list[tuple[UUID, int]]) -> Iterator[Exchange]:
    from proxy.store.engine import reading
    from proxy.store.read import list_exchanges

    passed = UUID(int=0)
    for newest, size in reversed(starts):
        with reading(engine) as connection:
            page = list_exchanges(connection, filters, size, UUID(int=newest.int + 1))
        # Where something was deleted meanwhile the page reaches into the one that was written before.
        for exchange in reversed(page):
            if exchange.id > passed:
                passed = exchange.id
                yield exchange


def tracked(chosen: Chosen, output: Path | None) -> Iterator[UUID]:
    """The ids; a terminal for errors shows how many are done, unless the output would run into it."""
    if output is None and render.on_terminal():
        return chosen.ids
    return progress.counted(chosen.ids, chosen.total)

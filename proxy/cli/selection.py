"""Which exchanges a command is to write: those that are named, or all that pass its filters, the oldest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from proxy.cli.filters import Flags, check_search, check_upstream, filters_of, found_id, pages
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.store import Engine
    from proxy.store.read import Filters

LimitFlag = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="The newest so many.")]


def selected(
    engine: Engine, settings: Settings, named: Sequence[str] | None, flags: Flags, limit: int | None, before: str | None
) -> Iterator[UUID]:
    """Their ids. Raises UsageError for names beside filters, for what is not there, and for a filter that is none."""
    filters = filters_of(flags)
    if named and (flags.narrow or limit is not None or before is not None):
        raise UsageError("export takes either ids or filters, not both")
    check_upstream(engine, settings, flags.upstream)
    check_search(engine, settings, flags.search)
    if not named:
        return _oldest_first(engine, filters, limit, found_id(engine, before))
    found = (found_id(engine, each) for each in named)
    return iter(sorted({each for each in found if each is not None}))


def _oldest_first(engine: Engine, filters: Filters, limit: int | None, before: UUID | None) -> Iterator[UUID]:
    """The exchanges that pass, as of now. Notes where the pages are and reads them again, the last one first."""
    from proxy.store.engine import reading
    from proxy.store.read import list_exchanges

    starts = [(page[0].id, len(page)) for page in pages(engine, filters, limit, before)]
    passed = UUID(int=0)
    for newest, size in reversed(starts):
        with reading(engine) as connection:
            page = list_exchanges(connection, filters, size, UUID(int=newest.int + 1))
        # Where something was deleted meanwhile the page reaches into the one that was written before.
        for exchange in reversed(page):
            if exchange.id > passed:
                passed = exchange.id
                yield passed

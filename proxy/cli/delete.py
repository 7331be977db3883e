"""`delete`: take exchanges out of the database, with everything stored of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.filters import NO_FLAGS, Flags, check_search, check_upstream, filtered, filters_of, found_id, pages
from proxy.cli.show import ID_HELP
from proxy.errors import UsageError, WiretapeError

if TYPE_CHECKING:
    from proxy.store import Engine
    from proxy.store.rows import Exchange


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(filtered(delete))


def delete(
    ctx: typer.Context,
    exchanges: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help=ID_HELP)] = None,
    flags: Flags = NO_FLAGS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Delete exchanges for good. Those that are still running stay."""
    door(ctx).say(config, home, database, None)
    chosen = settings(ctx)
    filters = filters_of(flags)
    if bool(exchanges) == flags.narrow:
        raise UsageError("delete takes either ids or filters: say which exchanges, for example `--until 30d`")
    engine = store(chosen)
    from proxy.store.delete import delete_exchanges

    try:
        check_upstream(engine, chosen, flags.upstream)
        check_search(engine, chosen, flags.search)
        ended, running = _named(engine, exchanges) if exchanges else _sorted(pages(engine, filters, None))
        _ask(len(ended), running, yes=yes)
        done = delete_exchanges(engine, ended)
    finally:
        engine.dispose()
    render.say(f"{render.count(done.deleted, 'exchange')} deleted{_left(running + done.still_open)}")


def _named(engine: Engine, given: Iterable[str]) -> tuple[list[UUID], int]:
    """Ids that have ended, and how many have not. Raises UsageError for one that is not there."""
    from proxy.store import read
    from proxy.store.engine import reading

    ids = {each for each in (found_id(engine, text) for text in given) if each is not None}
    with reading(engine) as connection:
        found = [read.get_exchange(connection, each) for each in ids]
    return _sorted([[each for each in found if each is not None]])


def _sorted(found: Iterable[list[Exchange]]) -> tuple[list[UUID], int]:
    ended, running = [], 0
    for page in found:
        ended += [each.id for each in page if each.outcome is not None]
        running += sum(each.outcome is None for each in page)
    return ended, running


def _ask(ended: int, running: int, *, yes: bool) -> None:
    """Raise unless the user wants it."""
    if not ended or yes:
        return
    what = f"{render.count(ended, 'exchange')}{_left(running)}"
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: nobody is there to be asked, so give --yes to delete them")
    if not typer.confirm(f"Delete {what}?", err=True):
        raise WiretapeError("nothing was deleted")


def _left(running: int) -> str:
    if not running:
        return ""
    return f"; {running:,} still running {'stays' if running == 1 else 'stay'}"

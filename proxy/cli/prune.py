"""`prune`: take out what is older than its class may be, or say what would go."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.errors import UsageError, WiretapeError

if TYPE_CHECKING:
    from proxy.store.retention import Pruned

AGE_HELP = "Instead of retention.{}: older than that, such as 30d; `none` for good."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prune)


def prune(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    chunks: Annotated[str | None, typer.Option("--chunks", metavar="AGE", help=AGE_HELP.format("chunks"))] = None,
    bodies: Annotated[str | None, typer.Option("--bodies", metavar="AGE", help=AGE_HELP.format("bodies"))] = None,
    exchanges: Annotated[
        str | None, typer.Option("--exchanges", metavar="AGE", help=AGE_HELP.format("exchanges"))
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    output: render.FormatFlag = render.Format.TABLE,
) -> None:
    """Take out what is older than its class may be: chunks, bodies (all text), exchanges (all of it)."""
    here = door(ctx)
    here.say(config, home, database, None)
    here.set("retention", chunks=chunks, bodies=bodies, exchanges=exchanges)
    chosen = settings(ctx)
    from proxy.store import retention

    kept = chosen.retention
    spans = retention.Retention(_span(kept.chunks), _span(kept.bodies), _span(kept.exchanges))
    cutoffs = spans.cutoffs(datetime.now(UTC))
    if not cutoffs:
        raise UsageError(
            "nothing is to be pruned: set retention.chunks, retention.bodies or retention.exchanges, or give for"
            " example `--chunks 30d`"
        )
    engine = store(chosen)
    try:
        would = retention.preview(engine, cutoffs)
        if dry_run:
            _say(would, output, "would go")
            return
        _ask(would, yes=yes)
        _say(retention.prune(engine, cutoffs), output, "went")
    finally:
        engine.dispose()


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _ask(would: list[Pruned], *, yes: bool) -> None:
    """Raise unless the user wants it."""
    told = "; ".join(_sentence(each) for each in would)
    if yes or not any(each.exchanges for each in would):
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{told}: nobody is there to be asked, so give --yes to prune")
    if not typer.confirm(f"Take out {told}?", err=True):
        raise WiretapeError("nothing was pruned")


def _say(done: list[Pruned], output: render.Format, verb: str) -> None:
    if output is render.Format.JSON:
        render.print_json([each._asdict() for each in done])
        return
    for each in done:
        dropped = f", {render.count(len(each.partitions), 'partition')} as a whole" if each.partitions else ""
        running = f"; {each.still_open:,} still running {'stays' if each.still_open == 1 else 'stay'}"
        render.say(f"{_sentence(each)} {verb}{dropped}{running if each.still_open else ''}")


def _sentence(each: Pruned) -> str:
    number = render.count(each.exchanges, "exchange")
    return number if each.name == "exchanges" else f"the {each.name} of {number}"

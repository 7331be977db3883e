"""`resend`: recorded requests once more through the data port, with other words where wanted, and what each came to."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy import presets
from proxy.cli import money, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.filters import usd_pico
from proxy.cli.provider_keys import key_of
from proxy.cli.show import ID_HELP
from proxy.cli.upstreams import data_port
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.replay.resend import DataPort, Move, Original, Request, Sent
    from proxy.store import Engine
    from proxy.store.rows import Exchange


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(resend)


def resend(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    exchanges: Annotated[list[str], typer.Argument(metavar="ID...", help=ID_HELP)],
    to: Annotated[str | None, typer.Option("--to", metavar="UPSTREAM", help="To this upstream instead.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="With this model instead.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="With this in the JSON body, as temperature=0; repeatable."),
    ] = None,
    times: Annotated[int, typer.Option("--times", metavar="N", min=1, help="Each so many times.")] = 1,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="USD", help="Send no more once so much was spent on them.")
    ] = None,
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Send recorded requests again, and show what each came to. This costs what any request costs."""
    door(ctx).say(config, home, database, None)
    chosen = settings(ctx)
    from proxy.replay.edits import parse_edit
    from proxy.replay.resend import DataPort, original

    limit = usd_pico("--budget", budget)
    edits = [parse_edit(each) for each in changes or ()]
    with ExitStack() as held:
        engine = store(chosen)
        held.callback(engine.dispose)
        # All before any: what cannot be sent must not be found out after money was spent.
        asked = [_request(chosen, original(engine, each), to, model, edits) for each in exchanges]
        for each in asked:
            if each.left_out:
                render.note(f"{each.original}: nobody has what was in {', '.join(each.left_out)}, so it is left out")
        here = data_port(chosen)
        port = held.enter_context(DataPort(here.address, chosen.forward.cert if here.tls else None))
        spending = Spending(limit, len(asked) * times)
        runs = held.enter_context(closing(_run(engine, port, asked, times, spending)))
        _tell(runs, output)
    if spending.problem:
        render.note(spending.problem)
        raise typer.Exit(1)


@dataclass
class Spending:
    """What was spent so far, of at most `limit` (10^-12 USD, None: as much as it takes); `problem`: why it ended."""

    limit: int | None
    wanted: int
    sent: int = 0
    pico: int = 0
    problem: str = ""

    def may(self) -> bool:
        """Whether another one may be sent."""
        if self.limit is not None and not self.problem and self.pico >= self.limit:
            self.problem = f"{money.usd(self.pico)} of {money.usd(self.limit)} are spent"
            self._stopped()
        return not self.problem

    def add(self, sent: Sent, found: Exchange | None) -> None:
        """Count what was sent."""
        self.sent += 1
        cost = _cost(found)
        name = sent.id or sent.original
        if found is None or found.interpreter is None:
            self.problem = f"{name} was sent and is not stored yet: see `wiretape doctor`"
            self._stopped()
        elif cost is not None:
            self.pico += cost
        elif found.usage_state != "none":
            if self.limit is None:
                render.note(f"it is not known what {name} cost: `wiretape explain {name}` says why")
                return
            self.problem = f"it is not known what {name} cost, so --budget cannot be kept"
            self._stopped()

    def _stopped(self) -> None:
        if self.sent < self.wanted:
            self.problem += f"; {self.sent} of {self.wanted} were sent"


def _request(chosen: Settings, again: Original, to: str | None, model: str | None, edits: Any) -> Request:
    from proxy.replay.resend import request

    name = to or again.exchange.upstream or ""
    move = None if to is None else _move(chosen, again, to)
    upstream = chosen.upstreams.get(name)
    if upstream is not None and upstream.record == "none":
        raise UsageError(f"upstreams.{name}.record is none: of what is sent there nothing would be known")
    held = upstream is not None and upstream.held  # then the data port has the key
    return request(again, lambda: None if held else key_of(name, os.environ), move, model, edits)


def _move(chosen: Settings, again: Original, to: str) -> Move:
    """Raises UsageError for an upstream that is not configured, or speaks otherwise."""
    from proxy.replay.resend import Move

    target = chosen.upstreams.get(to)
    if target is None:
        raise UsageError(f"--to {to!r} is no upstream: configured are {', '.join(chosen.upstreams)}")
    was = again.exchange
    if was.dialect != target.dialect:
        raise UsageError(f"--to {to} speaks {target.dialect} and {was.id} is {was.dialect}: choose one of that dialect")
    name = was.upstream or ""
    before = chosen.upstreams.get(name)
    instead_of = presets.base_path(name, before.url if before is not None else "", was.dialect)
    return Move(to, presets.base_path(to, target.url, target.dialect), instead_of)


def _run(
    engine: Engine, port: DataPort, asked: list[Request], times: int, spending: Spending
) -> Generator[tuple[Sent, Exchange | None]]:
    """Send all, one after another, each time through the list."""
    from proxy.replay.resend import stored

    for each in asked * times:
        if not spending.may():
            return
        sent = port.send(each)
        found = stored(engine, sent)
        spending.add(sent, found)
        yield sent, found


def _tell(runs: Iterable[tuple[Sent, Exchange | None]], output: render.Format) -> None:
    """Print each as it comes; JSON when all are there, or none comes any more."""
    facts = []
    try:
        for sent, found in runs:
            if output is render.Format.JSON:
                facts.append(_facts(sent, found))
            else:
                render.say(("  " if render.on_terminal() else "\t").join(map(render.safe, _cells(sent, found))))
    finally:
        if output is render.Format.JSON:
            render.print_json(facts)


def _cost(found: Exchange | None) -> int | None:
    if found is None:
        return None
    return found.cost_pico if found.cost_reported_pico is None else found.cost_reported_pico


def _outcome(found: Exchange | None) -> str | None:
    return None if found is None or found.outcome is None else found.outcome.name.lower()


def _facts(sent: Sent, found: Exchange | None) -> dict[str, Any]:
    cost = _cost(found)
    return {
        "id": None if sent.id is None and found is None else str(sent.id if found is None else found.id),
        "replay_of": str(sent.original),
        "upstream": found and found.upstream,
        "model": found and (found.model_served or found.model_asked),
        "status": sent.status,
        "outcome": _outcome(found),
        "input_tokens": found and found.input_tokens,
        "output_tokens": found and found.output_tokens,
        "usage_state": found and found.usage_state,
        "cost_pico": cost,
        "cost_usd": None if cost is None else money.plain_usd(cost),
        "duration_us": found and found.end_us,
    }


def _cells(sent: Sent, found: Exchange | None) -> list[str]:
    said = _facts(sent, found)
    return [
        said["id"] or "-",
        str(sent.status),
        said["outcome"] or "-",
        f"{money.tokens(said['input_tokens'])} in",
        f"{money.tokens(said['output_tokens'])} out",
        money.usd(said["cost_pico"]),
        render.duration(said["duration_us"]),
    ]

"""`reinterpret`: read stored exchanges again, as this version understands them; and how such a command goes its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.edge import INTERRUPTED
from proxy.cli.times import SinceFlag, UntilFlag, moment
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.ingest.again import Step
    from proxy.interpret.price import Pricing
    from proxy.store import Engine
    from proxy.store.meanings import Written

    Work = Callable[[Engine, UUID, UUID | None, tzinfo, Pricing], Iterator[Step]]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reinterpret)


def reinterpret(
    ctx: typer.Context,
    since: SinceFlag = None,
    until: UntilFlag = None,
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Read recorded exchanges again: models, tokens, costs, texts. Can be interrupted, and run again."""
    door(ctx).say(config, home, database, None)
    from proxy.ingest.again import reinterpret as work

    again(settings(ctx), "reinterpret", since, until, output, work)


def again(
    chosen: Settings, command: str, since: str | None, until: str | None, output: render.Format, work: Work
) -> None:
    """Do a stretch of history again and say what changed. Raises UsageError."""
    from proxy.store.meanings import Written
    from proxy.store.names import first_id

    began, end = moment("--since", since), moment("--until", until)
    if began is None:
        raise UsageError(f"say from when on: for example `wiretape {command} --since 7d`")
    engine = store(chosen)
    done, skipped, last = Written(), 0, None
    interrupted = False
    try:
        zone = _zone(engine, chosen)
        try:
            for step in work(engine, first_id(began), None if end is None else first_id(end), zone, pricing_of(chosen)):
                done, skipped, last = done + step.written, skipped + step.skipped, step.last
        except KeyboardInterrupt:
            interrupted = True
    finally:
        engine.dispose()
    if output is render.Format.JSON:
        render.print_json(_facts(done, skipped) | {"interrupted": interrupted})
    else:
        _say(done, skipped)
    if interrupted:
        _resume(command, last)
        raise typer.Exit(INTERRUPTED)


def pricing_of(chosen: Settings) -> Pricing:
    """The prices of the configuration, and who answers where."""
    from proxy.cli.values import addresses, own_prices
    from proxy.interpret.price import Address, Pricing
    from proxy.interpret.rates import OwnPrice, OwnPrices

    own = OwnPrices(tuple(OwnPrice(*each) for each in own_prices(chosen)))
    return Pricing(own, {name: Address(*each) for name, each in addresses(chosen).items()})


def _zone(engine: Engine, chosen: Settings) -> tzinfo:
    """The zone of the database's days, and a warning if another is configured."""
    from proxy.cli.values import wanted_zone
    from proxy.store.engine import writing
    from proxy.store.zone import claim_zone, zone_differs, zone_named

    wanted = wanted_zone(chosen)
    with writing(engine) as connection:
        holds = claim_zone(connection, wanted)
    differs = zone_differs(wanted, holds)
    if differs is not None:
        render.note(differs)
    return zone_named(holds)


def _facts(done: Written, skipped: int) -> dict[str, Any]:
    from proxy.store.schema_meaning import SPENT

    before, after = (dict(zip(SPENT, sums, strict=True)) for sums in (done.before, done.after))
    return {"read": done.exchanges, "changed": done.changed, "skipped": skipped, "before": before, "after": after}


def _say(done: Written, skipped: int) -> None:
    facts = _facts(done, skipped)
    before, after = facts["before"], facts["after"]
    tokens = [each["input_tokens"] + each["output_tokens"] for each in (before, after)]
    costs = [Decimal(each["cost_pico"]).scaleb(-12) for each in (before, after)]
    render.say(
        f"{render.count(done.exchanges, 'exchange')} read, {done.changed:,} changed; "
        f"tokens {tokens[0]:,} → {tokens[1]:,}, cost ${costs[0]:,.6f} → ${costs[1]:,.6f}"
    )
    if skipped:
        render.note(f"{render.count(skipped, 'exchange')} left as they are: what it takes is not stored of them")


def _resume(command: str, last: UUID | None) -> None:
    if last is None:
        render.note(f"interrupted before anything was done: run `wiretape {command}` again")
        return
    from proxy.exchange import id_time_us

    reached = render.utc(id_time_us(last))
    render.note(f"interrupted at {reached}: go on with `wiretape {command} --since {reached}`")

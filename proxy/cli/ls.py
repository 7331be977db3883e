"""`ls`: the recorded exchanges, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import money, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.filters import (
    NO_FLAGS,
    BeforeFlag,
    Flags,
    check_search,
    check_upstream,
    filtered,
    filters_of,
    found_id,
    pages,
)

if TYPE_CHECKING:
    from proxy.store.rows import Exchange

_COLUMNS = (
    render.Column("time"),
    render.Column("id"),
    render.Column("upstream", drop=5),
    render.Column("method", drop=10),
    render.Column("target", drop=11, least=10),
    render.Column("status", right=True),
    render.Column("outcome", least=9),
    render.Column("duration", right=True, drop=6),
    render.Column("request", right=True, drop=12),
    render.Column("response", right=True, drop=9),
    render.Column("chunks", right=True, drop=13),
    render.Column("model", drop=1, least=10),
    render.Column("in", right=True, drop=3),
    render.Column("out", right=True, drop=4),
    render.Column("cost", right=True, drop=2),
    render.Column("first token", right=True, drop=7),
    render.Column("finish", drop=8),
)

_SHORT, _LONG = "%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(filtered(ls))


def ls(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    flags: Flags = NO_FLAGS,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    before: BeforeFlag = None,
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """List exchanges, the newest first."""
    door(ctx).say(config, home, database, None)
    chosen = settings(ctx)
    from proxy.cli.show import facts

    filters = filters_of(flags)
    engine = store(chosen)
    try:
        check_upstream(engine, chosen, flags.upstream)
        check_search(engine, chosen, flags.search)
        found = [each for page in pages(engine, filters, limit, found_id(engine, before)) for each in page]
    finally:
        engine.dispose()
    if output is render.Format.JSON:
        render.print_json([facts(each) for each in found])
        return
    if not found:
        render.note("there is no such exchange")
        return
    render.table(_COLUMNS, [_cells(each, exact=not render.on_terminal()) for each in found])
    if len(found) == limit and render.on_terminal():
        render.note(f"older ones: --before {found[-1].id}")


def _cells(exchange: Exchange, *, exact: bool) -> list[str]:
    """The row of an exchange; `exact` is for programs: ISO time, seconds, bytes."""
    began = render.local(exchange.started_us)
    if exact:
        sizes = [str(exchange.request_bytes), str(exchange.response_bytes)]
    else:
        sizes = [render.size(exchange.request_bytes), render.size(exchange.response_bytes)]
    return [
        began.isoformat(timespec="milliseconds") if exact else f"{began:{_SHORT if render.width() < 120 else _LONG}}",
        str(exchange.id),
        exchange.upstream or "-",
        exchange.method or "-",
        exchange.target or "-",
        "-" if exchange.status is None else str(exchange.status),
        "…" if exchange.outcome is None else exchange.outcome.name.lower(),
        _time(exchange.end_us, exact=exact),
        *sizes,
        str(exchange.response_chunks),
        *_meaning(exchange, exact=exact),
    ]


def _time(us: int | None, *, exact: bool) -> str:
    if not exact:
        return render.duration(us)
    return "-" if us is None else f"{us / 1_000_000:.6f}"


def _meaning(exchange: Exchange, *, exact: bool) -> list[str]:
    """Model, tokens, cost, time to the first token, finish reason; the cost as reported, else ours."""
    reported = exchange.cost_reported_pico
    cost = exchange.cost_pico if reported is None else reported
    counts = (exchange.input_tokens, exchange.output_tokens)
    if exact:
        numbers = ["-" if each is None else str(each) for each in counts]
        amount = "-" if cost is None else money.plain_usd(cost)
    else:
        numbers = [money.tokens(each) for each in counts]
        amount = "unpriced" if cost is None and exchange.cost_status == "unpriced" else money.short_usd(cost)
    return [
        exchange.model_served or exchange.model_asked or "-",
        *numbers,
        amount,
        _time(exchange.first_visible_us, exact=exact),
        exchange.finish_reason or "-",
    ]

"""`explain`: the arithmetic of what one exchange cost, line by line."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli import money, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.show import ID_HELP
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.store.meant import Meant
    from proxy.store.rows import Exchange

_COLUMNS = (
    render.Column("what"),
    render.Column("amount", right=True),
    render.Column("rate", right=True),
    render.Column("cost", right=True),
    render.Column("model", drop=1, least=10),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(explain)


def explain(
    ctx: typer.Context,
    exchange: Annotated[str, typer.Argument(metavar="ID", help=ID_HELP)],
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Show how the cost of an exchange comes about, and what the provider says that it is."""
    door(ctx).say(config, home, database, None)
    engine = store(settings(ctx))
    from proxy.store import read
    from proxy.store.engine import reading
    from proxy.store.meant import meant

    try:
        with reading(engine) as connection:
            found = read.get_exchange(connection, read.find_exchange(connection, exchange))
            if found is None:
                raise UsageError(f"the exchange {exchange} was deleted just now")
            means = meant(connection, found.id)
    finally:
        engine.dispose()
    if output is render.Format.JSON:
        render.print_json(_facts(found, means))
    else:
        _print(found, means)


def _lines(means: Meant) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = (means.data.get("cost") or {}).get("lines") or []
    return lines


def _facts(exchange: Exchange, means: Meant) -> dict[str, Any]:
    ours, reported = exchange.cost_pico, exchange.cost_reported_pico
    return {
        "id": str(exchange.id),
        "model": exchange.model_served or exchange.model_asked,
        "usage_state": exchange.usage_state,
        "status": exchange.cost_status,
        "reason": (means.data.get("cost") or {}).get("reason"),
        "lines": _lines(means),
        "cost_pico": ours,
        "cost_usd": None if ours is None else money.plain_usd(ours),
        "reported_pico": reported,
        "reported_usd": None if reported is None else money.plain_usd(reported),
        "price": means.price,
    }


def _print(exchange: Exchange, means: Meant) -> None:
    render.pairs(_about(exchange, means))
    lines = _lines(means)
    if lines:
        rows = [[*_cells(line), line["model"]] for line in lines]
        total = ["total", "", "", money.usd(exchange.cost_pico), ""]
        render.say("")
        render.table(_COLUMNS, [*rows, total] if render.on_terminal() else rows)


def _cells(line: dict[str, Any]) -> list[str]:
    amount = Decimal(line["rate"])
    from proxy.interpret.price import per

    unit = per(line["kind"])
    return [line["kind"].replace("_", " "), f"{line['amount']:,}", f"${amount:f} / {unit}", money.usd(line["pico"])]


def _about(exchange: Exchange, means: Meant) -> list[tuple[str, str]]:
    price = means.price or {}
    reason = (means.data.get("cost") or {}).get("reason")
    source = " ".join(str(price[each]) for each in ("source", "provider", "model") if price.get(each))
    special = [f"{name} {price[name]}" for name in ("tier", "band") if price.get(name)]
    nothing = "nothing is to be paid" if exchange.usage_state == "none" else "it is not interpreted yet"
    status = exchange.cost_status or ("the tokens are not known" if exchange.usage_state == "missing" else nothing)
    ours, reported = exchange.cost_pico, exchange.cost_reported_pico
    said = [
        ("exchange", str(exchange.id)),
        ("model", exchange.model_served or exchange.model_asked),
        ("started", render.utc(exchange.started_us)),
        ("status", f"{status}: {reason}" if reason else status),
        ("by our prices", None if ours is None else money.usd(ours)),
        ("by the provider", None if reported is None else money.usd(reported)),
        ("prices", ", ".join([source, *special]) if source else None),
    ]
    return [(name, value) for name, value in said if value]

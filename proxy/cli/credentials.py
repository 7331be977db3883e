"""`credentials`: the provider keys that clients sent, by fingerprint, with names and what each spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import money, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.spend import sums_of

if TYPE_CHECKING:
    from proxy.store.credentials import Credential

_COLUMNS = (
    render.Column("fingerprint"),
    render.Column("name", least=8),
    render.Column("first", drop=3),
    render.Column("last", drop=2),
    render.Column("requests", right=True),
    render.Column("tokens", right=True, drop=1),
    render.Column("cost", right=True),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Credentials that clients sent: what each spent, and their names.", rich_markup_mode=None)
    group.callback(invoke_without_command=True)(credentials)
    group.command()(name)
    app.add_typer(group, name="credentials")


def credentials(
    ctx: typer.Context,
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """List the credentials that clients sent, the one that spent most first."""
    door(ctx).say(config, home, database, None)
    if ctx.invoked_subcommand is not None:
        return
    engine = store(settings(ctx))
    from proxy.store.credentials import credentials as all_of_them
    from proxy.store.engine import reading

    try:
        with reading(engine) as connection:
            found = all_of_them(connection)
    finally:
        engine.dispose()
    if output is render.Format.JSON:
        render.print_json([_facts(each) for each in found])
    elif not found:
        render.note("no client has sent a credential yet")
    else:
        render.table(_COLUMNS, [_cells(each) for each in found])


def name(
    ctx: typer.Context,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="The fingerprint, or its beginning.")],
    called: Annotated[str, typer.Argument(metavar="NAME", help='What to call it; "" takes its name away.')],
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Name a credential, for `spend`, `ls` and this list."""
    door(ctx).say(config, home, database, None)
    engine = store(settings(ctx))
    from proxy.store.credentials import call
    from proxy.store.engine import writing

    try:
        with writing(engine) as connection:
            found = call(connection, fingerprint, called)
    finally:
        engine.dispose()
    said = "has no name any more" if found.name is None else f"is called {found.name}"
    render.say(render.safe(f"{found.fingerprint} {said}"))


def _facts(credential: Credential) -> dict[str, object]:
    times = {"first": credential.first_us, "last": credential.last_us}
    return {
        "fingerprint": credential.fingerprint,
        "name": credential.name,
        **{at: None if us is None else render.utc(us) for at, us in times.items()},
        **sums_of(credential.spent),
    }


def _cells(credential: Credential) -> list[str]:
    spent, exact = credential.spent, not render.on_terminal()
    cost = spent.known_cost_pico
    shown = ("-" if cost is None else money.plain_usd(cost)) if exact else money.short_usd(cost)
    return [
        credential.fingerprint,
        credential.name or "-",
        *(
            "-" if us is None else f"{render.local(us):%Y-%m-%d %H:%M}"
            for us in (credential.first_us, credential.last_us)
        ),
        str(spent.exchanges) if exact else f"{spent.exchanges:,}",
        str(spent.input_tokens + spent.output_tokens) if exact else f"{spent.input_tokens + spent.output_tokens:,}",
        shown,
    ]

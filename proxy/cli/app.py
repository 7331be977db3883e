"""All commands; each is in a file of its own. `door.py` opens what they share.

What is slow to import is imported inside the commands, so that `--help` and a misspelt option answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from proxy import __version__
from proxy.cli import (
    credentials,
    db,
    delete,
    diff,
    doctor,
    env,
    explain,
    export,
    ls,
    prune,
    reinterpret,
    replay,
    reprice,
    resend,
    roles,
    run,
    show,
    spend,
    upstreams,
)
from proxy.cli.door import ConfigFlag, DatabaseFlag, Door, HomeFlag, UpstreamFlag

app = typer.Typer(
    name="wiretape",
    help="A recording reverse proxy for LLM APIs: every byte to and from the provider, kept and counted.",
    epilog="To begin: `wiretape serve`, then point an SDK's base_url at one of the addresses it prints.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wiretape {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _before(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    upstream: UpstreamFlag = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    ctx.obj = Door()
    ctx.obj.say(config, home, database, upstream)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


_COMMANDS = (
    roles,
    run,
    env,
    upstreams,
    doctor,
    ls,
    show,
    spend,
    explain,
    credentials,
    replay,
    resend,
    diff,
    export,
    reinterpret,
    reprice,
    delete,
    prune,
    db,
)
for _commands in _COMMANDS:
    _commands.register(app)

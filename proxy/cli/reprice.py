"""`reprice`: what stored exchanges cost, computed again with the prices of now."""

from __future__ import annotations

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings
from proxy.cli.reinterpret import again
from proxy.cli.times import SinceFlag, UntilFlag


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reprice)


def reprice(
    ctx: typer.Context,
    since: SinceFlag = None,
    until: UntilFlag = None,
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Price recorded exchanges again, with this version's prices and yours. Can be interrupted, and run again."""
    door(ctx).say(config, home, database, None)
    from proxy.ingest.again import reprice as work

    again(settings(ctx), "reprice", since, until, output, work)

"""The commands that run the roles: `serve` starts and watches them all; `forward`, `ingest` and `console` are one each.

What a role is told: `values.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy import log
from proxy.cli import process
from proxy.cli.door import (
    ConfigFlag,
    DatabaseFlag,
    HomeFlag,
    HostFlag,
    PortFlag,
    UpstreamFlag,
    check_database_file,
    check_installation,
    door,
    settings,
)
from proxy.cli.values import console_values, forward_values, ingest_values, playback_values

if TYPE_CHECKING:
    from proxy.config import Settings

WorkersFlag = Annotated[int | None, typer.Option("--workers", help="Processes that serve the data port.")]
AnonymousFlag = Annotated[
    bool | None, typer.Option("--allow-anonymous", help="Let the data port listen beyond this machine.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (serve, forward, ingest, console, playback):
        app.command()(command)


def serve(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    upstream: UpstreamFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    console_port: Annotated[int | None, typer.Option("--console-port", help="Port of the console.")] = None,
    workers: WorkersFlag = None,
    allow_anonymous: AnonymousFlag = None,
    check: Annotated[bool, typer.Option("--check", hidden=True)] = False,
) -> None:
    """Record: start and watch everything, until Ctrl-C."""
    here = door(ctx)
    here.say(config, home, database, upstream)
    here.set("forward", host=host, port=port, workers=workers, allow_anonymous=allow_anonymous)
    here.set("console", port=console_port)
    chosen = _open(ctx, "serve")
    from proxy.cli import handover, start

    if check:
        start.check(chosen, handover.known_addresses(os.environ))
        typer.echo(chosen.home)
        return
    raise typer.Exit(start.everything(chosen, handover.taken(os.environ)))


def forward(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    upstream: UpstreamFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    workers: WorkersFlag = None,
    allow_anonymous: AnonymousFlag = None,
) -> None:
    """The data port alone; needs no database."""
    here = door(ctx)
    here.say(config, home, None, upstream)
    here.set("forward", host=host, port=port, workers=workers, allow_anonymous=allow_anonymous)
    chosen = _open(ctx, "forward")
    from proxy.cli import ports, start

    listener = ports.listen_data(chosen)
    if chosen.forward.workers > 1:
        raise typer.Exit(start.workers(chosen, listener))
    start.mention_proxies()
    start.mention_keys(chosen)
    port = listener.getsockname()[1]
    own = process.Own(listener, on_serving=lambda: start.show(start.base_urls(chosen, port)))
    process.run("forward", forward_values(chosen), own)


def ingest(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """The background writer alone; stores what journals hold."""
    door(ctx).say(config, home, database, None)
    chosen = _open(ctx, "ingest")
    check_database_file(chosen.database)
    process.run("ingest", ingest_values(chosen, create=True), process.Own())


def console(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
) -> None:
    """The console alone: health and metrics."""
    here = door(ctx)
    here.say(config, home, None, None)
    here.set("console", host=host, port=port)
    chosen = _open(ctx, "console")
    from proxy.cli import ports, start

    listener = ports.listen_console(chosen)
    url = start.console_url(chosen, listener.getsockname()[1])
    own = process.Own(listener, on_serving=lambda: start.show([f"console  {url}"]))
    process.run("console", console_values(chosen), own)


def playback(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    upstream: UpstreamFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    fault: Annotated[
        str | None, typer.Option("--fault", metavar="WORDS", help="Play with a fault, such as 'status=529 times=1'.")
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Ask the upstreams for what was not recorded.")] = False,
    lifeline: Annotated[Path | None, typer.Option("--lifeline", hidden=True)] = None,
) -> None:
    """Playback alone: what was recorded answers in the place of its upstreams."""
    here = door(ctx)
    here.say(config, home, database, upstream)
    here.set("playback", host=host, port=port, fault=fault)
    chosen = _open(ctx, "playback")
    check_database_file(chosen.database)
    from proxy.cli import ports, start

    if record:
        raise typer.Exit(start.recording_playback(chosen, lifeline))
    values = playback_values(chosen)
    listener = ports.listen_playback(chosen)
    said = start.playback_urls(chosen, listener)
    held = None if lifeline is None else start.lifeline_of(lifeline)
    process.run("playback", values, process.Own(listener, held, lambda: start.show(said)))


def _open(ctx: typer.Context, role: str) -> Settings:
    """The settings of a role, its home made and its log open."""
    check_installation()
    chosen = settings(ctx)
    from proxy.config import prepare_home

    prepare_home(chosen.home)
    log.set_up(role)
    return chosen

"""`export curl` and `export python`: a recorded request as something to run, that sends it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, UpstreamFlag, door, settings, store
from proxy.cli.show import ID_HELP
from proxy.cli.upstreams import data_port
from proxy.errors import UsageError
from proxy.presets import BUILT_IN, key_variables

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.config import Settings
    from proxy.replay.requested import Requested

IdArgument = Annotated[str, typer.Argument(metavar="ID", help=ID_HELP)]
ThroughFlag = Annotated[bool, typer.Option("--through", help="To the data port, to be recorded again.")]


def curl(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    exchange: IdArgument,
    through: ThroughFlag = False,
    output: render.OutputFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    upstream: UpstreamFlag = None,
) -> None:
    """Write a request as a command of curl."""
    door(ctx).say(config, home, database, upstream)
    from proxy.replay.curl import curl_command

    _write(ctx, exchange, curl_command, output, through=through)


def python(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    exchange: IdArgument,
    through: ThroughFlag = False,
    output: render.OutputFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    upstream: UpstreamFlag = None,
) -> None:
    """Write a request as a Python script that uses httpx."""
    door(ctx).say(config, home, database, upstream)
    from proxy.replay.script import python_script

    _write(ctx, exchange, python_script, output, through=through)


def _write(
    ctx: typer.Context, given: str, form: Callable[[Requested], str], output: Path | None, *, through: bool
) -> None:
    chosen = settings(ctx)
    engine = store(chosen)
    from proxy.replay.requested import request_of, requested

    try:
        tape = request_of(engine, given)
    finally:
        engine.dispose()
    with tape:
        name = tape.exchange.upstream or ""
        key = key_variables(name)[0]
        address = _address(chosen, name, str(tape.exchange.id), through=through)
        request = requested(tape, address, key, through=through)
    with render.body_output(output) as out:
        out.write(form(request).encode())
    for note in request.notes:
        render.note(note)
    if request.variables:
        render.note(f"credentials are not recorded: set {', '.join(request.variables)}")
    if not tape.whole:
        raise typer.Exit(1)


def _address(chosen: Settings, upstream: str, exchange: str, *, through: bool) -> str:
    """Where the request goes. Raises UsageError where that is not known."""
    known = chosen.upstreams.get(upstream)
    if known is None:
        raise UsageError(
            f"the upstream {upstream!r} of {exchange} is not configured: give its address by --upstream NAME=URL"
        )
    if through:
        return data_port(chosen).base_url(upstream)
    if known.url == BUILT_IN:
        raise UsageError(f"the upstream {upstream!r} of {exchange} is part of wiretape: use --through")
    return known.url

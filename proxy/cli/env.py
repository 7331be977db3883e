"""`env`: the variables that point SDKs and tools at the data port, for a shell to take in."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from proxy import presets
from proxy.cli import render
from proxy.cli.door import ConfigFlag, HomeFlag, UpstreamFlag, door, settings
from proxy.errors import UsageError


class Shell(StrEnum):
    """For whom the lines are written."""

    SHELL = "shell"
    FISH = "fish"
    POWERSHELL = "powershell"
    DOTENV = "dotenv"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(env)


def env(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[UPSTREAM...]", help="Only the variables of these upstreams.")
    ] = None,
    output: Annotated[Shell, typer.Option("--format", help="For whom the lines are.")] = Shell.SHELL,
    upstream: UpstreamFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
) -> None:
    """Print the variables that point SDKs and tools here: eval "$(wiretape env)"."""
    door(ctx).say(config, home, None, upstream)
    chosen = settings(ctx)
    from proxy.cli import variables
    from proxy.cli.values import pointed_here

    wanted = names or pointed_here(chosen)
    unknown = next((name for name in wanted if name not in chosen.upstreams), None)
    if unknown is not None:
        raise UsageError(f"there is no upstream {unknown!r}: there are {', '.join(chosen.upstreams)}")
    here = chosen.forward
    address = presets.address(here.host if here.tls else "127.0.0.1", here.port, tls=here.tls)
    found = variables.values(address, wanted, {})
    if output is Shell.JSON:
        render.print_json(found)
        return
    lines = _lines(found, output)
    hints = {name: f"{address}/{name}" for name in chosen.upstreams}
    if names is None:
        lines += [f"# {tool}: {text.format(**hints)}" for tool, text in variables.HINTS]
    typer.echo("\n".join(lines))


def _lines(found: Mapping[str, str], output: Shell) -> list[str]:
    from proxy.cli.variables import reader

    lines = []
    for name, value in found.items():
        if output is Shell.FISH:
            line = f"set -gx {name} {shlex.quote(value)}"
        elif output is Shell.POWERSHELL:
            quoted = value.replace("'", "''")
            line = f"$env:{name} = '{quoted}'"
        elif output is Shell.DOTENV:
            lines += [f"# {reader(name)}", f"{name}={value}"]
            continue
        else:
            line = f"export {name}={shlex.quote(value)}"
        lines.append(f"{line}  # {reader(name)}")
    return lines

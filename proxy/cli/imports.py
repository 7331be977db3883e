"""`import jsonl` and `import har`: exchanges that were written by another wiretape, or by a browser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import progress, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings
from proxy.cli.intake import Intake
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.replay.shelf import Shelved


def register(importing: typer.Typer) -> None:
    """Add the commands to their group."""
    for command in (jsonl,):
        importing.command()(command)


def jsonl(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export jsonl` wrote.")],
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Put exchanges from JSON lines into the database; those that are there already stay as they are."""
    door(ctx).say(config, home, database, None)
    from proxy.replay.lines import BadLine, exchanges

    running = 0

    def ended(found: Iterable[Shelved | None]) -> Iterator[Shelved]:
        nonlocal running
        for each in found:
            if each is None:
                running += 1
            else:
                yield each

    with progress.opened(file) as source, Intake(settings(ctx)) as intake:
        try:
            intake.take(ended(exchanges(source)))
        except BadLine as error:
            raise UsageError(f"{file}, {error}") from None
    render.say(intake.said())
    if running:
        render.note(f"left out {render.count(running, 'exchange')} that were still running when they were written")

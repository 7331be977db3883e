"""`export cassette` and `import cassette`: exchanges as a text file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import progress, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings
from proxy.cli.filters import NO_FLAGS, BeforeFlag, Flags, filtered
from proxy.cli.intake import Intake
from proxy.cli.selection import Chosen, IdsArgument, LimitFlag, chosen_ones, tracked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.replay.cassette import Track
    from proxy.replay.match import Rules


def register(export: typer.Typer, importing: typer.Typer) -> None:
    """Add the commands to their groups."""
    export.command("cassette")(filtered(write))
    importing.command("cassette")(read)


def write(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    exchanges: IdsArgument = None,
    flags: Flags = NO_FLAGS,
    limit: LimitFlag = None,
    before: BeforeFlag = None,
    output: render.OutputFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Write exchanges into one text file, to be reviewed, kept, and played again."""
    door(ctx).say(config, home, database, None)
    from proxy.cli.values import rules_of
    from proxy.replay.match import Rules

    with chosen_ones(ctx, exchanges, flags, limit, before) as chosen:
        left_out = _write(chosen, Rules(**rules_of(settings(ctx))), output)
    if left_out:
        render.note(
            f"left out {render.count(left_out, 'exchange')} that cannot be played: still running, recorded without "
            "bodies, or left by the client"
        )


def _write(chosen: Chosen, rules: Rules, output: Path | None) -> int:
    """Write the cassette; how many exchanges were left out."""
    from proxy.replay.cassette import lines
    from proxy.replay.shelf import exported

    left_out = 0

    def tracks() -> Iterator[Track]:
        nonlocal left_out
        for track in exported(chosen.engine, tracked(chosen, output)):
            if track is None:
                left_out += 1
            else:
                yield track

    with render.body_output(output) as out:
        for line in lines(tracks(), rules):
            out.write(f"{line}\n".encode())
    return left_out


def read(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A cassette.")],
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Put the exchanges of a cassette into the database; those that are there already stay as they are."""
    door(ctx).say(config, home, database, None)
    from proxy.replay.cassette_reader import read_file
    from proxy.replay.match import NO_RULES
    from proxy.replay.shelf import shelved

    found, rules = read_file(file)
    with Intake(settings(ctx)) as intake:
        intake.take(progress.counted(map(shelved, found), len(found)))
    if rules != NO_RULES:
        render.note("its rules are not kept in a database: what does not count is said under [playback]")
    if any(track.fault is not None for track in found):
        render.note("its faults are not kept in a database, which has only what was recorded")
    render.say(intake.said())

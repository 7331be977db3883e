"""`export`: recordings for other programs. Here `sse`; more in export_*.py and cassettes.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import cassettes, export_code, export_many, export_parquet, imports, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.filters import filtered
from proxy.cli.show import ID_HELP
from proxy.errors import UsageError
from proxy.exchange import Side

if TYPE_CHECKING:
    from proxy.replay import Tape


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Write recordings for other programs.", rich_markup_mode=None)
    many = (export_many.jsonl, export_many.openai_jsonl, export_many.har)
    commands: list[Callable[..., None]] = [sse, *map(filtered, many), filtered(export_parquet.parquet)]
    for command in (*commands, export_code.curl, export_code.python):
        group.command()(command)
    importing = typer.Typer(help="Take in what other programs, or another wiretape, wrote.", rich_markup_mode=None)
    cassettes.register(group, importing)
    imports.register(importing)
    app.add_typer(group, name="export")
    app.add_typer(importing, name="import")


def sse(
    ctx: typer.Context,
    exchanges: Annotated[list[str], typer.Argument(metavar="ID...", help=ID_HELP)],
    output: render.OutputFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Write the event streams of responses, with their content-encoding undone."""
    door(ctx).say(config, home, database, None)
    engine = store(settings(ctx))
    from proxy.replay.captured import capture

    with render.spool() as spool:
        try:
            tapes = [capture(engine, given, Side.RESPONSE, spool) for given in exchanges]
        finally:
            engine.dispose()
        for tape in tapes:
            media = tape.header("content-type").partition(";")[0].strip().lower()
            if media not in ("", EVENT_STREAM):
                raise UsageError(
                    f"the response of {tape.exchange.id} is {media}, no event stream: use `wiretape export jsonl` or "
                    "`wiretape replay --speed instant`"
                )
        with render.body_output(output) as out:
            problems = list(_streams(tapes, out))
    for tape, problem in zip(tapes, problems, strict=True):
        for said in (tape.note, f"the response of {tape.exchange.id}: {problem}" if problem else ""):
            if said:
                render.note(said)
    if any(problems) or not all(tape.whole for tape in tapes):
        raise typer.Exit(1)


EVENT_STREAM = "text/event-stream"
_BLANK_LINE = (b"\n\n", b"\r\n\r\n", b"\r\r")


def _streams(tapes: Sequence[Tape], out: render.BodyWriter) -> Iterator[str | None]:
    """Write the streams one after another; what is wrong with the coding of each."""
    from proxy.interpret.body import decoder

    for number, tape in enumerate(tapes):
        end = _BLANK_LINE[0]
        decoding = decoder(tape.header("content-encoding"))
        for _, data in tape:
            for piece in decoding.steps(data):
                out.write(piece)
                end = (end + piece)[-4:]
        rest = decoding.finish()
        out.write(rest)
        # An event that was cut off must not run into the next stream's first.
        if number + 1 < len(tapes) and not (end + rest).endswith(_BLANK_LINE):
            out.write(_BLANK_LINE[0])
        yield decoding.problem

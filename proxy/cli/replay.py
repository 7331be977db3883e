"""`replay`: one side's bytes as they came, in their own time; or what a person would have read of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.show import ID_HELP
from proxy.errors import UsageError
from proxy.exchange import Side

if TYPE_CHECKING:
    from proxy.interpret.spoken import Piece
    from proxy.replay import Chunk, Tape
    from proxy.replay.captured import Item


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    exchange: Annotated[str, typer.Argument(metavar="ID", help=ID_HELP)],
    speed: Annotated[
        str, typer.Option("--speed", metavar="N|instant", help="So many times as fast; `instant`: without waiting.")
    ] = "1",
    from_chunk: Annotated[
        int, typer.Option("--from-chunk", metavar="N", min=0, help="Begin with this chunk; the first is 0.")
    ] = 0,
    step: Annotated[bool, typer.Option("--step", help="Wait for Enter before each chunk; q ends it.")] = False,
    decoded: Annotated[
        bool, typer.Option("--decoded", help="What can be read of it, with the time of each line in the margin.")
    ] = False,
    request: Annotated[bool, typer.Option("--request", help="The request's body, not the response's.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also to a terminal: unchanged bytes, which it may obey.")] = False,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Print a response's bytes exactly as they came, with their own timing."""
    door(ctx).say(config, home, database, None)
    factor = None if step else _factor(speed)
    if decoded and raw:
        raise UsageError("--decoded shows text and --raw bytes as they are: give one of them")
    engine = store(settings(ctx))
    from proxy.replay.captured import capture
    from proxy.replay.readable import readable

    with ExitStack() as held:
        try:
            tape = held.enter_context(capture(engine, exchange, Side.REQUEST if request else Side.RESPONSE))
            _check_begin(tape, from_chunk)
            pieces = readable(engine, tape) if decoded else ()
        finally:
            engine.dispose()
        if decoded:
            _read(pieces, factor, tape.time_of(from_chunk), step=step)
        else:
            _play(tape, factor, from_chunk, step=step, raw=raw)
    if tape.note:
        render.note(tape.note)
    if not tape.whole:
        raise typer.Exit(1)


def _factor(speed: str) -> float | None:
    """How many times as fast; None: without waiting. Raises UsageError."""
    if speed == "instant":
        return None
    try:
        factor = float(speed.removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise UsageError(f"--speed {speed!r} is none: use a number above 0 such as 2 or 0.5, or instant")
    return factor


def _check_begin(tape: Tape, from_chunk: int) -> None:
    if from_chunk and from_chunk >= len(tape):
        last = f"from 0 to {len(tape) - 1}" if len(tape) else "without any chunk"
        raise UsageError(f"--from-chunk {from_chunk} is beyond the end: {tape.exchange.id} has chunks {last}")


def _play(tape: Tape, factor: float | None, from_chunk: int, *, step: bool, raw: bool) -> None:
    chunks: Iterator[Chunk] = tape.play(factor, from_chunk)
    with render.body_output(raw=raw) as out:
        for chunk in _stepped(chunks, from_chunk) if step else chunks:
            out.write(chunk.data)


def _read(pieces: Iterable[Piece], factor: float | None, since_us: int, *, step: bool) -> None:
    from proxy.cli.margin import Margin
    from proxy.replay.captured import pace

    played = pace((piece for piece in pieces if piece.at_us >= since_us), factor, since_us)
    margin = Margin()
    for piece in _stepped(played, 0) if step else played:
        margin.write(piece)
    margin.close()


def _stepped(items: Iterator[Item], first: int) -> Iterator[Item]:
    """One item for each line of standard input, until it ends or says q. What is asked goes to standard error."""
    for number, item in enumerate(items, first):
        print(f"[{number}  {item.at_us / 1_000_000:.3f} s] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - a prompt has no line of its own
        answer = sys.stdin.readline()
        if not answer or answer.strip().lower() in {"q", "quit"}:
            if not answer:
                print(file=sys.stderr)  # noqa: T201 - ends the prompt's line
            return
        yield item

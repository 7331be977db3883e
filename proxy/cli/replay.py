"""`replay`: one side's bytes as they came, in their own time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.show import ID_HELP
from proxy.errors import UsageError, WiretapeError
from proxy.exchange import Side

if TYPE_CHECKING:
    from proxy.store import Engine
    from proxy.store.rows import Exchange, Pairs


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    exchange: Annotated[str, typer.Argument(metavar="ID", help=ID_HELP)],
    speed: Annotated[
        str, typer.Option("--speed", metavar="N|instant", help="So many times as fast; `instant`: without waiting.")
    ] = "1",
    request: Annotated[bool, typer.Option("--request", help="The request's body, not the response's.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also to a terminal: unchanged bytes, which it may obey.")] = False,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Print a response's bytes exactly as they came, with their own timing."""
    door(ctx).say(config, home, database, None)
    factor = _factor(speed)
    engine = store(settings(ctx))
    side = Side.REQUEST if request else Side.RESPONSE
    with render.spool() as spool:
        try:
            tape = body(engine, exchange, side, spool)
        finally:
            engine.dispose()
        spool.seek(0)
        began = time.monotonic()
        with render.body_output(raw=raw) as out:
            for at_us, data in tape.chunks(spool):
                wait = 0.0 if factor is None else began + at_us / 1_000_000 / factor - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                out.write(data)
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


# --- a body out of the store ---


@dataclass(frozen=True, slots=True)
class Tape:
    """One side of an exchange: when each chunk came (microseconds since the exchange began) and its size.

    `whole`: as far as it crossed the wire, all of it is there; `note`: what is to be known of it otherwise.
    """

    exchange: Exchange
    headers: Pairs
    places: list[tuple[int, int]]
    whole: bool
    note: str

    def header(self, name: str) -> str:
        """The values of a header, joined with commas; empty if there is none."""
        return ", ".join(value for each, value in self.headers if each.lower() == name)

    def chunks(self, spool: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        """Read them, in the order in which they were put into the spool."""
        for at_us, size in self.places:
            yield at_us, spool.read(size)


def body(engine: Engine, given: str, side: Side, spool: IO[bytes]) -> Tape:
    """Put the recorded body of one side into the spool, so that the database is not held while somebody reads slowly.

    Raises UsageError for an exchange that is not there, WiretapeError where nothing of the body was recorded.
    """
    from proxy.store import read
    from proxy.store.engine import reading

    places: list[tuple[int, int]] = []
    with reading(engine) as connection:
        exchange = read.get_exchange(connection, read.find_exchange(connection, given))
        if exchange is None:
            raise UsageError(f"the exchange {given} was deleted just now")
        for chunk in read.chunks(connection, exchange.id, side):
            spool.write(chunk.data)
            places.append((chunk.at_us, len(chunk.data)))
        lost = sum(gap.bytes for gap in read.gaps(connection, exchange.id) if gap.side == side)
        # The last one of a response is the one that is not interim.
        heads = [head for head in read.headers(connection, exchange.id) if head.side == side]
    crossed = exchange.request_bytes if side is Side.REQUEST else exchange.response_bytes
    if not places:
        _refuse_empty(exchange, side, crossed + lost, answered=bool(heads))
    headers = heads[-1].headers if heads else ()
    return Tape(exchange, headers, places, not lost and not exchange.lost_records, _note(exchange, side, lost))


def _refuse_empty(exchange: Exchange, side: Side, crossed: int, *, answered: bool) -> None:
    """Raise if the body is not there, rather than empty."""
    name = side.name.lower()
    if side is Side.RESPONSE and not answered:
        yet = " yet" if exchange.outcome is None else ""
        raise WiretapeError(
            f"{exchange.id} has no response of the upstream{yet}: `wiretape show {exchange.id}` says why"
        )
    if crossed or (exchange.record and exchange.outcome is None):
        raise WiretapeError(
            f"the {name} body of {exchange.id} was not recorded: only exchanges recorded with bodies can be replayed"
        )


def _note(exchange: Exchange, side: Side, lost: int) -> str:
    name = side.name.lower()
    said = []
    if lost:
        said.append(f"{render.count(lost, 'byte')} of the {name} body were not recorded")
    if exchange.lost_records:
        said.append(f"{render.count(exchange.lost_records, 'record')} of the exchange could not be read")
    if exchange.masked:
        said.append("keys in its bodies are masked")
    if exchange.outcome is None:
        said.append("it is still running")
    return f"{exchange.id}: {'; '.join(said)}" if said else ""

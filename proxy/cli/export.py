"""`export`: response streams without their content-encoding, and whole exchanges as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.filters import (
    BeforeFlag,
    CredentialFlag,
    ErrorsFlag,
    Flags,
    MinCostFlag,
    ModelFlag,
    OfUpstreamFlag,
    OutcomeFlag,
    SearchFlag,
    SessionFlag,
    StatusFlag,
    TagFlag,
    check_search,
    check_upstream,
    filters_of,
    found_id,
    pages,
)
from proxy.cli.show import ID_HELP, write_json
from proxy.cli.times import SinceFlag, UntilFlag
from proxy.errors import UsageError
from proxy.exchange import Side

if TYPE_CHECKING:
    from proxy.replay import Tape
    from proxy.store import Engine
    from proxy.store.read import Filters


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Write recordings for other programs.", rich_markup_mode=None)
    for command in (sse, jsonl):
        group.command()(command)
    app.add_typer(group, name="export")


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


def jsonl(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    exchanges: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help=ID_HELP)] = None,
    since: SinceFlag = None,
    until: UntilFlag = None,
    upstream: OfUpstreamFlag = None,
    status: StatusFlag = None,
    outcome: OutcomeFlag = None,
    tag: TagFlag = None,
    session: SessionFlag = None,
    model: ModelFlag = None,
    credential: CredentialFlag = None,
    search: SearchFlag = None,
    min_cost: MinCostFlag = None,
    errors: ErrorsFlag = False,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="The newest so many.")] = None,
    before: BeforeFlag = None,
    output: render.OutputFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Write exchanges with all that `show` knows, one JSON object on each line, the oldest first."""
    door(ctx).say(config, home, database, None)
    chosen = settings(ctx)
    flags = Flags(since, until, upstream, status, outcome, tag, session, model, credential, search, min_cost, errors)
    filters = filters_of(flags)
    if exchanges and (flags.narrow or limit is not None or before is not None):
        raise UsageError("export takes either ids or filters, not both")
    engine = store(chosen)
    try:
        check_upstream(engine, chosen, upstream)
        check_search(engine, chosen, search)
        if exchanges:
            named = (found_id(engine, each) for each in exchanges)
            ids: Iterator[UUID] = iter(sorted({each for each in named if each is not None}))
        else:
            ids = _oldest_first(engine, filters, limit, found_id(engine, before))
        _write_lines(engine, ids, output)
    finally:
        engine.dispose()


def _oldest_first(engine: Engine, filters: Filters, limit: int | None, before: UUID | None) -> Iterator[UUID]:
    """The exchanges that pass, as of now. Notes where the pages are and reads them again, the last one first."""
    from proxy.store.engine import reading
    from proxy.store.read import list_exchanges

    starts = [(page[0].id, len(page)) for page in pages(engine, filters, limit, before)]
    passed = UUID(int=0)
    for newest, size in reversed(starts):
        with reading(engine) as connection:
            page = list_exchanges(connection, filters, size, UUID(int=newest.int + 1))
        # Where something was deleted meanwhile the page reaches into the one that was written before.
        for exchange in reversed(page):
            if exchange.id > passed:
                passed = exchange.id
                yield passed


def _write_lines(engine: Engine, ids: Iterator[UUID], output: Path | None) -> None:
    from proxy.store import read
    from proxy.store.engine import reading

    with render.body_output(output) as out:
        for each in ids:
            with render.spool() as spool:
                with reading(engine) as connection:
                    exchange = read.get_exchange(connection, each)
                    if exchange is not None:
                        write_json(spool, connection, exchange)
                render.pour(spool, out)

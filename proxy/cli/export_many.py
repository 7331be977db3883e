"""`export` of many exchanges, named or filtered: all of them as JSON lines, their chats, or an HTTP Archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door
from proxy.cli.filters import NO_FLAGS, BeforeFlag, Flags
from proxy.cli.selection import Chosen, IdsArgument, LimitFlag, chosen_ones, tracked
from proxy.cli.show import write_json

if TYPE_CHECKING:
    from proxy.replay.chat import Skipped


def jsonl(  # noqa: PLR0913, PLR0917 - a flag is an argument
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
    """Write exchanges with all that `show` knows of them anywhere, one JSON object on each line, the oldest first."""
    door(ctx).say(config, home, database, None)
    with chosen_ones(ctx, exchanges, flags, limit, before) as chosen, render.body_output(output) as out:
        _write_lines(chosen, tracked(chosen, output), out)


def openai_jsonl(  # noqa: PLR0913, PLR0917 - a flag is an argument
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
    """Write chats in the form that OpenAI's fine-tuning takes, one on each line, the oldest first."""
    door(ctx).say(config, home, database, None)
    with chosen_ones(ctx, exchanges, flags, limit, before) as chosen, render.body_output(output) as out:
        skipped = _write_chats(chosen, tracked(chosen, output), out)
    for why, number in skipped.items():
        render.note(f"{render.count(number, 'exchange')} skipped: {why}")


def har(  # noqa: PLR0913, PLR0917 - a flag is an argument
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
    """Write exchanges as an HTTP Archive, which the developer tools of browsers open, the oldest first."""
    door(ctx).say(config, home, database, None)
    with chosen_ones(ctx, exchanges, flags, limit, before) as chosen, render.body_output(output) as out:
        _write_archive(chosen, tracked(chosen, output), out)


def _write_lines(chosen: Chosen, ids: Iterator[UUID], out: render.BodyWriter) -> None:
    from proxy.store import read
    from proxy.store.engine import reading

    for each in ids:
        with render.spool() as spool:
            with reading(chosen.engine) as connection:
                exchange = read.get_exchange(connection, each)
                if exchange is not None:
                    write_json(spool, connection, exchange, movable=True)
            render.pour(spool, out)


def _write_chats(chosen: Chosen, ids: Iterator[UUID], out: render.BodyWriter) -> Counter[Skipped]:
    """How many were skipped, and why."""
    from proxy.replay.chat import Skipped, chat
    from proxy.store.engine import reading
    from proxy.store.unread import recorded

    skipped: Counter[Skipped] = Counter()
    for each in ids:
        with reading(chosen.engine) as connection:
            found = [chat(exchange) for exchange in recorded(connection, [each])]
        for line in found:
            if isinstance(line, Skipped):
                skipped[line] += 1
            else:
                out.write(render.json_bytes(line) + b"\n")
    return skipped


def _write_archive(chosen: Chosen, ids: Iterator[UUID], out: render.BodyWriter) -> None:
    from proxy.replay import har as archive

    addresses = {name: upstream.url for name, upstream in chosen.settings.upstreams.items()}
    out.write(archive.begin(render.json_bytes))
    between = b""
    for each in ids:
        found = archive.entry(chosen.engine, each)
        if found is None:  # deleted meanwhile
            continue
        with found, render.spool() as spool:  # it is written in small pieces, and each would be one of the output's
            spool.write(between + b"\n")
            found.write(spool, render.json_bytes, addresses)
            render.pour(spool, out)
        between = b","
    out.write(b"\n" + archive.END)

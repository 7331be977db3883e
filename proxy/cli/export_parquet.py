"""`export parquet`: exchanges as a table for analysis, in one file or one for each day."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import progress, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door
from proxy.cli.filters import NO_FLAGS, BeforeFlag, Flags
from proxy.cli.selection import LimitFlag, chosen_ones
from proxy.errors import UsageError
from proxy.exchange import id_time_us

if TYPE_CHECKING:
    from proxy.replay.parquet import Rows
    from proxy.store.rows import Exchange

_ELSEWHERE = "name another place"


def parquet(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A file; or a folder, for a file of each day.")],
    flags: Flags = NO_FLAGS,
    limit: LimitFlag = None,
    before: BeforeFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Write exchanges as a Parquet table, a row each, without their bodies, the oldest first."""
    door(ctx).say(config, home, database, None)
    try:
        from proxy.replay import parquet as _needed  # noqa: F401 - whether it is there is told before all else
    except ModuleNotFoundError:
        raise UsageError("a Parquet file needs pyarrow: run `pip install 'wiretape[parquet]'`") from None
    with chosen_ones(ctx, None, flags, limit, before) as chosen:
        found = progress.counted(chosen.exchanges, chosen.total)
        if target.is_dir():
            _write_days(target, found)
        else:
            with ExitStack() as stack:
                rows = _opened(stack, target)
                for exchange in found:
                    rows.add(exchange)


def _write_days(folder: Path, found: Iterable[Exchange]) -> None:
    """A file for each day (UTC) of the exchanges' ids, which come in their order; a day's file is written anew."""
    day, rows = "", None
    with ExitStack() as stack:
        for exchange in found:
            begun = render.utc(id_time_us(exchange.id))[:10]
            if rows is None or begun != day:
                stack.close()
                day, rows = begun, _opened(stack, folder / f"exchanges-{begun}.parquet")
            rows.add(exchange)


def _opened(stack: ExitStack, path: Path) -> Rows:
    from proxy.replay.parquet import Rows

    return stack.enter_context(Rows(stack.enter_context(render.private_file(path, _ELSEWHERE))))

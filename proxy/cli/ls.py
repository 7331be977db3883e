"""`ls`: the recorded exchanges, the newest first; and the filters that `export` and `delete` take too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.errors import UsageError
from proxy.exchange import Outcome

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.store import Engine
    from proxy.store.read import Filters
    from proxy.store.rows import Exchange

PAGE = 500
"""Exchanges that are read at once; between two pages the database is free to tidy up."""

SinceFlag = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help='From this time on: "2h" or "7d" ago, or ISO, local.')
]
UntilFlag = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before this time.")]
OfUpstreamFlag = Annotated[str | None, typer.Option("--upstream", metavar="NAME", help="Of this upstream.")]
StatusFlag = Annotated[str | None, typer.Option("--status", metavar="CODE", help="With this HTTP status: 404, or 4xx.")]
OutcomeFlag = Annotated[
    str | None, typer.Option("--outcome", metavar="NAME", help="With this outcome; `open`: still running.")
]
TagFlag = Annotated[str | None, typer.Option("--tag", metavar="NAME=VALUE", help="With this tag; NAME: of any value.")]
SessionFlag = Annotated[str | None, typer.Option("--session", metavar="NAME", help="Of this session.")]
BeforeFlag = Annotated[str | None, typer.Option("--before", metavar="ID", help="Older than this one: the next page.")]

_COLUMNS = (
    render.Column("time"),
    render.Column("id"),
    render.Column("upstream", drop=1),
    render.Column("method", drop=4),
    render.Column("target", least=10),
    render.Column("status", right=True),
    render.Column("outcome", least=9),
    render.Column("duration", right=True, drop=2),
    render.Column("request", right=True, drop=5),
    render.Column("response", right=True, drop=3),
    render.Column("chunks", right=True, drop=6),
)

_SHORT, _LONG = "%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ls)


def ls(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    since: SinceFlag = None,
    until: UntilFlag = None,
    upstream: OfUpstreamFlag = None,
    status: StatusFlag = None,
    outcome: OutcomeFlag = None,
    tag: TagFlag = None,
    session: SessionFlag = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    before: BeforeFlag = None,
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """List exchanges, the newest first."""
    door(ctx).say(config, home, database, None)
    chosen = settings(ctx)
    from proxy.cli.show import facts

    filters = filters_of(since, until, upstream, status, outcome, tag, session)
    engine = store(chosen)
    try:
        check_upstream(engine, chosen, upstream)
        found = [each for page in pages(engine, filters, limit, found_id(engine, before)) for each in page]
    finally:
        engine.dispose()
    if output is render.Format.JSON:
        render.print_json([facts(each) for each in found])
        return
    if not found:
        render.note("there is no such exchange")
        return
    render.table(_COLUMNS, [_cells(each, exact=not render.on_terminal()) for each in found])
    if len(found) == limit and render.on_terminal():
        render.note(f"older ones: --before {found[-1].id}")


def _cells(exchange: Exchange, *, exact: bool) -> list[str]:
    """The row of an exchange; `exact` is for programs: ISO time, seconds, bytes."""
    began = render.local(exchange.started_us)
    if exact:
        took = "-" if exchange.end_us is None else f"{exchange.end_us / 1_000_000:.6f}"
        sizes = [str(exchange.request_bytes), str(exchange.response_bytes)]
    else:
        took = render.duration(exchange.end_us)
        sizes = [render.size(exchange.request_bytes), render.size(exchange.response_bytes)]
    return [
        began.isoformat(timespec="milliseconds") if exact else f"{began:{_SHORT if render.width() < 120 else _LONG}}",
        str(exchange.id),
        exchange.upstream or "-",
        exchange.method or "-",
        exchange.target or "-",
        "-" if exchange.status is None else str(exchange.status),
        "…" if exchange.outcome is None else exchange.outcome.name.lower(),
        took,
        *sizes,
        str(exchange.response_chunks),
    ]


# --- filters ---


def filters_of(
    since: str | None,
    until: str | None,
    upstream: str | None,
    status: str | None,
    outcome: str | None,
    tag: str | None,
    session: str | None,
) -> Filters:
    """What the flags narrow a list to. Raises UsageError that says which values are right."""
    from proxy.store.read import Filters

    return Filters(
        since_us=_time("--since", since),
        until_us=_time("--until", until),
        upstream=upstream,
        status=_status(status),
        outcome=_outcome(outcome),
        tag=_tag(tag),
        session=session,
    )


_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _time(flag: str, text: str | None) -> int | None:
    """Microseconds since 1970. Without an offset a time is this machine's local one; without a date it is today's."""
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text.strip()):
            moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        elif re.match(r"\d\d:", text):
            moment = datetime.combine(datetime.now(UTC).astimezone().date(), time.fromisoformat(text))
        else:
            moment = datetime.fromisoformat(text)
        return round(moment.astimezone().timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError):
        example = '"2h", "7d", "14:30", "2026-01-31" or "2026-01-31T14:30"'
        raise UsageError(f"{flag} {text!r} is no time: use for example {example}") from None


def _status(text: str | None) -> int | str | None:
    if text is None:
        return None
    if re.fullmatch("[1-9]xx", text.lower()):
        return text.lower()
    if re.fullmatch("[1-9][0-9][0-9]", text):
        return int(text)
    raise UsageError(f"--status {text!r} is none: use a number such as 404, or a class: 1xx, 2xx, 3xx, 4xx, 5xx")


def _outcome(text: str | None) -> Outcome | Literal["open"] | None:
    if text is None:
        return None
    if text.lower() == "open":
        return "open"
    for each in Outcome:
        if each.name.lower() == text.lower():
            return each
    valid = ", ".join(each.name.lower() for each in Outcome)
    raise UsageError(f"--outcome {text!r} is none: use {valid}, or open for those still running")


def _tag(text: str | None) -> tuple[str, str | None] | None:
    if text is None:
        return None
    name, equals, value = text.partition("=")
    if not name:
        raise UsageError(f"--tag {text!r} is none: use NAME=VALUE such as project=search, or NAME for any value")
    return name, value if equals else None


def check_upstream(engine: Engine, chosen: Settings, name: str | None) -> None:
    """Raise UsageError for an upstream that is neither configured nor recorded."""
    if name is None or name in chosen.upstreams:
        return
    from proxy.store.engine import reading
    from proxy.store.read import Filters, list_exchanges

    with reading(engine) as connection:
        if not list_exchanges(connection, Filters(upstream=name), 1):
            known = ", ".join(chosen.upstreams)
            raise UsageError(f"--upstream {name!r} is neither recorded nor configured: configured are {known}")


# --- reading ---


def found_id(engine: Engine, given: str | None) -> UUID | None:
    """The exchange that a person means. Raises UsageError."""
    if given is None:
        return None
    from proxy.store.engine import reading
    from proxy.store.read import find_exchange

    with reading(engine) as connection:
        return find_exchange(connection, given)


def pages(engine: Engine, filters: Filters, limit: int | None, before: UUID | None = None) -> Iterator[list[Exchange]]:
    """The exchanges that pass, the newest first, in lists of at most PAGE."""
    from proxy.store.engine import reading
    from proxy.store.read import list_exchanges

    while limit is None or limit > 0:
        size = PAGE if limit is None else min(PAGE, limit)
        with reading(engine) as connection:
            page = list_exchanges(connection, filters, size, before)
        if page:
            yield page
        if len(page) < size:
            return
        before = page[-1].id
        limit = None if limit is None else limit - size

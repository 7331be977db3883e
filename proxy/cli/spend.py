"""`spend`: tokens and money, summed by model, day and whatever else, in the days of the database's time zone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli import money, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.filters import (
    CredentialFlag,
    ModelFlag,
    OfUpstreamFlag,
    SessionFlag,
    StatusFlag,
    TagFlag,
    check_upstream,
    tag_of,
)
from proxy.cli.times import UntilFlag, day_or_moment
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.store import Connection
    from proxy.store.spend import Answer, Question, Row, Spent

SINCE = "30d"
ByFlag = Annotated[
    str, typer.Option("--by", metavar="LIST", help="model, day, hour, upstream, credential, session, status, tag:NAME.")
]
FromFlag = Annotated[
    str, typer.Option("--since", metavar="TIME", help='From then on: "7d" is whole days, and today; "2h"; or ISO.')
]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SUMS = ("requests", "errors", "uncached", "cache read", "cache write", "output", "reasoning", "cost")
_DOUBTS = ("unpriced", "unknown")


class Format(StrEnum):
    """How spend is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(spend)


def spend(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    by: ByFlag = "model",
    since: FromFlag = SINCE,
    until: UntilFlag = None,
    upstream: OfUpstreamFlag = None,
    model: ModelFlag = None,
    credential: CredentialFlag = None,
    tag: TagFlag = None,
    session: SessionFlag = None,
    status: StatusFlag = None,
    output: Annotated[Format, typer.Option("--format", help="A table, JSON, or CSV for a spreadsheet.")] = Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Add up what was spent. The days are those of the database's reporting time zone."""
    door(ctx).say(config, home, database, None)
    dimensions = dimensions_of(by)
    chosen = settings(ctx)
    engine = store(chosen)
    from proxy.store import credentials
    from proxy.store import spend as spending
    from proxy.store.engine import reading
    from proxy.store.zone import database_zone, zone_named

    narrowed = _Narrowed(upstream, model, credential, session, status, tag)
    try:
        check_upstream(engine, chosen, upstream)
        with reading(engine) as connection:
            zone = zone_named(database_zone(connection))
            began, end = day_or_moment("--since", since, zone), day_or_moment("--until", until, zone)
            question = narrowed.question(connection, dimensions, began, end)
            answer = spending.Answer([], spending.Spent(), str(zone))
            if question is not None:
                answer = spending.spend(connection, question)
            names = credentials.names_of(connection) if "credential" in dimensions else {}
    finally:
        engine.dispose()
    rows = _sorted([_called(row, dimensions, names) for row in answer.rows], dimensions)
    if output is Format.TABLE:
        _print_table(rows, answer, dimensions, f"since {since}" + (f" until {until}" if until else ""))
    elif output is Format.CSV:
        _print_csv(rows, dimensions)
    else:
        render.print_json(_facts(rows, answer, dimensions, began, end))


def dimensions_of(text: str) -> tuple[str, ...]:
    """What `--by` names. Raises UsageError that lists what there is."""
    from proxy.store.spend import DIMENSIONS, TAG

    found = tuple(each.strip() for each in text.split(","))
    known = f"{', '.join(DIMENSIONS)} and {TAG}NAME"
    for each in found:
        if each not in DIMENSIONS and (not each.startswith(TAG) or each == TAG):
            raise UsageError(f"--by {each!r} is nothing to add up by: there are {known}")
    if len(set(found)) < len(found):
        raise UsageError(f"--by {text!r} names something twice: name each of {known} once")
    if sum(each.startswith(TAG) for each in found) > 1:
        raise UsageError("--by takes one tag at a time: run it once for each tag")
    return found


class _Narrowed:
    """The flags that narrow a question, as they were written."""

    def __init__(
        self,
        upstream: str | None,
        model: str | None,
        credential: str | None,
        session: str | None,
        status: str | None,
        tag: str | None,
    ) -> None:
        self._upstream = upstream
        self._model = model
        self._credential = credential
        self._session = session
        self._status = status
        self._tag = tag_of(tag)

    def question(
        self, connection: Connection, by: tuple[str, ...], since: int | None, until: int | None
    ) -> Question | None:
        """None if a name was never recorded, so that the answer is nothing. Raises UsageError."""
        from proxy.store import credentials
        from proxy.store.names import name_ids
        from proxy.store.schema import NameKind
        from proxy.store.spend import Question

        given = {NameKind.UPSTREAM: self._upstream, NameKind.SESSION: self._session, NameKind.MODEL: self._model}
        ids = {kind: tuple(name_ids(connection, kind, value)) for kind, value in given.items() if value is not None}
        if any(not found for found in ids.values()):
            return None
        payers = None
        if self._credential is not None:
            payers = tuple(each.id for each in credentials.find(connection, self._credential))
        return Question(
            by=by,
            since_us=since,
            until_us=until,
            models=ids.get(NameKind.MODEL),
            credentials=payers,
            upstream=ids[NameKind.UPSTREAM][0] if self._upstream is not None else None,
            session=ids[NameKind.SESSION][0] if self._session is not None else None,
            status=self._one_status(),
            tag=self._tag,
        )

    def _one_status(self) -> int | None:
        if self._status is None:
            return None
        if not (self._status.isascii() and self._status.isdigit() and len(self._status) == 3):
            raise UsageError(f"--status {self._status!r} is none: spend takes one number, such as 429")
        return int(self._status)


def _called(row: Row, by: Sequence[str], names: dict[str, str]) -> Row:
    """A row with the names of credentials in the place of their fingerprints."""
    keys = (names.get(str(key), key) if each == "credential" else key for each, key in zip(by, row.keys, strict=True))
    return row._replace(keys=tuple(keys))


def _sorted(rows: list[Row], by: Sequence[str]) -> list[Row]:
    """In the order of time where there is one, else what cost most, then what took most, comes first."""
    times = [place for place, each in enumerate(by) if each in ("day", "hour")]

    def order(row: Row) -> Any:
        spent = row.spent
        size = (-spent.cost_pico, -(spent.input_tokens + spent.output_tokens), -spent.exchanges)
        return [str(row.keys[place]) for place in times], size, [str(key) for key in row.keys]

    return sorted(rows, key=order)


# --- printing ---


def _facts(
    rows: Iterable[Row], answer: Answer, by: Sequence[str], since: int | None, until: int | None
) -> dict[str, Any]:
    return {
        "by": list(by),
        "time_zone": answer.zone,
        "since": None if since is None else render.utc(since),
        "until": None if until is None else render.utc(until),
        "rows": [{**dict(zip(by, row.keys, strict=True)), **sums_of(row.spent)} for row in rows],
        "total": sums_of(answer.total),
    }


def sums_of(spent: Spent) -> dict[str, Any]:
    """Sums under the names that JSON and CSV have; the cost exactly, null where none is known."""
    cost = spent.known_cost_pico
    return {
        "requests": spent.exchanges,
        "errors": spent.errors,
        "uncached_input_tokens": spent.uncached_tokens,
        "cache_read_tokens": spent.cache_read_tokens,
        "cache_write_tokens": spent.cache_write_tokens,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "reasoning_tokens": spent.reasoning_tokens,
        "cost_usd": None if cost is None else money.plain_usd(cost),
        "cost_pico": cost,
        "unpriced": spent.unpriced,
        "unknown": spent.unknown,
    }


def _print_csv(rows: Sequence[Row], by: Sequence[str]) -> None:
    """A spreadsheet takes what begins like a formula for one: recorded text of that kind has a quote put before it."""
    from proxy.store.spend import Spent

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*by, *sums_of(Spent())])
    for row in rows:
        sums = sums_of(row.spent)
        writer.writerow([*map(_cell, row.keys), *("" if each is None else each for each in sums.values())])
    typer.echo(text.getvalue(), nl=False)


def _cell(key: str | int | None) -> str:
    text = "" if key is None else render.safe(str(key))
    return f"'{text}" if text.startswith(_FORMULA) else text


def _print_table(rows: Sequence[Row], answer: Answer, by: Sequence[str], when: str) -> None:
    if not rows:
        render.note(f"nothing was spent {when}")
        return
    doubts = [name for name in _DOUBTS if getattr(answer.total, name)]
    places = {"errors": 1, "reasoning": 3, "cache write": 2, "cache read": 2}
    columns = [
        *(render.Column(each, least=10) for each in by),
        *(render.Column(each, right=True, drop=places.get(each, 0)) for each in (*_SUMS, *doubts)),
    ]
    exact = not render.on_terminal()
    lines = [
        [*("-" if key is None else str(key) for key in row.keys), *_cells(row.spent, doubts, exact)] for row in rows
    ]
    total = ["total", *[""] * (len(by) - 1), *_cells(answer.total, doubts, exact)]
    render.table(columns, lines if exact else [*lines, total])
    if exact:
        return
    notes = {
        "unpriced": f"{render.count(answer.total.unpriced, 'request')} without a price are not in the cost",
        "unknown": f"of {render.count(answer.total.unknown, 'request')} nobody told the tokens",
    }
    for name in doubts:
        render.note(notes[name])
    if {"day", "hour"} & set(by):
        render.note(f"days and hours are those of {answer.zone}")


def _cells(spent: Spent, doubts: Iterable[str], exact: bool) -> list[str]:
    counts = (
        spent.exchanges,
        spent.errors,
        spent.uncached_tokens,
        spent.cache_read_tokens,
        spent.cache_write_tokens,
        spent.output_tokens,
        spent.reasoning_tokens,
    )
    cost = spent.known_cost_pico
    amount = ("-" if cost is None else money.plain_usd(cost)) if exact else money.short_usd(cost)
    numbers = [str(each) if exact else f"{each:,}" for each in counts]
    return [*numbers, amount, *(f"{getattr(spent, name):,}" for name in doubts)]

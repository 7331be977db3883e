"""`diff`: exchanges beside one another: what was asked and answered otherwise, and what each took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from proxy.cli import money, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.show import ID_HELP
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.replay.compare import Difference, View
    from proxy.store import Engine
    from proxy.store.rows import Exchange

MOST = 100
"""Exchanges that are compared at once: their answers are held in memory."""

_SHOWN = 60  # characters of a value
_COLUMNS = (
    render.Column(""),
    render.Column("exchange"),
    render.Column("upstream", drop=4, least=6),
    render.Column("model", drop=3, least=10),
    render.Column("status", right=True),
    render.Column("finish", drop=6),
    render.Column("in", right=True),
    render.Column("out", right=True),
    render.Column("cost", right=True),
    render.Column("first token", right=True, drop=1),
    render.Column("tokens/s", right=True, drop=2),
    render.Column("duration", right=True, drop=5),
    render.Column("same text", right=True),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(diff)


def diff(
    ctx: typer.Context,
    exchanges: Annotated[list[str], typer.Argument(metavar="ID...", help=ID_HELP)],
    resends: Annotated[bool, typer.Option("--resends", help="With all that sent these again.")] = False,
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Compare exchanges: requests, answers, tokens, cost and speed; all with the first."""
    door(ctx).say(config, home, database, None)
    engine = store(settings(ctx))
    try:
        views = _views(engine, exchanges, resends=resends)
    finally:
        engine.dispose()
    if output is render.Format.JSON:
        render.print_json(_facts(views))
        return
    _print_rows(views)
    _print_request(views)
    _print_answers(views)


def _views(engine: Engine, given: Sequence[str], *, resends: bool) -> list[View]:
    """Raises UsageError unless there are two or more, and not too many."""
    from proxy.replay.compare import view
    from proxy.store import read
    from proxy.store.engine import reading

    with reading(engine) as connection:
        found: dict[UUID, Exchange] = {}
        for name in given:
            one = read.get_exchange(connection, read.find_exchange(connection, name))
            if one is None:
                raise UsageError(f"the exchange {name} was deleted just now")
            found |= {each.id: each for each in (one, *(read.resends(connection, one.id) if resends else ()))}
        if len(found) < 2:
            more = "nothing was sent again of it" if resends else "name another one, or give --resends"
            raise UsageError(f"one exchange alone cannot be compared: {more}")
        if len(found) > MOST:
            raise UsageError(f"these are {len(found)} exchanges: at most {MOST} can be compared at once")
        return [view(connection, each) for each in found.values()]


# --- JSON ---


def _facts(views: Sequence[View]) -> dict[str, Any]:
    from proxy.replay.compare import MISSING, difference, differences, likeness, numbers, spreads
    from proxy.replay.paths import shown

    first = views[0]
    return {
        "exchanges": [
            {
                "id": str(each.exchange.id),
                "replay_of": None if each.exchange.replay_of is None else str(each.exchange.replay_of),
                "upstream": each.exchange.upstream,
                "model": each.exchange.model_served or each.exchange.model_asked,
                "status": each.exchange.status,
                "finish_reason": each.exchange.finish_reason,
                "usage_state": each.exchange.usage_state,
                **numbers(each),
                "text": each.text,
                "tool_calls": each.tool_calls,
                "same_text": likeness(first.text, each.text),
                "text_diff": None if None in (first.text, each.text) else difference(first.text or "", each.text or ""),
            }
            for each in views
        ],
        "request": [
            {
                "path": shown(each.path),
                "values": [None if value is MISSING else value for value in each.values],
                "missing": [at for at, value in enumerate(each.values) if value is MISSING],
            }
            for each in differences([view.asked for view in views])
        ],
        "spread": {name: spread and spread._asdict() for name, spread in spreads(views).items()},
    }


# --- for people ---


def _print_rows(views: Sequence[View]) -> None:
    from proxy.replay.compare import likeness, numbers, spreads

    rows = []
    for number, each in enumerate(views):
        found = each.exchange
        alike = likeness(views[0].text, each.text)
        said = [str(found.id), found.upstream or "-", found.model_served or found.model_asked or "-"]
        said += ["-" if found.status is None else str(found.status), found.finish_reason or "-"]
        rows.append([str(number + 1), *said, *_measured(numbers(each)), "-" if alike is None else f"{alike:.0%}"])
    if len(views) > 2:
        known = spreads(views)
        for name in ("least", "median", "most"):
            values = {kind: None if each is None else getattr(each, name) for kind, each in known.items()}
            rows.append([_SPREADS[name], "", "", "", "", "", *_measured(values), ""])
    render.table(_COLUMNS, rows)


_SPREADS = {"least": "min", "median": "med", "most": "max"}


def _measured(values: dict[str, float | None]) -> list[str]:
    whole = {name: None if value is None else round(value) for name, value in values.items()}
    speed = values["tokens_per_second"]
    return [
        money.tokens(whole["input_tokens"]),
        money.tokens(whole["output_tokens"]),
        money.short_usd(whole["cost_pico"]),
        render.duration(whole["first_token_us"]),
        "-" if speed is None else f"{speed:,.1f}",
        render.duration(whole["duration_us"]),
    ]


def _print_request(views: Sequence[View]) -> None:
    from proxy.replay.compare import MOST_PLACES, differences

    found = differences([each.asked for each in views])
    render.say("\nrequest" if found else "\nrequest: the same")
    render.pairs([_place(each) for each in found], "  ")
    if len(found) == MOST_PLACES:
        render.say(f"  … (these are the first {MOST_PLACES} places)")


def _place(each: Difference) -> tuple[str, str]:
    """A path, and its values in the order of the exchanges; those that follow one another and are the same once."""
    from proxy.replay.paths import shown

    values = [_value(value) for value in each.values]
    return shown(each.path), " → ".join(value for at, value in enumerate(values) if not at or value != values[at - 1])


def _value(value: Any) -> str:
    from proxy.replay.compare import MISSING

    text = "(none)" if value is MISSING else render.json_bytes(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


def _print_answers(views: Sequence[View]) -> None:
    first, *others = views
    for number, each in enumerate(others, 2):
        _section(f"text, 1 and {number}", first.text, each.text)
        calls = ["" if view.tool_calls is None else "\n".join(view.tool_calls) for view in (first, each)]
        if any(calls):
            _section(f"tool calls, 1 and {number}", *calls)


def _section(title: str, one: str | None, other: str | None) -> None:
    from proxy.replay.compare import difference

    if one is None or other is None:
        render.say(f"\n{title}: not kept")
        return
    lines = difference(one, other, ("1", title.rpartition(" ")[2]))
    render.say(f"\n{title}" if lines else f"\n{title}: the same")
    for line in lines:
        for shown in render.safe_lines(line).split("\n"):
            render.say(f"  {shown}".rstrip())

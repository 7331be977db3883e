"""`diff --by`: sets of exchanges beside one another, by what each took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from proxy.cli import money, render
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.replay.compare import Numbers, Spread
    from proxy.store.rows import Exchange

Key = Callable[["Exchange"], str]

MEASURED = (
    render.Column("in", right=True),
    render.Column("out", right=True),
    render.Column("cost", right=True),
    render.Column("first token", right=True, drop=1),
    render.Column("tokens/s", right=True, drop=2),
    render.Column("duration", right=True, drop=5),
)
"""What `measured` says."""

SPREADS = {"least": "min", "median": "med", "most": "max"}

_BY: dict[str, Key] = {
    "model": lambda each: each.model_served or each.model_asked or "-",
    "upstream": lambda each: each.upstream or "-",
    "session": lambda each: each.session or "-",
    "status": lambda each: "-" if each.status is None else str(each.status),
    "origin": lambda each: each.origin.name.lower(),
}
_COLUMNS = (
    render.Column("set"),
    render.Column("exchanges", right=True),
    render.Column("failed", right=True),
    render.Column("", least=3),
    *MEASURED,
)


def key_of(by: str) -> Key:
    """What puts exchanges into sets. Raises UsageError."""
    kind, colon, name = by.partition(":")
    if kind == "tag" and colon and name:
        return lambda each: dict(each.tags).get(name, "-")
    if by not in _BY:
        raise UsageError(f"--by {by!r} is no way to make sets: use {', '.join(_BY)} or tag:NAME")
    return _BY[by]


def compare(found: Iterable[Exchange], by: str, output: render.Format) -> None:
    """Print what the exchanges of each set took. Memory holds their numbers, not them."""
    from proxy.replay.compare import Numbers, View, numbers

    key, sets = key_of(by), dict[str, Numbers]()
    for each in found:
        sets.setdefault(key(each), Numbers()).add(
            numbers(View(each, None)), failed=bool(each.status and each.status >= 400)
        )
    if not sets:
        raise UsageError("there is nothing to compare: no exchange passes")
    if output is render.Format.JSON:
        facts = [
            {"set": name, "exchanges": its.count, "failed": its.failed, "spread": _plain(its.spreads())}
            for name, its in sorted(sets.items())
        ]
        render.print_json(facts)
        return
    render.table(_COLUMNS, [row for name, its in sorted(sets.items()) for row in _rows(name, its)])


def _rows(name: str, its: Numbers) -> Iterator[list[str]]:
    first, known = [name, f"{its.count:,}", f"{its.failed:,}"], its.spreads()
    for kind, shown in SPREADS.items():
        yield [*first, shown, *measured({each: spread and getattr(spread, kind) for each, spread in known.items()})]
        first = ["", "", ""]


def _plain(found: dict[str, Spread | None]) -> dict[str, Any]:
    return {name: spread and spread._asdict() for name, spread in found.items()}


def measured(values: dict[str, float | None]) -> list[str]:
    """Cells for people."""
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

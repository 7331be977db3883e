"""The filters that `ls`, `export` and `delete` share: what the flags mean, and reading what passes, page by page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints
from uuid import UUID

import typer

from proxy.cli import render
from proxy.cli.times import SinceFlag, UntilFlag, moment
from proxy.errors import UsageError
from proxy.exchange import Outcome

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.store import Engine
    from proxy.store.read import Filters
    from proxy.store.rows import Exchange

KEYWORD = Parameter.KEYWORD_ONLY

PAGE = 500
"""Exchanges that are read at once; between two pages the database is free to tidy up."""

OfUpstreamFlag = Annotated[str | None, typer.Option("--upstream", metavar="NAME", help="Of this upstream.")]
StatusFlag = Annotated[str | None, typer.Option("--status", metavar="CODE", help="With this HTTP status: 404, or 4xx.")]
OutcomeFlag = Annotated[
    str | None, typer.Option("--outcome", metavar="NAME", help="With this outcome; `open`: still running.")
]
TagFlag = Annotated[str | None, typer.Option("--tag", metavar="NAME=VALUE", help="With this tag; NAME: of any value.")]
SessionFlag = Annotated[str | None, typer.Option("--session", metavar="NAME", help="Of this session.")]
ModelFlag = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Of this model, asked or served; a * at its end: any.")
]
CredentialFlag = Annotated[
    str | None, typer.Option("--credential", metavar="NAME", help="Of this credential: its name, or its fingerprint.")
]
SearchFlag = Annotated[
    str | None, typer.Option("--search", metavar="WORDS", help="With all these words in a prompt or an answer.")
]
MinCostFlag = Annotated[str | None, typer.Option("--min-cost", metavar="USD", help="That cost as much or more.")]
ErrorsFlag = Annotated[bool, typer.Option("--errors", help="That failed: by status, in mid-stream, or not completed.")]
BeforeFlag = Annotated[str | None, typer.Option("--before", metavar="ID", help="Older than this one: the next page.")]


@dataclass(frozen=True, slots=True)
class Flags:
    """What the flags said, as it was written; None and False say nothing."""

    since: SinceFlag = None
    until: UntilFlag = None
    upstream: OfUpstreamFlag = None
    status: StatusFlag = None
    outcome: OutcomeFlag = None
    tag: TagFlag = None
    session: SessionFlag = None
    model: ModelFlag = None
    credential: CredentialFlag = None
    search: SearchFlag = None
    min_cost: MinCostFlag = None
    errors: ErrorsFlag = False

    @property
    def narrow(self) -> bool:
        """Whether any was given."""
        return self != NO_FLAGS


NO_FLAGS = Flags()


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `flags` is a flag of its own for each of the fields: Typer knows no others."""
    hints = get_type_hints(command, include_extras=True)
    spread = get_type_hints(Flags, include_extras=True)
    parameters: list[Parameter] = []
    for each in signature(command).parameters.values():
        if each.name == "flags":
            defaults = ((field.name, field.default) for field in fields(Flags))
            parameters += [Parameter(name, KEYWORD, default=said, annotation=spread[name]) for name, said in defaults]
        else:
            parameters.append(each.replace(kind=KEYWORD, annotation=hints[each.name]))

    def spoken(**given: Any) -> None:
        flags = Flags(**{name: given.pop(name) for name in spread})
        command(**given, flags=flags)

    spoken.__name__, spoken.__doc__ = command.__name__, command.__doc__
    spoken.__annotations__ = {each.name: each.annotation for each in parameters}
    spoken.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # inspect looks for it
    return spoken


def filters_of(flags: Flags) -> Filters:
    """What the flags narrow a list to. Raises UsageError that says which values are right."""
    from proxy.store.read import Filters

    return Filters(
        since_us=moment("--since", flags.since),
        until_us=moment("--until", flags.until),
        upstream=flags.upstream,
        status=_status(flags.status),
        outcome=_outcome(flags.outcome),
        tag=tag_of(flags.tag),
        session=flags.session,
        model=flags.model,
        credential=flags.credential,
        search=_words(flags.search),
        min_cost_pico=usd_pico("--min-cost", flags.min_cost),
        errors=flags.errors,
    )


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


def tag_of(text: str | None) -> tuple[str, str | None] | None:
    """A tag's name and value, None for any value. Raises UsageError."""
    if text is None:
        return None
    name, equals, value = text.partition("=")
    if not name:
        raise UsageError(f"--tag {text!r} is none: use NAME=VALUE such as project=search, or NAME for any value")
    return name, value if equals else None


def _words(text: str | None) -> str | None:
    if text is not None and not any(character.isalnum() for character in text):
        raise UsageError(f'--search {text!r} has no word in it: use for example --search "weather paris"')
    return text


def usd_pico(flag: str, text: str | None) -> int | None:
    """An amount in 10^-12 USD. Raises UsageError."""
    if text is None:
        return None
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= 10**6:
        raise UsageError(f"{flag} {text!r} is no amount in USD: use for example 0.05")
    return int(amount * 10**12)


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


def check_search(engine: Engine, chosen: Settings, words: str | None) -> None:
    """Say so where a search cannot find everything: nothing is indexed, or not all yet."""
    if words is None:
        return
    from proxy.store.engine import reading
    from proxy.store.fulltext import waiting

    with reading(engine) as connection:
        left = waiting(connection)
    if left and not chosen.search:
        render.note(f"search is false in the configuration: {render.count(left, 'text')} cannot be found")
    elif left:
        render.note(f"{render.count(left, 'text')} not indexed yet: the newest may be missing")


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

"""Exchanges beside one another: what was asked otherwise, what was answered otherwise, and what each took. Pure.

Must not know how it is shown. Everything in it was recorded by others.
"""

from __future__ import annotations

import difflib
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any, NamedTuple

import msgspec

from proxy.interpret.body import decoder
from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Meaning
from proxy.interpret.recorded import recording
from proxy.interpret.values import NotJson, decoded
from proxy.jsontext import Path
from proxy.store import Connection, clean
from proxy.store.rows import Exchange, Pairs
from proxy.store.unread import recorded

MOST_PLACES = 500
"""Places of a request that are told of; of a body that is another one altogether the first few say so."""

_MOST_LINES, _MOST_WORDS = 5_000, 5_000  # what comparing takes grows with the square of them
_CONTEXT = 2


@dataclass(frozen=True, slots=True)
class View:
    """An exchange to be compared. `asked` is the request's JSON, or its text where it is none; `text`, `reasoning` and
    `tool_calls` are None where no bodies are kept; a call is its name and its arguments."""

    exchange: Exchange
    asked: Any
    text: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[str, ...] | None = None

    @property
    def cost_pico(self) -> int | None:
        """What the provider says, else by our prices."""
        said = self.exchange.cost_reported_pico
        return self.exchange.cost_pico if said is None else said

    @property
    def first_token_us(self) -> int | None:
        """When the first of what it generated came."""
        found = self.exchange
        known = [each for each in (found.first_reasoning_us, found.first_visible_us) if each is not None]
        return min(known) if known else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens that were generated, over the time from the first to the end of a stream."""
        found, first = self.exchange, self.first_token_us
        end = found.last_byte_us if found.terminal_event_us is None else found.terminal_event_us
        if found.output_tokens is None or first is None or end is None or end <= first or not found.streaming:
            return None
        return found.output_tokens * 1_000_000 / (end - first)


def view(connection: Connection, exchange: Exchange) -> View:
    """What is stored of an exchange, read anew: a prompt that was there before in its session is not stored twice."""
    for found in recorded(connection, [exchange.id]):
        found.request = list(found.request)
        asked = _asked(found.request_headers, found.request)
        if found.wire_end is None or not found.bodies or exchange.record:
            return View(exchange, asked)
        meaning = interpret(recording(found))
        said = (clean.text(meaning.text), clean.text(meaning.reasoning), tuple(map(clean.text, _calls(meaning))))
        return View(exchange, asked, *said)
    return View(exchange, None)


def _asked(headers: Pairs, pieces: Iterable[tuple[int, bytes]]) -> Any:
    coding = decoder(", ".join(value for name, value in headers if name.lower() == "content-encoding"))
    body = b"".join([coding.feed(data) for _, data in pieces]) + coding.finish()
    if not body:
        return None
    try:
        return msgspec.json.decode(clean.json(decoded(body)))  # as it can be printed
    except (NotJson, RecursionError):
        return body.decode("utf-8", "backslashreplace")


def _calls(meaning: Meaning) -> Iterable[str]:
    return (f"{call.name or '-'}({call.arguments})" for call in meaning.tool_calls)


# --- the requests ---


class Missing:
    """Stands for a place that is not there."""

    def __repr__(self) -> str:
        return "-"


MISSING = Missing()


class Difference(NamedTuple):
    """A place at which requests differ, with the value of each, in order; MISSING where there is none."""

    path: Path
    values: tuple[Any, ...]


def differences(asked: Sequence[Any], most: int = MOST_PLACES) -> list[Difference]:
    """Where some JSON values differ, in the order of the first, at most so many."""
    found: list[Difference] = []
    waiting: list[Difference] = [Difference((), tuple(asked))]
    while waiting and len(found) < most:
        path, values = place = waiting.pop()
        below = _below(values)
        if below is not None:
            waiting += [Difference((*path, step), inner) for step, inner in reversed(below)]
        elif any(not _same(values[0], each) for each in values[1:]):
            found.append(place)
    return found


def _below(values: tuple[Any, ...]) -> list[tuple[str | int, tuple[Any, ...]]] | None:
    """What is in values that are all objects, or all arrays; None for others."""
    if all(isinstance(each, dict) for each in values):
        names = dict.fromkeys(name for each in values for name in each)
        return [(name, tuple(each.get(name, MISSING) for each in values)) for name in names]
    if all(isinstance(each, list) for each in values):
        longest = max(map(len, values))
        return [(at, tuple(each[at] if at < len(each) else MISSING for each in values)) for at in range(longest)]
    return None


def _same(one: Any, other: Any) -> bool:
    """As JSON has it: `1` is `1.0`, and `true` is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    try:
        return bool(one == other)
    except RecursionError:
        return False


# --- the answers ---


def difference(one: str, other: str, names: tuple[str, str] = ("a", "b")) -> list[str]:
    """Two texts as the lines of a unified diff; single lines by words: `[-old-]{+new+}`. Empty where they agree."""
    if one == other:
        return []
    lines = [text.splitlines() for text in (one, other)]
    if max(map(len, lines)) <= 1:
        return [_by_words(one, other)]
    before, after = (each[:_MOST_LINES] for each in lines)
    found = list(difflib.unified_diff(before, after, *names, n=_CONTEXT, lineterm=""))
    if [before, after] != lines or not found:
        found.append(f"(compared are the first {_MOST_LINES:,} lines, without their ends)")
    return found


_WORD = re.compile(r"\S+\s*|\s+")


def _words(text: str) -> list[str]:
    return [found[0] for found in islice(_WORD.finditer(text), _MOST_WORDS)]


def _by_words(one: str, other: str) -> str:
    before, after = _words(one), _words(other)
    said = []
    for what, begin, end, start, stop in difflib.SequenceMatcher(None, before, after).get_opcodes():
        old, new = "".join(before[begin:end]), "".join(after[start:stop])
        if what == "equal":
            said.append(old)
            continue
        said.append((f"[-{old}-]" if old else "") + (f"{{+{new}+}}" if new else ""))
    return "".join(said)


def likeness(one: str | None, other: str | None) -> float | None:
    """How much two texts have in common by words, 0 to 1; None where one is not kept."""
    if one is None or other is None:
        return None
    return 1.0 if one == other else difflib.SequenceMatcher(None, _words(one), _words(other)).ratio()


# --- the numbers ---


class Spread(NamedTuple):
    """Of what is known of a number; `known`: of how many exchanges."""

    least: float
    median: float
    most: float
    known: int


def numbers(one: View) -> dict[str, float | None]:
    """What can be measured of an exchange."""
    found = one.exchange
    return {
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "reasoning_tokens": found.reasoning_tokens,
        "cache_read_tokens": found.cache_read_tokens,
        "cost_pico": one.cost_pico,
        "first_token_us": one.first_token_us,
        "tokens_per_second": one.tokens_per_second,
        "duration_us": found.end_us,
    }


class Numbers:
    """What is known of the numbers of many exchanges: `count` of them, `failed` by their status."""

    def __init__(self) -> None:
        self.count = self.failed = 0
        self._known: dict[str, array[float]] = {}

    def add(self, row: dict[str, float | None], *, failed: bool = False) -> None:
        """One more exchange."""
        self.count += 1
        self.failed += failed
        for name, value in row.items():
            known = self._known.setdefault(name, array("d"))
            if value is not None:
                known.append(value)

    def spreads(self) -> dict[str, Spread | None]:
        """Of each number; None where it is known of none."""
        return {name: _spread(known) for name, known in self._known.items()}


def spreads(views: Sequence[View]) -> dict[str, Spread | None]:
    """Of each number over all exchanges; None where it is known of none."""
    found = Numbers()
    for each in views:
        found.add(numbers(each))
    return found.spreads()


def _spread(known: Sequence[float]) -> Spread | None:
    return Spread(min(known), median(known), max(known), len(known)) if known else None

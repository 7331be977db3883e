"""A JSON text's own letters: where values stand in it, and what puts one in, so that all around it stays. Pure.

Must not know what a place means to anybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

Path = tuple[str | int, ...]

_BLANKS = re.compile(r"[ \t\n\r]*")
_decoder = json.JSONDecoder(strict=False)


class Splice(NamedTuple):
    """`taken` letters from `at` on make room for `put`."""

    at: int
    taken: int
    put: str

    def applied(self, text: str) -> str:
        return f"{text[: self.at]}{self.put}{text[self.at + self.taken :]}"


class NoPlace(Exception):
    """A text has no such place: `path` is the part of it that is missing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path


class Places(NamedTuple):
    """What a container holds: where each value begins and ends, and where one more would begin. `blank` is what stands
    behind its punctuation; `doubled`: a name stands in it twice."""

    spans: dict[str | int, tuple[int, int]]
    end: int
    kind: type[str | int] | None
    blank: str = ""
    doubled: bool = False

    def takes(self, step: str | int) -> bool:
        if isinstance(step, str):
            return self.kind is str
        return self.kind is int and step == len(self.spans)


_NOWHERE = Places({}, 0, None)


def whole(text: str) -> Any:
    """The one value that a text is. Raises ValueError and RecursionError."""
    value, end = _decoder.raw_decode(text, gap(text, 0))
    if gap(text, end) != len(text):
        raise ValueError("more than one value")
    return value


def splice(text: str, path: Sequence[str | int], value: str) -> Splice:
    """What sets a place of a text, which is JSON, to `value`, which is JSON too. What is before a new name must be
    there, and an array takes one new item at its end. Raises NoPlace."""
    at = gap(text, 0)
    for depth, step in enumerate(path):
        places = members(text, at) if isinstance(step, str) else items(text, at)
        if step in places.spans:
            at = places.spans[step][0]
            continue
        if depth < len(path) - 1 or not places.takes(step):
            raise NoPlace(tuple(path[: depth + 1]))
        name = "" if isinstance(step, int) else f"{json.dumps(step, ensure_ascii=False)}:{places.blank}"
        comma = f",{places.blank}" if places.spans else ""
        return Splice(places.end, 0, f"{comma}{name}{value}")
    _, end = _decoder.raw_decode(text, at)
    return Splice(at, end - at, value)


def members(text: str, at: int) -> Places:
    """Of the object at `at` in a text that is JSON; of a name that stands twice the last one, as readers take it."""
    if text[at] != "{":
        return _NOWHERE
    spans: dict[str | int, tuple[int, int]] = {}
    place, last, blank, doubled = gap(text, at + 1), at + 1, "", False
    while text[place] == '"':
        name, colon = _decoder.raw_decode(text, place)
        begin = gap(text, gap(text, colon) + 1)
        blank = " " if text[begin - 1] == " " else ""
        _, last = _decoder.raw_decode(text, begin)
        doubled |= name in spans
        spans[name] = (begin, last)
        place = gap(text, gap(text, last) + 1) if text[gap(text, last)] == "," else gap(text, last)
    return Places(spans, last, str, blank, doubled)


def items(text: str, at: int) -> Places:
    """Of the array at `at`."""
    if text[at] != "[":
        return _NOWHERE
    spans: dict[str | int, tuple[int, int]] = {}
    place, last, blank = gap(text, at + 1), at + 1, ""
    while text[place] != "]":
        _, last = _decoder.raw_decode(text, place)
        spans[len(spans)] = (place, last)
        place = gap(text, last)
        if text[place] == ",":
            place = gap(text, place + 1)
            blank = " " if text[place - 1] == " " else ""
    return Places(spans, last, int, blank)


def gap(text: str, at: int) -> int:
    """Where what is behind white space begins."""
    found = _BLANKS.match(text, at)
    assert found is not None, "nothing is a gap, too"
    return found.end()

"""Places in JSON by name: `metadata.user_id`, `messages[*].id`, `tools[0]`, `**.created`. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any

from proxy.errors import UsageError


class Deep(Enum):
    """Here, and at any depth below."""

    DEEP = "**"


DEEP = Deep.DEEP
Step = str | int | Deep | None
"""A field's name, an element's number, (None) every element and field, or DEEP."""

_NAME = r'[^.\[\]"=\s][^.\[\]"=]*'
_WILD: dict[str, Step] = {"*": None, "**": DEEP}
_PLAIN = re.compile(_NAME)
_STEP = re.compile(rf'\.?(?P<name>{_NAME})|\[(?P<number>-?\d{{1,9}}|\*)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]')


def parse(path: str) -> tuple[Step, ...]:
    """The steps of a path: `a.b[0]`, names with dots as `["a.b"]`, `*` for every field; a `$.` may stand before.

    Raises UsageError.
    """
    steps, end = begin(path)
    if not steps or end < len(path) or steps[-1] is DEEP:
        raise UsageError(f"{path!r} names no place in JSON: write it such as metadata.user_id, messages[*].id or **.id")
    return steps


def begin(text: str) -> tuple[tuple[Step, ...], int]:
    """The steps that a text begins with, and where they end."""
    steps: list[Step] = []
    at = 1 if text.startswith("$") else 0
    while (found := _STEP.match(text, at)) is not None:
        number, quoted, at = found["number"], found["quoted"], found.end()
        if number is not None:
            steps.append(None if number == "*" else int(number))
        elif quoted is not None:
            steps.append(str(json.loads(quoted, strict=False)))
        else:
            steps.append(_WILD.get(found["name"], found["name"]))
    return tuple(steps), at


def shown(path: Iterable[str | int]) -> str:
    """A path as it would be given: `messages[0].content`."""
    text = ""
    for step in path:
        text = f"{text}[{step}]" if isinstance(step, int) else below(text, step)
    return text or "$"


def without(value: Any, steps: tuple[Step, ...]) -> Any:
    """The value without what is at a path; what is on the way there is copied, nothing is changed."""
    step, rest = steps[0], steps[1:]
    if step is DEEP:
        return _everywhere(without(value, rest), steps)
    if type(value) is dict:
        return _of_object(value, step, rest)
    if type(value) is list and not isinstance(step, str):
        place = step + len(value) if step is not None and step < 0 else step
        kept = [(each, place is None or place == number) for number, each in enumerate(value)]
        if not rest:
            return [each for each, hit in kept if not hit]
        return [without(each, rest) if hit else each for each, hit in kept]
    return value


def _of_object(value: dict[str, Any], step: Step, rest: tuple[Step, ...]) -> dict[str, Any]:
    if step is not None and step not in value:
        return value
    if not rest:
        return {} if step is None else {name: each for name, each in value.items() if name != step}
    return {name: without(each, rest) if step in (None, name) else each for name, each in value.items()}


def _everywhere(value: Any, steps: tuple[Step, ...]) -> Any:
    if type(value) is dict:
        return {name: without(each, steps) for name, each in value.items()}
    if type(value) is list:
        return [without(each, steps) for each in value]
    return value


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every number, text, true, false, null, empty object and empty array, by its path."""
    found: dict[str, Any] = {}
    waiting = [(path, value)]
    while waiting:
        place, each = waiting.pop()
        if type(each) is dict and each:
            waiting += [(below(place, name), one) for name, one in reversed(each.items())]
        elif type(each) is list and each:
            waiting += [(f"{place}[{number}]", one) for number, one in reversed(list(enumerate(each)))]
        else:
            found[place] = each
    return found


def below(place: str, name: str) -> str:
    """The path of a field of what is at a place."""
    if name in _WILD or not _PLAIN.fullmatch(name):  # or `{"a.b": 1}` would be `{"a": {"b": 1}}`
        return f"{place}[{json.dumps(name, ensure_ascii=False)}]"
    return f"{place}.{name}" if place else name

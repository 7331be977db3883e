"""Places in JSON by name: `metadata.user_id`, `messages[*].id`, `tools[0]`, `**.created`. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from proxy.errors import UsageError

Step = str | int | None
"""A field's name, an element's number, or (None) every element and field; DEEP: here and at any depth below."""

DEEP = "**"

_PLAIN = re.compile(r"[^.\[\]\"]+")
_STEP = re.compile(r"(?:^|\.)(?P<name>\*\*|[^.\[\]]+)|\[(?P<number>-?\d+|\*)\]")


def parse(path: str) -> tuple[Step, ...]:
    """The steps of a path. `*` is every field. Raises UsageError."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            break
        name, number = found["name"], found["number"]
        if number is not None:
            steps.append(None if number == "*" else int(number))
        else:
            steps.append(None if name == "*" else name)
        at = found.end()
    if not steps or at < len(path) or steps[-1] == DEEP:
        raise UsageError(f"{path!r} names no place in JSON: write it such as metadata.user_id, messages[*].id or **.id")
    return tuple(steps)


def without(value: Any, steps: tuple[Step, ...]) -> Any:
    """The value without what is at a path; what is on the way there is copied, nothing is changed."""
    step, rest = steps[0], steps[1:]
    if step == DEEP:
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
            waiting += [(_below(place, name), one) for name, one in reversed(each.items())]
        elif type(each) is list and each:
            waiting += [(f"{place}[{number}]", one) for number, one in reversed(list(enumerate(each)))]
        else:
            found[place] = each
    return found


def _below(place: str, name: str) -> str:
    if not _PLAIN.fullmatch(name):  # or `{"a.b": 1}` would be `{"a": {"b": 1}}`
        return f"{place}[{json.dumps(name)}]"
    return f"{place}.{name}" if place else name

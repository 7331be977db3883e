"""Changing single places of a JSON body: every byte around them stays as it was. Pure.

Must not know what a place means to a provider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from proxy.errors import UsageError
from proxy.replay.paths import begin, shown

Path = tuple[str | int, ...]

_BLANKS = re.compile(r"[ \t\n\r]*")
_decoder = json.JSONDecoder(strict=False)


class Edit(NamedTuple):
    """`value` is JSON, put in as it is written."""

    path: Path
    value: str


def parse_edit(text: str) -> Edit:
    """`a.b[0].c=VALUE`: VALUE is JSON, or else a string; names with dots are written `["a.b"]`, and a `$.` may stand
    before.

    Raises UsageError.
    """
    path, end = begin(text)
    plain = [step for step in path if isinstance(step, str) or (isinstance(step, int) and step >= 0)]
    if not path or len(plain) < len(path) or text[end : end + 1] != "=":
        raise UsageError(f"--set {text!r} is none: use PATH=VALUE such as temperature=0.2 or messages[0].content=Hello")
    return Edit(tuple(plain), _as_json(text[end + 1 :]))


def _as_json(text: str) -> str:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    return text.strip()


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def edited(body: bytes, edits: Sequence[Edit]) -> bytes:
    """The body with these places set, one after the other. What is before a new name must be there, and an array takes
    one new item at its end. Raises UsageError for what is no JSON, and for a place that is not there."""
    text = body.decode("utf-8", "surrogateescape")
    for edit in edits:
        try:
            _whole(text)
        except (ValueError, RecursionError):
            raise UsageError("the body is no JSON, so nothing can be set in it") from None
        text = _put(text, edit)
    return text.encode("utf-8", "surrogateescape")


def has(body: bytes, name: str) -> bool:
    """Whether a body is a JSON object with such a name in it."""
    try:
        value = _whole(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and name in value


def _whole(text: str) -> Any:
    """The one value that a text is. Raises ValueError and RecursionError."""
    value, end = _decoder.raw_decode(text, _gap(text, 0))
    if _gap(text, end) != len(text):
        raise ValueError("more than one value")
    return value


def _put(text: str, edit: Edit) -> str:
    at = _gap(text, 0)
    for depth, step in enumerate(edit.path):
        places = _members(text, at) if isinstance(step, str) else _items(text, at)
        if step in places.spans:
            at = places.spans[step][0]
            continue
        if depth < len(edit.path) - 1 or not places.takes(step):
            raise UsageError(f"the body has no {shown(edit.path[: depth + 1])}: --set changes what is there")
        name = "" if isinstance(step, int) else f"{json.dumps(step, ensure_ascii=False)}:{places.blank}"
        comma = f",{places.blank}" if places.spans else ""
        return f"{text[: places.end]}{comma}{name}{edit.value}{text[places.end :]}"
    _, end = _decoder.raw_decode(text, at)
    return text[:at] + edit.value + text[end:]


class _Places(NamedTuple):
    """What a container holds: where each value begins and ends, and where one more would begin. `blank` is what stands
    behind its punctuation."""

    spans: dict[str | int, tuple[int, int]]
    end: int
    kind: type[str | int] | None
    blank: str = ""

    def takes(self, step: str | int) -> bool:
        if isinstance(step, str):
            return self.kind is str
        return self.kind is int and step == len(self.spans)


_NOWHERE = _Places({}, 0, None)


def _members(text: str, at: int) -> _Places:
    """Of an object; of a name that stands twice the last one, as readers take it."""
    if text[at] != "{":
        return _NOWHERE
    spans: dict[str | int, tuple[int, int]] = {}
    place, last, blank = _gap(text, at + 1), at + 1, ""
    while text[place] == '"':
        name, colon = _decoder.raw_decode(text, place)
        begin = _gap(text, _gap(text, colon) + 1)
        blank = " " if text[begin - 1] == " " else ""
        _, last = _decoder.raw_decode(text, begin)
        spans[name] = (begin, last)
        place = _gap(text, _gap(text, last) + 1) if text[_gap(text, last)] == "," else _gap(text, last)
    return _Places(spans, last, str, blank)


def _items(text: str, at: int) -> _Places:
    """Of an array."""
    if text[at] != "[":
        return _NOWHERE
    spans: dict[str | int, tuple[int, int]] = {}
    place, last, blank = _gap(text, at + 1), at + 1, ""
    while text[place] != "]":
        _, last = _decoder.raw_decode(text, place)
        spans[len(spans)] = (place, last)
        place = _gap(text, last)
        if text[place] == ",":
            place = _gap(text, place + 1)
            blank = " " if text[place - 1] == " " else ""
    return _Places(spans, last, int, blank)


def _gap(text: str, at: int) -> int:
    """Where what is behind white space begins."""
    found = _BLANKS.match(text, at)
    assert found is not None, "nothing is a gap, too"
    return found.end()

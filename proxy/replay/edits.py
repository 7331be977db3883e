"""What `--set` and its like change in a JSON body: every byte around it stays as it was. Pure.

Must not know what a place means to a provider.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from proxy import jsontext
from proxy.errors import UsageError
from proxy.jsontext import NoPlace, Path
from proxy.replay.paths import begin, shown


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
            jsontext.whole(text)
        except (ValueError, RecursionError):
            raise UsageError("the body is no JSON, so nothing can be set in it") from None
        try:
            text = jsontext.splice(text, *edit).applied(text)
        except NoPlace as missing:
            raise UsageError(f"the body has no {shown(missing.path)}: --set changes what is there") from None
    return text.encode("utf-8", "surrogateescape")


def has(body: bytes, name: str) -> bool:
    """Whether a body is a JSON object with such a name in it."""
    try:
        value = jsontext.whole(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and name in value

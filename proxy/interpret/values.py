"""Values out of recorded JSON, which may be anything: of the wanted type, or as good as absent. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

_decode = msgspec.json.decode
HIGHEST = 2**63 - 1
BOM = b"\xef\xbb\xbf"


class NotJson(ValueError):
    """These bytes are no JSON, or more deeply nested than anybody needs."""


def decoded(data: bytes) -> Any:
    """The JSON in the bytes, leniently: NaN, broken UTF-8, lone surrogates, large numbers, a byte order mark before it.
    Raises NotJson."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        return json.loads(data.removeprefix(BOM).decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)[:200]) from None


def mapping(value: Any) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if type(value) is dict else {}


def listed(value: Any) -> list[Any]:
    """The array, or an empty one."""
    return value if type(value) is list else []


def string(value: Any) -> str | None:
    """The text, None for anything else and for an empty one."""
    return value if type(value) is str and value else None


def count(value: Any) -> int | None:
    """A number of tokens or the like: an integer from 0 to 2^63-1; anything else is unknown."""
    if type(value) is int:
        return value if 0 <= value <= HIGHEST else None
    if type(value) is float and value.is_integer():
        return count(int(value))
    return None


def number(value: Any) -> float | None:
    """A finite number."""
    if type(value) in (int, float):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if math.isfinite(found) else None
    return None


def amounts(found: Any, names: dict[str, str]) -> dict[str, float] | None:
    """Numbers of an object under other names (theirs -> ours), None if there is none."""
    known = {ours: value for theirs, ours in names.items() if (value := number(mapping(found).get(theirs))) is not None}
    return {name: int(value) if value.is_integer() else value for name, value in known.items()} or None


def whole_text(text: str) -> str:
    """The text with surrogate pairs joined that were cut between two deltas, and lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def written(value: Any, *, compact: bool = False) -> str:
    """JSON as one would write it, for what came as an object where text is wanted; `compact`: without blanks."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":") if compact else (", ", ": "))
    except (ValueError, RecursionError):
        return ""


def texts_of(content: Any) -> str:
    """The text of a message's content: a string, or parts of which those with text count."""
    if type(content) is str:
        return content
    if type(content) is dict:
        content = [content]
    parts = []
    for part in listed(content):
        if type(part) is str:
            parts.append(part)
            continue
        text = mapping(part).get("text")
        if type(text) is str:
            parts.append(text)
        elif type(text) is list or "content" in mapping(part):
            nested = mapping(part).get("content")
            parts.append(nested if type(nested) is str else "".join(_plain(each) for each in listed(nested or text)))
    return "\n".join(part for part in parts if part)


def _plain(part: Any) -> str:
    text = mapping(part).get("text")
    return text if type(text) is str else ""


def media_in(content: Any) -> list[tuple[str, int]]:
    """What of a message's content is no text: its media type, or the provider's word for it, and its length there."""
    found: list[tuple[str, int]] = []
    for part in listed(content):
        if type(part) is not dict or type(part.get("text")) is str:
            continue
        size, kind = _largest(part, 0)
        if size >= _LEAST_MEDIA and string(part.get("type")) not in _NO_MEDIA:
            found.append(((kind or string(part.get("type")) or "unknown")[:512], size))
    return found


_LEAST_MEDIA = 16  # characters: an address is a reference to media, an id is not much less
_NO_MEDIA = frozenset(
    (
        "function_call",
        "function_call_output",
        "reasoning",
        "redacted_thinking",
        "server_tool_use",
        "thinking",
        "tool_call",
        "tool_result",
        "tool_use",
        "web_search_tool_result",
    )
)
_KINDS = ("media_type", "mime_type", "mimeType", "format")


def _largest(value: dict[str, Any], depth: int) -> tuple[int, str | None]:
    """The length of the longest string in an object, and the media type that it names, if it does."""
    size, kind = 0, next((found for name in _KINDS if (found := string(value.get(name)))), None)
    for each in value.values():
        if type(each) is str:
            size = max(size, len(each))
            if kind is None and each.startswith("data:"):
                kind = each[5:100].partition(";")[0].partition(",")[0] or None
        elif type(each) is dict and depth < 3:
            inner, its = _largest(each, depth + 1)
            size, kind = max(size, inner), kind or its
    return size, kind

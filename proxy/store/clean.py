"""The one place where recorded values are made fit for a database: text, indexed strings, integers.

Knows what SQLite and Postgres refuse (NUL, lone surrogates, more than 64 bits, long index entries); nothing of tables.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec

INDEXED_BYTES = 512
"""Longest UTF-8 form of a string that an index holds (Postgres refuses index entries over about 2.7 kB)."""

LOWEST, HIGHEST = -(2**63), 2**63 - 1

_REPLACEMENT = "\ufffd"


def text(value: str) -> str:
    """`value` with each NUL and each lone surrogate replaced by U+FFFD; everything else stays."""
    if "\0" in value:
        value = value.replace("\0", _REPLACEMENT)
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return "".join(_REPLACEMENT if "\ud800" <= char <= "\udfff" else char for char in value)
    return value


def capped(value: str, limit: int = INDEXED_BYTES) -> str:
    """Clean text of at most `limit` bytes in UTF-8, cut between characters."""
    value = text(value)
    if len(value) <= limit and (value.isascii() or len(value.encode()) <= limit):
        return value
    return value[:limit].encode()[:limit].decode(errors="ignore")


def integer(value: int) -> int:
    """`value` within signed 64 bits; what lies outside becomes the nearest bound."""
    return LOWEST if value < LOWEST else min(value, HIGHEST)


def count(value: int | None, highest: int) -> int | None:
    """A number that will be added up: one that cannot be true (below zero, above `highest`) is not known."""
    return value if value is not None and 0 <= value <= highest else None


def json(value: Any) -> str:
    """Plain data as JSON that every database takes: text clean, integers of 64 bits, floats finite."""
    try:
        encoded = msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        encoded = b"\\u0000"
    if b"\\u0000" in encoded:
        encoded = msgspec.json.encode(_plain(value))
    return encoded.decode()


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {text(str(name)): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def same_json(one: str | None, other: str | None) -> bool:
    """Whether two texts are the same JSON: Postgres keeps what it means, not how it was written."""
    if one == other or one is None or other is None:
        return one == other
    return bool(msgspec.json.decode(one) == msgspec.json.decode(other))


def short_hash(value: str) -> int:
    """A signed 64-bit hash of clean text, the same in every process: what `response_ids` is looked up by."""
    return int.from_bytes(hashlib.sha256(text(value).encode()).digest()[:8], "big", signed=True)

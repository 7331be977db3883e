"""The one place where recorded values are made fit for a database: text, indexed strings, integers.

Knows what SQLite and Postgres refuse (NUL, lone surrogates, more than 64 bits, long index entries); nothing of tables.
"""

from __future__ import annotations

import hashlib

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


def short_hash(value: str) -> int:
    """A signed 64-bit hash of clean text, the same in every process: what `response_ids` is looked up by."""
    return int.from_bytes(hashlib.sha256(text(value).encode()).digest()[:8], "big", signed=True)

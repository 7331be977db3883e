"""A guess at tokens that nobody counted, from the texts alone. Pure; never to be added to what was counted.

How it is made, and how far it is off: docs/estimates.md. No tokenizer is needed: letters of a word, digits, signs and
letters of scripts without spaces cost so much each, as measured.
"""

from __future__ import annotations

import re
from typing import Any

from proxy.interpret.meaning import Estimate, Meaning
from proxy.interpret.values import written

OF_A_MESSAGE = 4
"""Tokens that a message has beside its text: its role, its beginning and its end."""

_PIECES = re.compile(r"[A-Za-z]+|[0-9]+|\s+|[^\sA-Za-z0-9]+")
_LETTERS = 7.0  # of a word in one token
_DIGITS = 3.0


def tokens_of(text: str) -> int:
    """About so many tokens."""
    found = 0.0
    for piece in _PIECES.findall(text):
        first = piece[0]
        if first.isspace():
            continue
        if first.isascii() and first.isalpha():
            found += 1 + max(len(piece) - _LETTERS, 0) / 5
        elif first.isascii() and first.isdigit():
            found += -(-len(piece) // _DIGITS)
        else:
            found += sum(0.6 if letter.isascii() else 1.0 for letter in piece)
    return round(found)


def estimated(meaning: Meaning, asked: dict[str, Any]) -> Estimate | None:
    """What a request and an answer may have counted. No guess at the input where it has pictures or sounds, or where no
    text is known; the output is that which arrived."""
    given = None
    seen = any(each.side == "request" for each in meaning.media)
    if meaning.prompts and not seen:
        given = sum(tokens_of(each.text) + OF_A_MESSAGE for each in meaning.prompts)
        if asked.get("tools"):
            given += tokens_of(written(asked["tools"]))
    said = [meaning.text, meaning.reasoning, *(f"{call.name or ''}{call.arguments}" for call in meaning.tool_calls)]
    made = sum(map(tokens_of, said)) if any(said) else None
    return None if given is None and made is None else Estimate(given, made)

"""A guess at tokens that nobody counted, from the texts alone. Pure; never to be added to what was counted.

How it is made, and how far it is off: docs/estimates.md. No tokenizer is needed: words, digits, signs and the letters
of other scripts cost so much each, as fitted to three tokenizers.
"""

from __future__ import annotations

import re
from typing import Any

from proxy.interpret.meaning import Estimate, Meaning
from proxy.interpret.values import written

OF_A_MESSAGE = 4
"""Tokens that a message has beside its text: its role, its beginning and its end."""

_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_ACCENTED = re.compile(r"[\u00c0-\u024f]")
_DIGITS = re.compile(r"[0-9]+")
_SIGNS = re.compile(r"[!-/:-@\[-`{-~]+")
_LINES = re.compile(r"\n+")
_SCRIPTS = {
    re.compile(r"[\u0370-\u052f]"): 0.5,  # Greek, Cyrillic
    re.compile(r"[\u0590-\u08ff]"): 0.8,  # Hebrew, Arabic
    re.compile(r"[\u0900-\u0dff]"): 1.0,  # of India
    re.compile(r"[\u3040-\u30ff]"): 0.95,  # Kana
    re.compile(r"[\u3400-\u9fff]"): 1.05,  # Han
    re.compile(r"[\uac00-\ud7af]"): 1.15,  # Hangul
    re.compile(r"[\U00010000-\U0010ffff]"): 2.4,  # emoji
    re.compile(r"[\u0250-\u036f\u0530-\u058f\u0e00-\u303f\u3100-\u33ff\ua000-\uabff\ud7b0-\uffff]"): 1.0,
}
"""Letters -> the tokens of one."""


def tokens_of(text: str) -> int:
    """About so many tokens."""
    found = sum(0.93 + 0.39 * max(len(word) - 6, 0) for word in _WORD.findall(text))
    found += sum(1.25 * -(-len(digits) // 3) for digits in _DIGITS.findall(text))
    found += 1.1 * len(_SIGNS.findall(text)) + 0.4 * len(_LINES.findall(text))
    if not text.isascii():
        found += 1.5 * len(_ACCENTED.findall(text))
        found += sum(weight * len(letters.findall(text)) for letters, weight in _SCRIPTS.items())
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

"""The words of a fault: `cut=5`, `status=529 retry-after=3 times=1`. One grammar for the configuration, a request's
header and cassettes. Pure; must not know what a fault does to an answer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from proxy.errors import UsageError

HEADER = "x-wiretape-fault"

_NUMBER = "(?P<number>[0-9]{1,9})"
_COUNT = "(?P<number>[1-9][0-9]{0,8})"
_TIME = r"(?P<amount>[0-9]{1,6}(?:\.[0-9]{1,6})?)(?P<unit>ms|s|m|h)?"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# Each word: the form of its value, and what is said where it has another.
_DEEDS = {
    "cut": (_NUMBER, "the number of a chunk, from 0, such as cut=5"),
    "reset": (_NUMBER, "the number of a chunk, from 0, such as reset=2"),
    "stall": (f"{_NUMBER}(?::{_TIME})?", "the number of a chunk, from 0, and for how long unless for ever: stall=3:2s"),
    "slow": (_COUNT, "bytes a second, such as slow=200"),
    "split": (f"(?P<what>utf8|line)(?::{_NUMBER})?", "utf8 or line, and the number of one unless each: split=line:3"),
    "status": ("(?P<number>[45][0-9]{2})", "a status from 400 to 599, such as status=529"),
    "drop": (_NUMBER, "the number of an event, from 0, such as drop=4"),
    "repeat": (_NUMBER, "the number of an event, from 0, such as repeat=4"),
}
_TERMS = {
    "retry-after": (_TIME, "seconds, such as retry-after=3"),
    "every": (_COUNT, "a number: of so many requests the first is hit, such as every=2"),
    "times": (_COUNT, "how many requests are hit at most, such as times=1"),
}
_FORMS = _DEEDS | _TERMS
_LIST = (
    "the faults are cut=K, reset=K, stall=K, stall=K:TIME, slow=BYTES, split=utf8, split=line, status=CODE, drop=K and "
    "repeat=K, and with them go retry-after=SECONDS, every=N and times=N"
)
_MOST_WORDS = 16
_SHOWN = 40  # characters of a wrong word


class BadFault(UsageError):
    """Words that are no fault, or one that the answer gives no room for; the text is one sentence."""


class Deed(NamedTuple):
    """One thing that is done to an answer, by its `name`; `word` is how it was written.

    `number`: of a chunk, an event, a line or a character, from 0 (None: each); bytes a second; a status. `seconds`: how
    long a stall is, infinite unless told. `what` is split.
    """

    word: str
    name: str
    number: int | None
    seconds: float = math.inf
    what: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to an answer, one deed after another; nothing at all is a fault too, it stands for `none`.

    Of every `every` requests the first is hit, and at most `times` of them. `retry_after` goes with a status, in
    seconds.
    """

    text: str
    deeds: tuple[Deed, ...] = ()
    every: int = 1
    times: int | None = None
    retry_after: float | None = None

    def hits(self, before: int) -> bool:
        """Whether it hits a request, so many having been there before."""
        turn, rest = divmod(before, self.every)
        return bool(self.deeds) and not rest and (self.times is None or turn < self.times)

    @property
    def spoils(self) -> bool:
        """Whether a client is left without the answer, and is to ask again."""
        return any(
            deed.name in {"cut", "reset", "status"} or (deed.name == "stall" and deed.seconds == math.inf)
            for deed in self.deeds
        )


@lru_cache(256)
def parse(text: str) -> Fault:
    """The fault that is written so: words apart by blanks, commas or semicolons. Raises BadFault."""
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    if words == ["none"]:
        return Fault("none")
    if len(words) > _MOST_WORDS:
        raise BadFault(f"a fault has at most {_MOST_WORDS} words; {_LIST}")
    deeds: list[Deed] = []
    terms: dict[str, float] = {}
    for word in words:
        name, value = _read(word)
        if name in _DEEDS:
            deeds.append(_deed(word, name, value))
        elif name in terms:
            raise BadFault(f"{name} is said twice in one fault")
        else:
            terms[name] = _seconds(value) if name == "retry-after" else int(value["number"])
    if not deeds:
        raise BadFault(f"{_quoted(text)} has no fault in it; {_LIST}")
    if "retry-after" in terms and not any(deed.name == "status" for deed in deeds):
        raise BadFault("retry-after goes with a status only, such as status=429 retry-after=3")
    times = terms.get("times")
    return Fault(
        " ".join(words),
        tuple(deeds),
        int(terms.get("every", 1)),
        None if times is None else int(times),
        terms.get("retry-after"),
    )


def _read(word: str) -> tuple[str, re.Match[str]]:
    name, _, value = word.partition("=")
    if name not in _FORMS:
        near = get_close_matches(name[:_SHOWN], _FORMS, 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        raise BadFault(f"{_quoted(word)} is no fault{guess}; {_LIST}")
    form, wanted = _FORMS[name]
    found = re.fullmatch(form, value)
    if found is None:
        raise BadFault(f"{_quoted(word)} is no fault: {name} takes {wanted}")
    return name, found


def _deed(word: str, name: str, value: re.Match[str]) -> Deed:
    said = value.groupdict()
    number = said.get("number")
    seconds = _seconds(value) if said.get("amount") else math.inf
    return Deed(word, name, None if number is None else int(number), seconds, said.get("what", ""))


def _seconds(value: re.Match[str]) -> float:
    return float(value["amount"]) * _SECONDS[value["unit"] or "s"]


def _quoted(word: str) -> str:
    return repr(word if len(word) <= _SHOWN else word[:_SHOWN] + "…")

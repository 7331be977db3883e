"""Reads cassettes. Whatever is torn, edited or foreign is told with the number of its line. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from proxy.errors import UsageError
from proxy.exchange import WireEnd
from proxy.replay.answer import Head
from proxy.replay.cassette import (
    CODED,
    CRLF,
    FORMAT,
    OPEN,
    PLAIN_RULES,
    Chunks,
    Headers,
    Track,
    checksum,
    unescaped,
)
from proxy.replay.fault_words import BadFault, parse
from proxy.replay.match import NO_RULES, Matcher, Rules

_FIRST = re.compile(r"wiretape cassette (\d+)(?: \(wiretape ([\w.+-]{1,32})\))?")
_BEGIN = re.compile(r"== (\d+) ([0-9a-f-]{36})")
_END = re.compile(r"== end (\d+)")
_ENDS = {end.name.lower(): end for end in WireEnd}


NumberedLines = Iterator[tuple[int, str]]
STEPS: dict[int, Callable[[NumberedLines], NumberedLines]] = {}
"""Format -> what makes lines of the next format of its own, behind the first: so later versions read earlier ones.
A line keeps the number that it has in the file."""


class BadCassette(UsageError):
    """A line that cannot be understood; the text names it."""


class Cassette(NamedTuple):
    """Exchanges, and what does not count when they are looked for."""

    tracks: list[Track]
    rules: Rules


def read(lines: Iterable[str]) -> Cassette:
    """A cassette, from its lines without their ends. Raises BadCassette."""
    return _Reader(lines).read()


def read_file(path: Path) -> Cassette:
    """A cassette. Raises UsageError for a file that cannot be read, for a bad one with the line."""
    try:
        # Only LF ends a line; what else looks like an end belongs to the text.
        with path.open(encoding="utf-8", newline="\n") as lines:
            return read(lines)
    except BadCassette as error:
        raise UsageError(f"{path}, {error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no cassette: it is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from None


class _Body:
    """One side's bytes, and the line that they began in."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.parts: list[bytes] = []


class _Reader:
    def __init__(self, lines: Iterable[str]) -> None:
        self._lines: NumberedLines = enumerate(lines, 1)
        self._at = 0
        self._rules = NO_RULES
        self._found: list[Track] = []
        self._bodies: list[dict[str, _Body]] = []
        self._timed: set[tuple[int, str]] = set()

    def read(self) -> Cassette:
        self._first()
        for line in self._rest():
            if line == "== times":
                break
            begins = _BEGIN.fullmatch(line)
            if begins is not None:
                self._begin(int(begins[1]), begins[2])
            elif line:
                self._line(line)
        else:
            raise self._bad("the cassette is cut off: its times are missing")
        self._times()
        return Cassette(self._found, self._rules)

    def _bad(self, problem: str, line: int | None = None) -> BadCassette:
        return BadCassette(f"line {self._at if line is None else line}: {problem}")

    def _rest(self) -> Iterator[str]:
        for number, line in self._lines:
            self._at = number
            yield line.removesuffix("\n")

    def _first(self) -> None:
        line = next(self._rest(), "")
        found = _FIRST.fullmatch(line)
        if found is None:
            raise self._bad("this is no cassette: its first words would be wiretape cassette")
        version = int(found[1])
        if version > FORMAT:
            needed = f"wiretape {found[2]} or later" if found[2] else "a later version of wiretape"
            raise self._bad(f"this is format {version} of cassettes: {needed} reads it")
        for step in range(version, FORMAT):
            if step not in STEPS:
                raise self._bad(f"no version of wiretape wrote format {version} of cassettes")
            self._lines = STEPS[step](self._lines)

    # What was said

    def _begin(self, number: int, key: str) -> None:
        if number != len(self._found) + 1:
            raise self._bad(f"exchange {len(self._found) + 1} is expected here, not {number}")
        try:
            track = Track(UUID(key), "", "", "", "", "", 0, -1, WireEnd.UPSTREAM_END)
        except ValueError:
            raise self._bad(f"{key} is no id of an exchange") from None
        self._found.append(track)
        self._bodies.append({})

    def _line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if not self._found and word != "rule":
            raise self._bad("an exchange must begin before this: `== 1` and its id")
        try:
            if not self._found:
                self._rules = with_rule(self._rules, rest)
                return
            track = self._found[-1]
            if word in {">", "<"}:
                self._head(track, word, rest)
            elif word in {">+", "<+"}:
                (track.request_trailers if word == ">+" else track.trailers).append(_header(rest))
            elif word[:1] in {">", "<"} and len(word) == 2:
                self._body(word[0], word[1], rest)
            else:
                self._word(track, word, rest)
        except ValueError as error:
            raise self._bad(str(error)) from None

    def _word(self, track: Track, word: str, rest: str) -> None:
        if word == "upstream":
            track.upstream, track.dialect = map(unescaped, _two(rest))
        elif word == "session":
            track.session = unescaped(rest)
        elif word == "tag":
            name, equals, value = rest.partition("=")
            if not equals:
                raise ValueError("a tag is written NAME=VALUE")
            track.tags.append((unescaped(name), unescaped(value)))
        elif word == "fault":
            _fault(track, unescaped(rest))
        elif word == "ended":
            end, _, error = rest.partition(" ")
            if end not in _ENDS:
                raise ValueError(f"an exchange ends as one of {', '.join(_ENDS)}")
            track.wire_end, track.error = _ENDS[end], unescaped(error) if error else None
        else:
            raise ValueError("no line of a cassette begins so")

    def _head(self, track: Track, mark: str, rest: str) -> None:
        if mark == ">" and not track.method:
            method, target, version = [*rest.split(" "), "", "", ""][:3]
            if not (method and target and version.startswith("HTTP/")) or rest.count(" ") != 2:
                raise ValueError("a request begins with its method, its target and HTTP/ with a version")
            track.method, track.target = unescaped(method), unescaped(target)
            track.version = unescaped(version.removeprefix("HTTP/"))
        elif mark == ">":
            track.headers.append(_header(rest))
        elif re.match(r"\d{3}(?: |$)", rest):
            track.heads.append(Head(0, int(rest[:3]), unescaped(rest[4:]), []))
        elif not track.heads:
            raise ValueError("a response begins with its status")
        else:
            list_of(track.heads[-1]).append(_header(rest))

    def _body(self, side: str, kind: str, text: str) -> None:
        body = self._bodies[-1].setdefault(side, _Body(self._at))
        if kind == CODED:
            try:
                body.parts.append(base64.b64decode(text, validate=True))
            except binascii.Error:
                raise ValueError("this is no base64") from None
        elif kind in {side, CRLF, OPEN}:
            end = {side: b"\n", CRLF: b"\r\n", OPEN: b""}[kind]
            body.parts.append(text.encode() + end)
        else:
            raise ValueError("no line of a cassette begins so")

    # When it was said

    def _times(self) -> None:
        for line in self._rest():
            ends = _END.fullmatch(line)
            if ends is not None:
                break
            self._time(line)
        else:
            raise self._bad("the cassette is cut off: its last line is missing")
        if int(ends[1]) != len(self._found):
            raise self._bad(f"{ends[1]} exchanges are said to be there, and there are {len(self._found)}")
        for number, bodies in enumerate(self._bodies, 1):
            if self._found[number - 1].end_us < 0:
                raise self._bad(f"the times of exchange {number} are missing")
            for side, body in bodies.items():
                if (number, side) not in self._timed:
                    raise self._bad(f"exchange {number} has a body without times", body.line)

    def _time(self, line: str) -> None:
        number, word, *words = [*line.split(" "), ""]
        words = [each for each in words if each]
        if not number.isdecimal() or not 1 <= int(number) <= len(self._found):
            raise self._bad("times begin with the number of their exchange")
        track, place = self._found[int(number) - 1], int(number)
        try:
            if word == "began" and len(words) == 3 and words[1] == "ended":
                track.started_us, track.end_us = _time_of(words[0]), int(words[2])
            elif word == ">":
                track.request = self._chunks(place, word, words)
            elif word == "<":
                heads = len(track.heads)
                times = zip(track.heads, words[:heads], strict=True)
                track.heads = [Head(int(at_us), head.status, head.reason, head.headers) for head, at_us in times]
                track.response = self._chunks(place, word, words[heads:])
            else:
                raise ValueError
        except ValueError:
            raise self._bad("these times cannot be understood") from None

    def _chunks(self, number: int, side: str, words: list[str]) -> Chunks:
        self._timed.add((number, side))
        body = self._bodies[number - 1].get(side)
        whole = b"" if body is None else b"".join(body.parts)
        if not words and not whole:
            return []
        *sizes, crc, said = words
        if crc != "crc":
            raise ValueError
        found: Chunks = []
        at = 0
        for each in sizes:
            at_us, _, size = each.partition(":")
            found.append((int(at_us), whole[at : at + int(size)]))
            at += int(size)
        if at != len(whole) or checksum(found) != int(said, 16):
            name = "request" if side == ">" else "response"
            line = self._at if body is None else body.line
            raise self._bad(f"the {name} of exchange {number}, which begins here, is not what was recorded", line)
        return found


def _time_of(text: str) -> int:
    """Microseconds since 1970."""
    if text.lstrip("-").isdecimal():
        return int(text)
    began = datetime.fromisoformat(text)
    return int(began.timestamp()) * 1_000_000 + began.microsecond


def list_of(head: Head) -> Headers:
    """The headers of a head that is being read."""
    assert isinstance(head.headers, list)
    return head.headers


def _fault(track: Track, text: str) -> None:
    if track.fault is not None:
        raise ValueError("an exchange has one fault; write all its words in one line")
    try:
        parse(text)
    except BadFault as error:
        raise ValueError(str(error)) from None
    track.fault = text


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise ValueError("a header is written NAME: VALUE")
    return unescaped(name), unescaped(value.removeprefix(" "))


def with_rule(rules: Rules, text: str) -> Rules:
    """The rules with one more, as a cassette has it. Raises ValueError."""
    name, _, rest = text.partition(" ")
    pattern, _, replacement = rest.partition(" ")
    if not pattern or (name != "normalise" and name not in PLAIN_RULES):
        raise ValueError(f"a rule is one of {', '.join(PLAIN_RULES)} and normalise, and a value")
    value = (unescaped(pattern), unescaped(replacement)) if name == "normalise" else unescaped(rest)
    one: dict[str, Any] = {name: (value,)}
    more = replace(NO_RULES, **one)
    try:
        Matcher(more)  # or it would be told only when it is played
    except UsageError as error:
        raise ValueError(str(error)) from None
    return rules.with_more(more)


def _two(text: str) -> tuple[str, str]:
    one, blank, other = text.partition(" ")
    if not blank:
        raise ValueError("an upstream is written NAME DIALECT")
    return one, other

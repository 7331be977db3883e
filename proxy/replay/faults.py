"""Faults from real captures: a recorded answer becomes one that is cut, slow, broken, refused. Pure: Answer -> Answer.

Deeds are done one after another, each to what the one before it left. Must not know how an answer is played, nor which
request is hit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

from proxy.interpret.body import decoder
from proxy.interpret.gathering import content_type
from proxy.interpret.headers import joined, value_of
from proxy.interpret.response import LINES
from proxy.interpret.spans import spans
from proxy.replay.answer import Answer, Head
from proxy.replay.fault_words import BadFault, Deed, Fault
from proxy.replay.refusals import refusal

APART = 0.002
"""Seconds between two writes that must not arrive as one; less where there are many, so that all of them take a second
at most."""

_TICK = 0.01  # seconds that a slow answer waits at least, if it waits: timers are no finer than a tenth of it
_PER_SECOND = 10  # pieces of a slow answer
_MOST_PIECES = 10_000
_BODILESS = frozenset((204, 304))
_SWITCHED = 101

# A character of several bytes, in UTF-8.
_WIDE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_LINE = re.compile(rb"[^\r\n]+")


class _Piece(NamedTuple):
    """A chunk, and the seconds that are waited before it."""

    at_us: int
    data: bytes
    wait_s: float = 0.0


def faulty(answer: Answer, fault: Fault, *, bodiless: bool = False) -> Answer:
    """The answer with the fault in it. `bodiless`: the request was a HEAD.

    Raises BadFault where there is no room for it: a chunk or an event that is not there, a body that is no stream.
    """
    for deed in fault.deeds:
        if deed.name == "status":
            answer = _refused(answer, deed, fault.retry_after, bodiless=bodiless)
        else:
            answer = _DEEDS[deed.name](answer, deed)
    return answer


def _pieces(answer: Answer) -> list[_Piece]:
    waits = answer.waits or (0.0,) * (len(answer.chunks) + 1)
    return [_Piece(at_us, data, wait) for (at_us, data), wait in zip(answer.chunks, waits, strict=False)]


def _end_wait(answer: Answer) -> float:
    return answer.waits[-1] if answer.waits else 0.0


def _with(answer: Answer, pieces: Iterable[_Piece], end_wait: float) -> Answer:
    """The answer with these chunks; one without a byte is none, but what was waited before it is still waited."""
    chunks: list[tuple[int, bytes]] = []
    waits: list[float] = []
    owed = 0.0
    for piece in pieces:
        owed += piece.wait_s
        if piece.data:
            chunks.append((piece.at_us, piece.data))
            waits.append(owed)
            owed = 0.0
    waits.append(owed + end_wait)
    return replace(answer, chunks=tuple(chunks), waits=tuple(waits) if any(waits) else ())


def _whole(answer: Answer) -> bytes:
    return b"".join(data for _, data in answer.chunks)


def _place(answer: Answer, deed: Deed) -> int:
    """The number of a chunk, or of the end behind the last: only if a client can tell that there should be one."""
    count = len(answer.chunks)
    assert deed.number is not None
    if deed.number < count or (deed.number == count and (answer.broken or _ends_openly(answer))):
        return deed.number
    numbered = "" if count < 2 else f", numbered from 0 to {count - 1}"
    raise BadFault(f"{deed.word}: the answer has {count} {'chunk' if count == 1 else 'chunks'}{numbered}")


def _ends_openly(answer: Answer) -> bool:
    """Whether only what follows the body tells its end."""
    if not answer.heads or answer.heads[-1].status in _BODILESS:
        return False
    return value_of(answer.heads[-1].headers, "content-length") is None


# How it ends, and when


def _cut(answer: Answer, deed: Deed) -> Answer:
    place, pieces = _place(answer, deed), _pieces(answer)
    pieces.append(_Piece(answer.end_us, b"", _end_wait(answer)))
    cut = _with(answer, pieces[:place], pieces[place].wait_s)
    return replace(cut, trailers=(), broken=True, reset=deed.name == "reset", end_us=pieces[place].at_us)


def _stalled(answer: Answer, deed: Deed) -> Answer:
    place, pieces = _place(answer, deed), _pieces(answer)
    if place == len(pieces):
        return _with(answer, pieces, _end_wait(answer) + deed.seconds)
    pieces[place] = pieces[place]._replace(wait_s=pieces[place].wait_s + deed.seconds)
    return _with(answer, pieces, _end_wait(answer))


def _slow(answer: Answer, deed: Deed) -> Answer:
    rate, total = deed.number or 1, len(_whole(answer))
    if not total:
        raise BadFault(f"{deed.word}: the answer has no body")
    size = max(1, rate // _PER_SECOND, -(-total // _MOST_PIECES))
    found: list[_Piece] = []
    owed = 0.0
    for piece in _pieces(answer):
        for at in range(0, len(piece.data), size):
            part = piece.data[at : at + size]
            owed += len(part) / rate
            paid, owed = (owed, 0.0) if owed >= _TICK else (0.0, owed)
            found.append(_Piece(piece.at_us, part, paid if at else paid + piece.wait_s))
    return _with(answer, found, _end_wait(answer) + owed)


# What is cut otherwise


def _split(answer: Answer, deed: Deed) -> Answer:
    answer = _plain(answer, deed)
    body = _whole(answer)
    if deed.what == "utf8":
        places = [found.start() + 1 for found in _WIDE.finditer(body)]
        things = "characters of several bytes"
    else:
        # In the middle; what is no longer than a byte has none.
        places = [found.start() + len(found[0]) // 2 for found in _LINE.finditer(body) if len(found[0]) > 1]
        things = "lines of several bytes"
    if not places or (deed.number is not None and deed.number >= len(places)):
        raise BadFault(f"{deed.word}: the answer has {_numbered(len(places), things)}")
    chosen = places if deed.number is None else [places[deed.number]]
    return _with(answer, _apart(_pieces(answer), chosen), _end_wait(answer))


def _apart(pieces: list[_Piece], places: list[int]) -> list[_Piece]:
    """The pieces cut at places of the body, in their order; what is behind each is written by itself."""
    apart = min(APART, 1 / len(places))
    found: list[_Piece] = []
    waiting = iter([*places, -1])
    place, begin = next(waiting), 0
    for piece in pieces:
        end, at = begin + len(piece.data), 0
        wait = piece.wait_s
        while begin <= place < end:
            if place - begin > at:
                found.append(_Piece(piece.at_us, piece.data[at : place - begin], wait))
                wait = 0.0
            wait, at, place = wait + apart, place - begin, next(waiting)
        found.append(_Piece(piece.at_us, piece.data[at:], wait))
        begin = end
    return found


# What is said otherwise


def _dropped(answer: Answer, deed: Deed) -> Answer:
    answer, (start, end) = _event(answer, deed)
    found, begin = [], 0
    for piece in _pieces(answer):
        before, behind = max(0, start - begin), max(0, end - begin)
        found.append(piece._replace(data=piece.data[:before] + piece.data[behind:]))
        begin += len(piece.data)
    return _measured(_with(answer, found, _end_wait(answer)))


def _repeated(answer: Answer, deed: Deed) -> Answer:
    answer, (start, end) = _event(answer, deed)
    event = _whole(answer)[start:end]
    if content_type(answer.heads[-1].headers).startswith(LINES) and not event.endswith(b"\n"):
        event = b"\n" + event  # the last of lines may lack its end
    pieces = _pieces(answer)
    ends = list(accumulate(len(piece.data) for piece in pieces))
    number = next(number for number, at in enumerate(ends) if at >= end)
    piece = pieces[number]
    behind = end - (ends[number] - len(piece.data))
    pieces[number] = piece._replace(data=piece.data[:behind] + event + piece.data[behind:])
    return _measured(_with(answer, pieces, _end_wait(answer)))


def _event(answer: Answer, deed: Deed) -> tuple[Answer, tuple[int, int]]:
    """The answer without content-encoding, and where the event is in it."""
    answer = _plain(answer, deed)
    headers = answer.heads[-1].headers if answer.heads else ()
    switched = bool(answer.heads) and answer.heads[-1].status == _SWITCHED
    found = None if switched else spans(headers, _whole(answer))
    if found is None:
        kind = "another protocol" if switched else content_type(headers) or "of no content-type"
        raise BadFault(f"{deed.word}: the answer is {kind}, and no stream of events, lines or messages")
    assert deed.number is not None
    if deed.number >= len(found):
        raise BadFault(f"{deed.word}: the answer has {_numbered(len(found), 'events')}")
    return answer, found[deed.number]


def _plain(answer: Answer, deed: Deed) -> Answer:
    """The answer with its content-encoding undone: what is to be changed in it must be seen. Raises BadFault."""
    coding = joined(answer.heads[-1].headers, "content-encoding") if answer.heads else None
    if coding is None:
        return answer
    decoding = decoder(coding)
    pieces = [piece._replace(data=decoding.feed(piece.data)) for piece in _pieces(answer)]
    rest = decoding.finish()
    if decoding.problem is not None and not answer.broken:
        raise BadFault(f"{deed.word}: the answer's body cannot be looked into: {decoding.problem}")
    if rest:
        pieces.append(_Piece(answer.end_us, rest))
    return _measured(_with(_with_headers(answer, {"content-encoding": None}), pieces, _end_wait(answer)))


def _measured(answer: Answer) -> Answer:
    """With the length of its body in its head, if one is there."""
    if value_of(answer.heads[-1].headers, "content-length") is None:
        return answer
    return _with_headers(answer, {"content-length": str(len(_whole(answer)))})


def _with_headers(answer: Answer, values: dict[str, str | None]) -> Answer:
    """Headers of the final head with other values, None: without them."""
    head = answer.heads[-1]
    changed = [(name, values.get(name.lower(), value)) for name, value in head.headers]
    kept = [(name, value) for name, value in changed if value is not None]
    return replace(answer, heads=(*answer.heads[:-1], replace(head, headers=kept)))


def _numbered(count: int, things: str) -> str:
    return f"{count or 'no'} {things}" + (f", numbered from 0 to {count - 1}" if count else "")


def _refused(answer: Answer, deed: Deed, retry_after: float | None, *, bodiless: bool) -> Answer:
    """In its place the provider's own error."""
    recorded = answer.heads[-1] if answer.heads else Head(answer.end_us, 0, "", ())
    status = deed.number or 0
    said = refusal(answer.dialect, status, retry_after, recorded.headers)
    return replace(
        answer,
        heads=(Head(recorded.at_us, status, said.reason, said.headers),),
        chunks=() if bodiless else ((recorded.at_us, said.body),),
        trailers=(),
        broken=False,
        reset=False,
        end_us=recorded.at_us,
        sent=(),
        waits=(),
    )


_DEEDS: dict[str, Callable[[Answer, Deed], Answer]] = {
    "cut": _cut,
    "reset": _cut,
    "stall": _stalled,
    "slow": _slow,
    "split": _split,
    "drop": _dropped,
    "repeat": _repeated,
}

"""One entry of an HTTP Archive as an exchange that is put into a store: of ours exactly, of a browser as far as it
tells. What it does not tell is missing, never made up; credentials are taken out by a guard. Must not know settings.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode
from uuid import UUID

from proxy.exchange import Side, WireEnd
from proxy.interpret.websocket import frame
from proxy.replay.answer import Head
from proxy.replay.cassette import Chunks, Headers, Track
from proxy.replay.har_places import Place, Places
from proxy.replay.shelf import Shelved, shelved
from proxy.store.names import first_id
from proxy.store.rows import GapRow
from proxy.wire.interface import RawHeaders

NOT_THERE = "archive"
"""The reason of a gap: the archive tells of more bytes than it holds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST = 2**62
_FINGERPRINT = re.compile("[0-9a-f]{16}")
_ENDS = {end.name.lower(): end for end in WireEnd}
_WINDOWS_1252 = {ord(char): octet for octet in range(128, 160) if (char := bytes((octet,)).decode("cp1252", "ignore"))}
_LEFT = re.compile("ABORTED|CANCELLED|CANCELED")


class Redacts(Protocol):
    """What takes credentials out of heads, as forward does before it records."""

    def headers(self, headers: RawHeaders) -> Headers: ...
    def target(self, target: bytes) -> bytes: ...
    def text(self, text: str) -> str: ...
    def credential(self, headers: RawHeaders, target: bytes) -> str | None: ...


class Masks(Protocol):
    """What masks keys in one body, chunk by chunk; `masked` tells whether any was there."""

    masked: bool

    def feed(self, chunk: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Guard:
    """`mask` makes what a body is passed through."""

    redactor: Redacts
    mask: Callable[[], Masks]


class Bad(ValueError):
    """What an entry has not, or has in a way that cannot be understood."""


class _Body(NamedTuple):
    """`missing`: bytes that are not in the archive. `coded`: these are the bytes of the wire, not decoded ones."""

    data: bytes
    missing: int = 0
    coded: bool = False


def exchange(entry: dict[str, Any], text: bytes, places: Places, guard: Guard) -> Shelved | None:
    """The exchange of an entry, whose JSON is `text`; None where nobody known was asked. Raises Bad."""
    own, request, response = _object(entry, "_wiretape"), _object(entry, "request"), _object(entry, "response")
    url = _text(request, "url")
    if not url or not _text(request, "method"):
        raise Bad("its request has no method, or no url")
    place = places.find(url, _text(own, "upstream") or None)
    if _text(own, "target") and _text(own, "upstream"):  # where it was recorded they know best who was asked
        place = Place(_text(own, "upstream"), _text(own, "dialect"), _text(own, "target"))
    if place is None:
        return None
    started = _started(entry, own)
    track = Track(
        _id(own, started, text),
        place.upstream,
        place.dialect,
        _text(request, "method"),
        guard.redactor.target(_octets(place.target)).decode("latin-1"),
        _version(request),
        started,
        0,
        _end(own, response),
    )
    sent, head, end = _times(entry)
    track.end_us = end
    track.error = _error(own, response, guard)
    track.session = guard.redactor.text(_text(own, "session")) or None
    track.tags = [(guard.redactor.text(name), guard.redactor.text(value)) for name, value in _pairs(own.get("tags"))]
    asked, answered = _asked(request, own), _answered(response, own)
    raw = _headers(request)
    track.headers = guard.redactor.headers(_fitting(raw, asked))
    status = _number(response, "status")
    if 100 <= status <= 999:
        headers = guard.redactor.headers(_fitting(_headers(response), answered))
        track.heads = [Head(head, int(status), _text(response, "statusText"), headers)]
    masks = (guard.mask(), guard.mask())
    track.request = _masked(_chunks(own, "request", asked, sent), asked, masks[0])
    track.response = _masked(_chunks(own, "response", answered, end), answered, masks[1])
    _add_messages(entry, track)
    found = shelved(track)
    found.row.request_sent_us = sent or None
    found.row.masked = int(any(mask.masked for mask in masks))
    found.row.credential = _credential(own, guard.redactor, raw, _octets(place.target))
    _add_gaps(found, asked, answered)
    return found


# What an entry says, whatever it is


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = value.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _number(value: dict[str, Any], name: str) -> float:
    """A number that can be reckoned with; -1, which archives write for what is not known, for any other."""
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not -_MOST < found < _MOST:
        return -1
    return -1 if math.isnan(found) else found


def _pairs(found: Any) -> Headers:
    """[name, value] pairs."""
    pairs = found if isinstance(found, list) else []
    return [(each[0], each[1]) for each in pairs if isinstance(each, list) and list(map(type, each)) == [str, str]]


def _octets(text: str) -> bytes:
    """What was text on the wire, whichever way the archive's writer read it."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


# Who, when, how


def _started(entry: dict[str, Any], own: dict[str, Any]) -> int:
    """Microseconds since 1970."""
    exact = own.get("started_us")
    if isinstance(exact, int) and not isinstance(exact, bool) and 0 <= exact < _MOST:
        return exact
    try:
        found = datetime.fromisoformat(_text(entry, "startedDateTime"))
        return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise Bad("its startedDateTime is no time of ISO 8601") from None


def _id(own: dict[str, Any], started_us: int, text: bytes) -> UUID:
    """Ours has one; another gets the same one each time that it is read."""
    try:
        return UUID(_text(own, "id"))
    except ValueError:
        noise = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 2
        return UUID(int=first_id(min(max(started_us, 0), 2**47 * 1000)).int | noise)


def _version(request: dict[str, Any]) -> str:
    """`HTTP/1.1`, `http/2.0`, `h2`, `h3-29`."""
    found = re.search(r"(?:http/|h)([1-3](?:\.[0-9])?)", _text(request, "httpVersion").lower())
    return "1.1" if found is None else found[1].removesuffix(".0") if found[1] != "1.0" else "1.0"


def _times(entry: dict[str, Any]) -> tuple[int, int, int]:
    """When the request was sent, when the head came, and the end, in microseconds since the exchange began."""
    timings = _object(entry, "timings")
    before = sum(max(_number(timings, name), 0) for name in ("blocked", "dns", "connect", "send"))
    head = before + max(_number(timings, "wait"), 0)
    end = head + max(_number(timings, "receive"), 0)
    if not timings:
        end = max(_number(entry, "time"), 0)
    sent_us, head_us, end_us = (round(min(each, 1e12) * 1000) for each in (before, head, end))
    return sent_us, head_us, end_us


def _end(own: dict[str, Any], response: dict[str, Any]) -> WireEnd:
    known = _ENDS.get(_text(own, "wire_end"))
    if known is not None:
        return known
    error = _text(response, "_error")
    if not error and _number(response, "status") >= 100:
        return WireEnd.UPSTREAM_END
    return WireEnd.CLIENT_LEFT if _LEFT.search(error.upper()) else WireEnd.UPSTREAM_ERROR


def _error(own: dict[str, Any], response: dict[str, Any], guard: Guard) -> str | None:
    said = _text(own, "error") or _text(response, "_error")
    return guard.redactor.text(said) or None


def _credential(own: dict[str, Any], redactor: Redacts, headers: RawHeaders, target: bytes) -> str | None:
    known = _text(own, "credential")
    return known if _FINGERPRINT.fullmatch(known) else redactor.credential(headers, target)


# Heads and bodies


def _headers(message: dict[str, Any]) -> RawHeaders:
    """Without what HTTP/2 has in their place for the first line; several that were joined by line ends apart again."""
    found = []
    for each in _objects(message, "headers"):
        name = _octets(_text(each, "name"))
        if name and not name.startswith(b":"):
            found += [(name, _octets(value)) for value in _text(each, "value").split("\n")]
    return found


def _fitting(headers: RawHeaders, body: _Body) -> RawHeaders:
    """Without what is not true of the body as it is here: that it is coded, and how long it was so."""
    if body.coded:
        return headers
    size = b"%d" % (len(body.data) + body.missing)
    return [
        (name, value)
        for name, value in headers
        if name.lower() != b"content-encoding" and (name.lower() != b"content-length" or value == size)
    ]


def _is_coded(message: dict[str, Any]) -> bool:
    codings = [value for name, value in _headers(message) if name.lower() == b"content-encoding"]
    return any(coding.strip().lower() not in (b"", b"identity") for coding in codings)


def _own_body(message: dict[str, Any], own: dict[str, Any], side: str, data: bytes) -> _Body:
    """A body of ours: its wire's bytes, where the archive has it decoded, and what was not recorded of it."""
    coded = own.get(f"{side}_coded")
    wire = isinstance(coded, str) and _is_coded(message)
    if wire:
        data = _unpacked(str(coded), f"the {side}")
    whole = data and not _number(own, "unrecorded_bytes") > 0
    missing = 0 if whole else max(int(_number(message, "bodySize")) - len(data), 0)
    return _Body(data, missing, coded=wire)


def _asked(request: dict[str, Any], own: dict[str, Any]) -> _Body:
    posted = _object(request, "postData")
    data = _bytes_of(posted, "_encoding", "the request")
    if own:
        return _own_body(request, own, "request", data)
    if not data and "urlencoded" in _text(posted, "mimeType"):
        pairs = [(_text(each, "name"), _text(each, "value")) for each in _objects(posted, "params")]
        data = urlencode(pairs, errors="replace").encode()
    return _Body(data, 0 if data else int(max(_number(request, "bodySize"), 0)))


def _answered(response: dict[str, Any], own: dict[str, Any]) -> _Body:
    content = _object(response, "content")
    if own:
        return _own_body(response, own, "response", _bytes_of(content, "encoding", "the response"))
    data = _text_of(response)
    # The size of the content is of what is decoded, and the best that is known; the others are of what was sent.
    sizes = (_number(content, "size"), _number(response, "bodySize"), _number(response, "_transferSize"))
    return _Body(data, 0 if data else int(next((size for size in sizes if size >= 0), 0)))


def _bytes_of(content: dict[str, Any], coding: str, whose: str) -> bytes:
    text = _text(content, "text")
    if _text(content, coding).lower() == "base64":
        return _unpacked(text, whose)
    return text.encode(errors="replace")


def _text_of(response: dict[str, Any]) -> bytes:
    """The content's bytes. Chromium reads text of no named charset as windows-1252, whatever it is; that is found out
    by how many bytes there were."""
    content = _object(response, "content")
    data, text = _bytes_of(content, "encoding", "the response"), _text(content, "text")
    if text.isascii() or _text(content, "encoding"):
        return data
    lengths = [] if _is_coded(response) else [v for name, v in _headers(response) if name.lower() == b"content-length"]
    size = int(lengths[0]) if lengths and re.fullmatch(rb"[0-9]{1,18}", lengths[0]) else _number(content, "size")
    octets = text.translate(_WINDOWS_1252)
    wrong = size != len(data) and size == len(octets) and max(map(ord, octets)) < 256
    return octets.encode("latin-1") if wrong else data


def _unpacked(text: str, whose: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Bad(f"{whose} is no base64") from None


def _chunks(own: dict[str, Any], side: str, body: _Body, at_us: int) -> Chunks:
    """As they came, where that was recorded; else all of it at once."""
    known = _objects(own, f"{side}_chunks")
    if not known:
        return [(at_us, body.data)] if body.data else []
    found, at = [], 0
    for each in known:
        size, came = each.get("size"), each.get("at_us")
        if type(size) is not int or type(came) is not int or size < 0 or not 0 <= came < _MOST:
            raise Bad(f"the chunks of its {side} cannot be understood")
        found.append((came, body.data[at : at + size]))
        at += size
    if at != len(body.data):
        raise Bad(f"the chunks of its {side} have {at} bytes, and there are {len(body.data)}")
    return found


def _masked(chunks: Chunks, body: _Body, mask: Masks) -> Chunks:
    """With keys masked; what is compressed is not looked into, here as there."""
    return chunks if body.coded else [(at_us, mask.feed(data)) for at_us, data in chunks]


def _add_messages(entry: dict[str, Any], track: Track) -> None:
    """The messages of a WebSocket, as Chrome writes them, become frames."""
    began = track.started_us / 1_000_000
    for each in _objects(entry, "_webSocketMessages"):
        binary = _number(each, "opcode") == 2
        data = _unpacked(_text(each, "data"), "a message") if binary else _text(each, "data").encode(errors="replace")
        at_us = round(min(max(_number(each, "time") - began, 0), 1e9) * 1_000_000)
        side = track.request if _text(each, "type") == "send" else track.response
        side.append((max(at_us, side[-1][0] if side else 0), frame(data, binary=binary)))
        track.end_us = max(track.end_us, at_us)


def _add_gaps(found: Shelved, *bodies: _Body) -> None:
    """Say how much of the bodies is not there."""
    row, seq = found.row, len(found.heads) + len(found.chunks)
    gaps: list[GapRow] = []
    for side, body in zip((Side.REQUEST, Side.RESPONSE), bodies, strict=True):
        if body.missing:
            gaps.append(GapRow(row.id, seq + len(gaps), row.end_us or 0, side, body.missing, NOT_THERE))
            name = side.name.lower()
            setattr(row, f"{name}_bytes", getattr(row, f"{name}_bytes") + body.missing)
            setattr(row, f"{name}_hash", None)
            row.unrecorded_bytes += body.missing
    found.gaps = gaps

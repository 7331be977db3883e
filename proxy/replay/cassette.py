r"""THE FORMAT of cassettes: exchanges as one text file that people review, compare and keep under version control.

A line's first characters say what it is. Bodies are text where they are text; what chunks they came in, and when, is in
a block of its own at the end, so that a stream that was recorded anew differs where its words do. Rules say what does
not count when a request is looked for. Pure.

    (line 1) wiretape cassette 1 (wiretape 0.1.0)
    rule ignore_json metadata.user_id
    rule normalise \\d{4}-\\d\\d-\\d\\d DAY

    == 1 01a21990-6ea1-7fe3-8c6f-0123456789ab
    upstream openai openai
    tag project=search
    fault cut=5 times=1
    > POST /openai/v1/chat/completions HTTP/1.1
    > Content-Type: application/json
    >~ {"model": "m"}
    < 200 OK
    < Content-Type: text/event-stream
    << data: {"choices": []}
    <<
    <+ x-checksum: 42
    ended upstream_end

    == times
    1 began 2026-11-26T20:00:00.000000Z ended 61000
    1 > 40:14 crc 1a2b3c4d
    1 < 40000 50000:24 60000:1 crc 5e6f7a8b
    == end 1
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from proxy import __version__
from proxy.exchange import WireEnd
from proxy.replay.answer import Head
from proxy.replay.match import NO_RULES, Rules

FORMAT = 1
PLAIN_RULES = ("ignore_json", "ignore_headers", "match_headers")
"""Those that a value is all of."""

Chunks = list[tuple[int, bytes]]
"""Microseconds since the exchange began, and bytes."""

Headers = list[tuple[str, str]]

# Each line of a body by how it ends: with LF (`>>`, `<<`), with CRLF, or not at all; or a piece of it in base64.
CRLF, OPEN, CODED = "^", "~", "="

# What a terminal, or an editor, would obey rather than show; it has no place in a text that people judge by its look.
_HOSTILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]")
_ESCAPED = re.compile("[^ -~]|\\\\")
_CODED_LINE = 57  # bytes, 76 characters
_LAST_DAY = 253_402_300_800  # seconds: the year 10000


@dataclass(slots=True)
class Track:
    """One exchange of a cassette. `target` is the data port's; `heads` are the response's, the last is final; `fault`
    is what it is played with (fault_words.py), for people to write."""

    id: UUID
    upstream: str
    dialect: str
    method: str
    target: str
    version: str
    started_us: int
    end_us: int
    wire_end: WireEnd
    error: str | None = None
    session: str | None = None
    tags: Headers = field(default_factory=list)
    headers: Headers = field(default_factory=list)
    request: Chunks = field(default_factory=list)
    request_trailers: Headers = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    response: Chunks = field(default_factory=list)
    trailers: Headers = field(default_factory=list)
    fault: str | None = None


def lines(tracks: Iterable[Track], rules: Rules = NO_RULES) -> Iterator[str]:
    """The text of a cassette, a line each, without its end. Of the rules all are in it but what is secret."""
    yield f"wiretape cassette {FORMAT} (wiretape {__version__})"
    for name in PLAIN_RULES:
        yield from (f"rule {name} {_token(value)}" for value in getattr(rules, name))
    for pattern, replacement in rules.normalise:
        yield f"rule normalise {_token(pattern)} {_token(replacement)}".rstrip()
    times: list[str] = []
    number = 0
    for number, track in enumerate(tracks, 1):
        yield ""
        yield f"== {number} {track.id}"
        yield from _track(track)
        times += _times(number, track)
    yield ""
    yield "== times"
    yield from times
    yield f"== end {number}"


def _track(track: Track) -> Iterator[str]:
    yield f"upstream {_token(track.upstream)} {_token(track.dialect)}"
    if track.session is not None:
        yield f"session {escaped(track.session)}"
    for name, value in track.tags:
        yield f"tag {_token(name, '=')}={escaped(value)}"
    if track.fault is not None:
        yield f"fault {escaped(track.fault)}"
    yield f"> {_token(track.method)} {_token(track.target)} HTTP/{_token(track.version)}"
    yield from _headers("> ", track.headers)
    yield from _body(">", track.request)
    yield from _headers(">+ ", track.request_trailers)
    for head in track.heads:
        yield f"< {head.status} {escaped(head.reason)}".rstrip()
        yield from _headers("< ", head.headers)
    yield from _body("<", track.response)
    yield from _headers("<+ ", track.trailers)
    error = "" if track.error is None else f" {escaped(track.error)}"
    yield f"ended {track.wire_end.name.lower()}{error}"


def _headers(mark: str, headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in headers:
        yield f"{mark}{_token(name, ':')}: {escaped(value)}"


def _body(mark: str, chunks: Chunks) -> Iterator[str]:
    whole = b"".join(data for _, data in chunks)
    text = _text(whole)
    if text is None:
        for at in range(0, len(whole), _CODED_LINE):
            yield f"{mark}{CODED} {base64.b64encode(whole[at : at + _CODED_LINE]).decode()}"
        return
    *ended, last = text.split("\n")
    for line in ended:
        kind, shown = (CRLF, line[:-1]) if line.endswith("\r") else (mark, line)
        yield f"{mark}{kind} {shown}" if shown else f"{mark}{kind}"
    if last:
        yield f"{mark}{OPEN} {last}"


def _text(data: bytes) -> str | None:
    """The body as text; None where it is none, or none to be shown."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if _HOSTILE.search(text.replace("\r\n", "\n")) else text


def _times(number: int, track: Track) -> Iterator[str]:
    yield f"{number} began {_written(track.started_us)} ended {track.end_us}"
    if track.request:
        yield f"{number} > {_sizes(track.request)}"
    if track.heads or track.response:
        heads = " ".join(str(head.at_us) for head in track.heads)
        yield f"{number} < {heads} {_sizes(track.response)}".replace("  ", " ").rstrip()


def _written(us: int) -> str:
    seconds, rest = divmod(us, 1_000_000)
    if not 0 <= seconds < _LAST_DAY:  # no calendar has it
        return str(us)
    return datetime.fromtimestamp(seconds, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{rest:06d}Z")


def _sizes(chunks: Chunks) -> str:
    if not chunks:
        return ""
    sizes = " ".join(f"{at_us}:{len(data)}" for at_us, data in chunks)
    return f"{sizes} crc {checksum(chunks):08x}"


def checksum(chunks: Chunks) -> int:
    """CRC-32 of a body."""
    found = 0
    for _, data in chunks:
        found = zlib.crc32(data, found)
    return found


def escaped(text: str) -> str:
    """On one line, printable ASCII, to be undone by `unescaped`."""
    return _ESCAPED.sub(_escape, text)


def _token(text: str, parts: str = " ") -> str:
    """As `escaped`, and without what parts words on its line."""
    return "".join(f"\\x{ord(each):02x}" if each in parts else each for each in escaped(text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] == "\\":
        return "\\\\"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_CODE = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


def unescaped(text: str) -> str:
    """What was escaped. Raises ValueError for what `escaped` never writes."""
    if "\\" in _CODE.sub("", text):
        raise ValueError("a backslash stands before something else than a code")
    return _CODE.sub(lambda found: "\\" if found[0] == "\\\\" else chr(int(found[1] or found[2] or found[3], 16)), text)

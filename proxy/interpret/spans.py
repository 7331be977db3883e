"""Where in a body each event of a stream begins and ends: events (SSE), messages (AWS), lines (NDJSON).

Pure. Must not know any provider; what ends an event is for the parsers to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from proxy.interpret.eventstream import EventStreamParser
from proxy.interpret.gathering import content_type
from proxy.interpret.meaning import Pairs
from proxy.interpret.pieces import LineParser
from proxy.interpret.response import AWS, LINES, STREAMED, Parser
from proxy.interpret.sse import SseParser

_SSE_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_LEAST = 16  # bytes of a message of AWS' event stream

Span = tuple[int, int]


def spans(headers: Pairs, body: bytes) -> list[Span] | None:
    """The place of each event, with what stands before it and belongs to none; None for a body that is no stream.

    The body is without content-encoding. What has begun and is not ended is no event.
    """
    kind = content_type(headers)
    if kind == AWS:
        return list(_ended(_messages(body), EventStreamParser()))
    if kind == "text/event-stream" or body.lstrip().startswith(STREAMED):
        return list(_ended(_SSE_LINE.findall(body), SseParser()))
    if kind.startswith(LINES):
        parser = LineParser()
        found = list(_ended(_LINE.findall(body), parser))
        if parser.finish():
            found.append((found[-1][1] if found else 0, len(body)))
        return found
    return None


def _ended(pieces: Iterable[bytes], parser: Parser[object]) -> Iterator[Span]:
    """What the parser finds ended; no piece ends more than one event."""
    start = at = 0
    for piece in pieces:
        at += len(piece)
        if parser.feed(piece):
            yield start, at
            start = at


def _messages(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        size = max(int.from_bytes(body[at : at + 4], "big"), _LEAST)
        yield body[at : at + size]
        at += size

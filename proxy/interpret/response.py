"""Cuts responses into what they consist of: events (SSE, AWS), lines, array elements, one JSON; WebSocket messages.

Pure. Must not know any one provider. Content-types lie: what a body begins with counts as well.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Protocol, TypeVar

from proxy.interpret import headers
from proxy.interpret.body import Decoder, decoder
from proxy.interpret.delivery import Delivery
from proxy.interpret.dialects.base import MAX_WORD
from proxy.interpret.eventstream import EventStreamParser, Message
from proxy.interpret.failures import MAX_MESSAGE, failure_of, failure_of_status
from proxy.interpret.gathering import MAX_JSON, NOT_JSON, Joined, Started, content_type
from proxy.interpret.meaning import Failure, Pieces
from proxy.interpret.pieces import ArrayParser, LineParser
from proxy.interpret.sse import Event, SseParser
from proxy.interpret.values import NotJson, decoded, mapping, string
from proxy.interpret.websocket import FrameParser

SWITCHED = 101

STREAMED = (b"data:", b"event:", b"id:", b"retry:", b":")
AWS = "application/vnd.amazon.eventstream"
LINES = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/x-jsonl",
    "application/stream+json",
)
_PLAIN = ("text/plain", "text/vtt", "application/x-subrip", "text/srt")
_PLAIN_BYTES = 2**20


Cut_co = TypeVar("Cut_co", covariant=True)


class Parser(Protocol[Cut_co]):
    """Cuts bytes. `pending`: something has begun; `problem`: what was left out."""

    problem: str | None

    @property
    def pending(self) -> bool:
        """Whether there is more to come of what has begun."""

    def feed(self, data: bytes) -> Sequence[Cut_co]:
        """What ends in these bytes."""


class Response:
    """Reads one response, and hands over what it consists of."""

    def __init__(self, to: Delivery) -> None:
        self._to = to
        self._chunk = -1  # the number of the one that is being read
        self._at_us = 0  # when it came

    def read(self, status: int) -> None:
        recording = self._to.recording
        coded = decoder(headers.joined(recording.response_headers, "content-encoding"))
        kind = content_type(recording.response_headers)
        pieces = Started(self._pieces(coded))
        if kind not in ("text/event-stream", AWS):  # such a one is what it says from its first byte
            pieces.look()
        first = pieces.beginning
        if kind == AWS:
            self._aws(pieces)
        elif kind == "text/event-stream" or first.startswith(STREAMED):
            self._events(pieces, status)
        elif kind.startswith(LINES) and status < 400:
            self._lines(pieces)
        elif first.startswith(b"[") and self._to.meaning.streaming and status < 400:
            self._array(pieces)
        elif kind.startswith(NOT_JSON) or (first and first[:1] not in b"{["):
            self._other(pieces, kind, status)
        else:
            self._json(pieces, coded, status)

    def _pieces(self, coded: Decoder) -> Iterator[tuple[int, bytes]]:
        at_us = 0
        for at_us, data in self._to.recording.response:
            self._chunk += 1
            for piece in coded.steps(data):
                yield at_us, piece
        rest = coded.finish()
        if rest:
            yield at_us, rest
        if coded.problem is not None:
            self._to.note(f"response: {coded.problem}")

    # One body

    def _json(self, pieces: Started, coded: Decoder, status: int) -> None:
        to, body, at_us = self._to, Joined(), 0
        for at_us, data in pieces:  # noqa: B007 - the last one is wanted
            body.add(data)
        to.chunks(0, max(self._chunk, 0))
        found = json_of(to, body, coded, "response")
        to.parsed = found is not None
        to.meaning.streaming = False
        if status >= 400:
            to.meaning.error = failure_of_status(found, status)
            to.name_request(found)
            to.retry_after()
            if to.dialect is not None:
                to.dialect.read_refusal(found)
            to.parsed = True
        elif found is not None:
            to.body(found, at_us)

    def _other(self, pieces: Started, kind: str, status: int) -> None:
        """A response that is no JSON: text, or a picture, a sound, a file."""
        to = self._to
        to.parsed = True
        if status >= 400:
            text = pieces.beginning[:500].decode("utf-8", "replace") if not kind.startswith(NOT_JSON) else None
            to.meaning.error = failure_of_status({"message": text}, status)
            to.retry_after()
            return
        size, first_us, words = pieces.blanks, None, bytearray()
        plain = kind.startswith(_PLAIN)
        for at_us, data in pieces:
            first_us = at_us if first_us is None else first_us
            size += len(data)
            if plain and len(words) < _PLAIN_BYTES:
                words += data[: _PLAIN_BYTES - len(words)]
        if to.dialect is None or not size:
            return
        to.chunks(0, max(self._chunk, 0))
        if plain:
            to.dialect.read_plain_body(kind, bytes(words), first_us or 0)
        else:
            to.dialect.read_media(kind or "application/octet-stream", size, first_us or 0)

    # Streams

    def _cut(self, pieces: Started, parser: Parser[Cut_co]) -> Iterator[Cut_co]:
        """What the parser cuts out of the body; while one is handled, `at_us` is when its last byte came."""
        self._to.meaning.streaming, self._to.meaning.events = True, 0
        since = 0
        for at_us, data in pieces:
            self._at_us = at_us
            found = parser.feed(data)
            if found:
                self._to.chunks(since, self._chunk)
                since = self._chunk + (not parser.pending)
            yield from found
        self._to.note(parser.problem)

    def _events(self, pieces: Started, status: int) -> None:
        to, parser, meaning = self._to, SseParser(), self._to.meaning
        for event in self._cut(pieces, parser):
            to.event(event, self._at_us)
        parser.finish()
        meaning.comment_lines = parser.comments
        if parser.stray.strip():
            self._stray(bytes(parser.stray), self._at_us)
        elif parser.unfinished:
            to.note("the event stream ends in the midst of an event")
        if status >= 400:
            meaning.error = meaning.error or failure_of_status(None, status)
            meaning.error.status = meaning.error.status or status
            to.retry_after()

    def _stray(self, data: bytes, at_us: int) -> None:
        """Lines that are no event stream's: a bare JSON error, also behind llama.cpp's old field `error:`."""
        to, text = self._to, data.strip()
        try:
            body = decoded(text.removeprefix(b"error:"))
        except NotJson:
            to.note("the event stream has lines that are none of an event stream")
            return
        if text.startswith(b"error:"):
            body = {"error": body}
        failure = failure_of(body)
        if failure is not None:
            to.fail(failure)
        elif not to.meaning.events and type(body) is dict:
            to.parsed, to.meaning.events = True, None
            to.body(body, at_us)

    def _aws(self, pieces: Started) -> None:
        to, parser = self._to, EventStreamParser()
        for message in self._cut(pieces, parser):
            if message.kind == "event":
                to.event(Event(message.name, message.payload), self._at_us)
            else:
                self._exception(message, self._at_us)
        if parser.corrupt:
            to.meaning.terminator = "corrupt"
            to.fail(Failure(type="crc_mismatch", message=parser.problem))
        elif parser.pending:
            to.note("the event stream ends in the midst of a message")

    def _exception(self, message: Message, at_us: int) -> None:
        to = self._to
        assert to.meaning.events is not None
        to.meaning.events += 1
        try:
            said = mapping(decoded(message.payload)) if message.payload else {}
        except NotJson:
            said = {}
        text = message.said or string(said.get("message")) or string(said.get("Message"))
        to.fail(Failure(type=message.name[:MAX_WORD] or message.kind, message=text and text[:MAX_MESSAGE]))
        if to.dialect is not None:
            to.dialect.terminate("error", at_us)

    def _lines(self, pieces: Started) -> None:
        to, parser = self._to, LineParser()
        for line in self._cut(pieces, parser):
            to.event(Event("message", line), self._at_us)
        for line in parser.finish():
            if to.recording.whole:
                to.event(Event("message", line), self._at_us)

    def _array(self, pieces: Started) -> None:
        to, parser = self._to, ArrayParser()
        for element in self._cut(pieces, parser):
            to.event(Event("message", element), self._at_us)
        to.failed = not parser.closed

    # Both directions

    def read_tunnel(self) -> None:
        """What was said in both directions after the switch of protocols, in the order of time."""
        to, recording = self._to, self._to.recording
        if (headers.value_of(recording.response_headers, "upgrade") or "").strip().lower() != "websocket":
            return
        extensions = headers.joined(recording.response_headers, "sec-websocket-extensions")
        to.meaning.streaming, to.meaning.events = True, 0
        client, server = FrameParser(extensions, client=True), FrameParser(extensions)
        since = {client: 0, server: 0}
        both = _numbered(client, recording.request), _numbered(server, recording.response)
        for at_us, number, data, parser in heapq.merge(*both, key=itemgetter(0)):
            found = parser.feed(data)
            if not found:
                continue
            to.chunks(since[parser], number)
            since[parser] = number + (not parser.pending)
            for message in found:
                if message.close is None:
                    to.message(message.data, at_us, sent=parser is client)
        to.note(server.problem)
        to.note(client.problem)
        if to.dialect is not None:
            to.dialect.read_closed()


def _numbered(parser: FrameParser, pieces: Pieces) -> Iterator[tuple[int, int, bytes, FrameParser]]:
    for number, (at_us, data) in enumerate(pieces):
        yield at_us, number, data, parser


def json_of(to: Delivery, body: Joined, coded: Decoder, side: str) -> object:
    """The JSON of a whole body; None, and a problem, where there is none."""
    if coded.problem is not None:
        to.note(f"{side}: {coded.problem}")
    if body.too_large:
        to.note(f"the {side} has more than {MAX_JSON // 2**20} MiB and was not read")
        return None
    if not body.parts:
        return None
    try:
        return decoded(body.joined())
    except NotJson as error:
        to.note(f"the {side} is no JSON: {error}")
        return None

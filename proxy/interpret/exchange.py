"""THE one entry: what a recorded exchange meant. Undoes content-encodings, cuts the body, lets a dialect read it.

Pure. Must not know tables, prices or any one provider. Whatever the bytes are, there is a Meaning; `problem` says what
of it is missing and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from proxy.interpret import headers
from proxy.interpret.body import Decoder, decoder
from proxy.interpret.dialects.base import Dialect
from proxy.interpret.dialects.registry import Found, find, recognised
from proxy.interpret.failures import failure_of, failure_of_status
from proxy.interpret.meaning import Meaning, Recording
from proxy.interpret.pieces import ArrayParser, LineParser
from proxy.interpret.sse import Event, SseParser
from proxy.interpret.usage import conflicts
from proxy.interpret.values import BOM, NotJson, decoded, mapping, string

MAX_JSON = 64 * 2**20
"""Most bytes that a body may have which is one JSON: such a one is held in memory whole."""

_DONE = b"[DONE]"  # to find out that it is no JSON takes as long as an exchange's other events
_ENOUGH = 8  # bytes tell what a body is
_STREAMED = (b"data:", b"event:", b"id:", b"retry:", b":")
_BLANKS = b" \t\r\n"
_BEGINNING = 1024  # bytes of it are kept

_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_NOT_JSON = ("multipart/", "image/", "audio/", "video/", "application/zip", "application/pdf", "text/html")


def interpret(recording: Recording) -> Meaning:
    """What an exchange meant. Does not raise for anything that was recorded."""
    return _Reading(recording).run()


class _Reading:
    def __init__(self, recording: Recording) -> None:
        path, _, _ = recording.target.partition("?")
        self.recording = recording
        self.meaning = Meaning()
        self.found: Found = find(recording.method, path)
        self.dialect = None if self.found.dialect is None else self.found.dialect(self.meaning)
        self.failed = False  # an error in a stream that its dialect did not see
        self.parsed = False  # the response is one JSON, and all of it is there

    def run(self) -> Meaning:
        meaning, recording, route = self.meaning, self.recording, self.found.route
        meaning.model_asked = self.found.model
        if route is not None:
            meaning.operation = route.operation
        meaning.request_id = headers.request_id(recording.response_headers)
        meaning.retry_count = headers.retry_count(recording.request_headers)
        meaning.rate_limits = headers.rate_limits(recording.response_headers)
        self._read_request()
        if route is not None and route.streams is not None:
            meaning.streaming = route.streams
        if recording.status is not None:
            self._read_response(recording.status)
        self._conclude()
        return meaning

    # The request

    def _read_request(self) -> None:
        recording = self.recording
        kind = _content_type(recording.request_headers)
        if self.dialect is None or kind.startswith(_NOT_JSON):
            return
        coded = decoder(headers.joined(recording.request_headers, "content-encoding"))
        body = _Joined()
        for _, data in recording.request:
            for piece in coded.steps(data):
                body.add(piece)
        body.add(coded.finish())
        asked = self._json(body, coded, "request")
        if asked is not None:
            self.dialect.read_request(asked)

    def _json(self, body: _Joined, coded: Decoder, side: str) -> Any:
        """The JSON of a whole body; None, and a problem, where there is none."""
        if coded.problem is not None:
            self._note(f"{side}: {coded.problem}")
        if body.too_large:
            self._note(f"the {side} has more than {MAX_JSON // 2**20} MiB and was not read")
            return None
        if not body.parts:
            return None
        try:
            return decoded(body.joined())
        except NotJson as error:
            self._note(f"the {side} is no JSON: {error}")
            return None

    def _note(self, problem: str) -> None:
        self.meaning.problem = self.meaning.problem or problem

    # The response

    def _read_response(self, status: int) -> None:
        coded = decoder(headers.joined(self.recording.response_headers, "content-encoding"))
        kind = _content_type(self.recording.response_headers)
        pieces = _started(self._pieces(coded), kind)
        first = pieces.beginning
        if kind == "text/event-stream" or first.startswith(_STREAMED):
            self._read_events(pieces, coded, status)
        elif kind.startswith(_LINES):
            self._read_lines(pieces, coded)
        elif first.startswith(b"[") and self.meaning.streaming and status < 400:
            self._read_array(pieces, coded)
        elif kind.startswith(_NOT_JSON) or (first and first[:1] not in b"{["):
            self.parsed = status < 400
            if status >= 400:
                text = first[:500].decode("utf-8", "replace") if not kind.startswith(_NOT_JSON) else None
                self.meaning.error = failure_of_status({"message": text}, status)
                self._retry_after()
                self.parsed = True
        else:
            self._read_json(pieces, coded, status)

    def _pieces(self, coded: Decoder) -> Iterator[tuple[int, bytes]]:
        at_us = 0
        for at_us, data in self.recording.response:
            for piece in coded.steps(data):
                yield at_us, piece
        rest = coded.finish()
        if rest:
            yield at_us, rest
        if coded.problem is not None:
            self._note(f"response: {coded.problem}")

    def _read_json(self, pieces: _Started, coded: Decoder, status: int) -> None:
        body, at_us = _Joined(), 0
        for at_us, data in pieces:  # noqa: B007 - the last one is wanted
            body.add(data)
        found = self._json(body, coded, "response")
        self.parsed = found is not None
        self.meaning.streaming = False
        if status >= 400:
            self.meaning.error = failure_of_status(found, status)
            self._name_request(found)
            self._retry_after()
            if self.dialect is not None:
                self.dialect.read_refusal(found)
            self.parsed = True
        elif found is not None:
            self._take_body(found, at_us)

    def _take_body(self, body: Any, at_us: int) -> None:
        meaning = self.meaning
        meaning.first_event_us = at_us
        failure = failure_of(body)
        if failure is not None and not (self.dialect and "usage" in body):
            meaning.error = failure
            self._name_request(body)
            return
        if self._knows(body):
            assert self.dialect is not None
            self.dialect.read_body(body, at_us)

    def _name_request(self, body: Any) -> None:
        """Errors have the request's id beside them."""
        self.meaning.request_id = self.meaning.request_id or string(mapping(body).get("request_id"))

    def _retry_after(self) -> None:
        error = self.meaning.error
        if error is not None and error.retry_after_s is None:
            error.retry_after_s = headers.retry_after(self.recording.response_headers)

    def _knows(self, body: Any) -> bool:
        """Whether there is a dialect for it: by its path, else by its looks."""
        if self.dialect is None:
            kind = recognised(body)
            if kind is None:
                return False
            self.dialect = kind(self.meaning)
        return True

    def _read_events(self, pieces: _Started, coded: Decoder, status: int) -> None:
        parser, meaning = SseParser(), self.meaning
        meaning.streaming, meaning.events = True, 0
        at_us = 0
        for at_us, data in pieces:
            for event in parser.feed(data):
                self._take_event(event, at_us)
        parser.finish()
        meaning.comment_lines = parser.comments
        if parser.problem is not None:
            self._note(parser.problem)
        if parser.stray.strip():
            self._take_stray(bytes(parser.stray), at_us)
        elif parser.unfinished:
            self._note("the event stream ends in the midst of an event")
        if status >= 400 and meaning.error is None:
            meaning.error = failure_of_status(None, status)
        if status >= 400 and meaning.error is not None:
            meaning.error.status = meaning.error.status or status
            self._retry_after()

    def _take_event(self, event: Event, at_us: int) -> None:
        meaning = self.meaning
        assert meaning.events is not None
        meaning.events += 1
        if meaning.first_event_us is None:
            meaning.first_event_us = at_us
        try:
            if event.data == _DONE:
                raise NotJson
            data = decoded(event.data)
        except NotJson:
            if self.dialect is not None:
                self.dialect.read_plain_event(event.name, event.data.decode("utf-8", "replace"), at_us)
            return
        if self.dialect is not None or self._knows(data):
            assert self.dialect is not None
            self.dialect.read_event(event.name, data, at_us)

    def _take_stray(self, data: bytes, at_us: int) -> None:
        """Lines that are no event stream's: a bare JSON error, also behind llama.cpp's old field `error:`."""
        text = data.strip()
        try:
            body = decoded(text.removeprefix(b"error:"))
        except NotJson:
            self._note("the event stream has lines that are none of an event stream")
            return
        if text.startswith(b"error:"):
            body = {"error": body}
        failure = failure_of(body)
        if failure is not None:
            failure.midstream = True
            self.failed = True
            self.meaning.error = self.meaning.error or failure
        elif not self.meaning.events and type(body) is dict:
            self.parsed, self.meaning.events = True, None
            self._take_body(body, at_us)

    def _read_lines(self, pieces: _Started, coded: Decoder) -> None:
        parser = LineParser()
        self.meaning.streaming, self.meaning.events = True, 0
        at_us = 0
        for at_us, data in pieces:
            for line in parser.feed(data):
                self._take_event(Event("message", line), at_us)
        for line in parser.finish():
            if self.recording.whole:
                self._take_event(Event("message", line), at_us)
        if parser.problem is not None:
            self._note(parser.problem)

    def _read_array(self, pieces: _Started, coded: Decoder) -> None:
        parser = ArrayParser()
        self.meaning.streaming, self.meaning.events = True, 0
        for at_us, data in pieces:
            for element in parser.feed(data):
                self._take_event(Event("message", element), at_us)
        self.failed = not parser.closed
        if parser.problem is not None:
            self._note(parser.problem)

    # The end

    def _conclude(self) -> None:
        meaning, dialect = self.meaning, self.dialect
        if dialect is not None:
            dialect.finish()
            if dialect.counts.seen:
                meaning.usage_raw = _encoded(dialect.counts.raw)
        self._complete()
        error = meaning.error
        if error is not None and error.midstream and meaning.finish_reason_norm is None:
            meaning.finish_reason_norm = "error"
        meaning.usage_state = self._usage_state()
        if meaning.usage_state == "none":
            meaning.usage = None
        if meaning.usage is not None:
            meaning.usage_conflict = conflicts(meaning.usage)

    def _complete(self) -> None:
        meaning, whole = self.meaning, self.recording.whole
        self.failed = self.failed or (self.dialect is not None and self.dialect.failed)
        if meaning.events is None:
            meaning.complete = self.parsed and whole
        elif meaning.terminated:
            meaning.complete = not self.failed
        else:
            meaning.complete = whole and not self.failed and not (self.dialect or Dialect).ENDS_BY_EVENT
        if meaning.complete and meaning.terminator is None:
            meaning.terminator = "eof"

    def _usage_state(self) -> Any:
        meaning, status, route = self.meaning, self.recording.status, self.found.route
        if self.dialect is None or type(self.dialect) is Dialect:
            return None if self.dialect is None else "none"
        if (status is not None and status >= 400) or not self.recording.sent:
            return "none"
        if meaning.usage is not None:
            return meaning.usage_state or ("complete" if meaning.complete else "partial")
        if route is not None and not route.billed:
            return "none"
        if route is None and self.recording.method != "POST":
            return "none"
        return "none" if meaning.error is not None and not meaning.error.midstream else "missing"


class _Joined:
    """A body that is gathered whole, if it is not too large."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.too_large = False
        self._size = 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_JSON:
            self.too_large = True
            self.parts = []
        elif data:
            self.parts.append(data)

    def joined(self) -> bytes:
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class _Started:
    """Pieces whose beginning has been looked at: `beginning` is what comes first, at least a few bytes unless there are
    no more. Blanks before it are dropped (DeepSeek sends them while one waits); a byte order mark is passed over."""

    def __init__(self, pieces: Iterator[tuple[int, bytes]]) -> None:
        self._pieces = pieces
        self._held: list[tuple[int, bytes]] = []
        self.beginning = b""

    def look(self) -> None:
        for at_us, data in self._pieces:
            if not self._held and not (data := data.lstrip(_BLANKS)):
                continue
            self._held.append((at_us, data))
            self.beginning = (self.beginning + data[:_BEGINNING]).removeprefix(BOM).lstrip(_BLANKS)[:_BEGINNING]
            if len(self.beginning) >= _ENOUGH:
                break

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        yield from self._held
        self._held = []
        yield from self._pieces


def _started(pieces: Iterator[tuple[int, bytes]], kind: str) -> _Started:
    """An event stream is one from its first byte; all others are looked at, since content-types lie."""
    started = _Started(pieces)
    if kind != "text/event-stream":
        started.look()
    return started


def _content_type(pairs: Any) -> str:
    return (headers.value_of(pairs, "content-type") or "").partition(";")[0].strip().lower()


def _encoded(value: Any) -> str | None:
    try:
        return msgspec.json.encode(value).decode("utf-8", "replace")
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
        return None

"""What stands between bodies and dialects: events, messages and bodies are handed to the dialect that knows them.

Pure. Must not know framing, tables or prices.
"""

from __future__ import annotations

from proxy.interpret import headers
from proxy.interpret.dialects.base import Dialect
from proxy.interpret.dialects.registry import find, recognised
from proxy.interpret.failures import failure_of
from proxy.interpret.meaning import Failure, Meaning, Recording
from proxy.interpret.sse import Event
from proxy.interpret.values import NotJson, decoded, mapping, string

_DONE = b"[DONE]"  # to find out that it is no JSON takes as long as an exchange's other events


class Delivery:
    """Of one exchange. `failed`: an error came in a stream; `parsed`: the response is one body, and all of it is
    there."""

    def __init__(self, recording: Recording) -> None:
        path, _, self.query = recording.target.partition("?")
        self.recording = recording
        self.meaning = Meaning()
        self.found = find(recording.method, path, recording.dialect)
        self.dialect: Dialect | None = None if self.found.dialect is None else self.made(self.found.dialect)
        self.failed = False
        self.parsed = False

    def made(self, kind: type[Dialect]) -> Dialect:
        """A dialect that fills in the meaning."""
        return kind(self.meaning)

    def note(self, problem: str | None) -> None:
        """Say why the meaning is not all there is; the first word holds."""
        self.meaning.problem = self.meaning.problem or problem

    def chunks(self, first: int, last: int) -> None:
        """What is handed over next is in these chunks of its side's body."""
        if self.dialect is not None:
            self.dialect.span = (first, last)

    def event(self, event: Event, at_us: int) -> None:
        """One event of a stream, or one line, or one element."""
        meaning = self.meaning
        meaning.events = (meaning.events or 0) + 1
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

    def message(self, data: bytes, at_us: int, *, sent: bool) -> None:
        """One message of a WebSocket."""
        meaning = self.meaning
        meaning.events = (meaning.events or 0) + 1
        if meaning.first_event_us is None and not sent:
            meaning.first_event_us = at_us
        try:
            body = decoded(data)
        except NotJson:
            return
        if self.dialect is not None or (not sent and self._knows(body)):
            assert self.dialect is not None
            self.dialect.read_message(sent, body, at_us)

    def body(self, body: object, at_us: int) -> None:
        """A response that is one JSON, its last byte at `at_us`."""
        self.meaning.first_event_us = at_us
        failure = failure_of(body)
        if failure is not None and not (self.dialect and "usage" in mapping(body)):
            self.meaning.error = failure
            self.name_request(body)
            return
        if self._knows(body):
            assert self.dialect is not None
            self.dialect.read_body(body, at_us)

    def fail(self, failure: Failure) -> None:
        """An error in the midst of the response, that is none of its dialect's."""
        failure.midstream = True
        self.failed = True
        self.meaning.error = self.meaning.error or failure

    def name_request(self, body: object) -> None:
        """Errors have the request's id beside them."""
        self.meaning.request_id = self.meaning.request_id or string(mapping(body).get("request_id"))

    def retry_after(self) -> None:
        """Take over from the headers when to try again, if the error itself does not say it."""
        error = self.meaning.error
        if error is not None and error.retry_after_s is None:
            error.retry_after_s = headers.retry_after(self.recording.response_headers)

    def _knows(self, body: object) -> bool:
        """Whether there is a dialect for it: by its path, else by its looks."""
        if self.dialect is None:
            kind = recognised(body)
            if kind is None:
                return False
            self.dialect = self.made(kind)
            self.meaning.operation = self.meaning.operation or kind.OPERATION
        return True

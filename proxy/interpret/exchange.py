"""THE one entry: what a recorded exchange meant. Undoes content-encodings, cuts the body, lets a dialect read it.

Pure. Must not know tables, prices or any one provider. Whatever the bytes are, there is a Meaning; `problem` says what
of it is missing and why.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from proxy.interpret import headers
from proxy.interpret.body import decoder
from proxy.interpret.delivery import Delivery
from proxy.interpret.dialects.base import Dialect
from proxy.interpret.estimate import estimated
from proxy.interpret.gathering import NOT_JSON, Joined, content_type
from proxy.interpret.meaning import Meaning, Media, Recording, UsageState
from proxy.interpret.multipart import Form
from proxy.interpret.response import SWITCHED, Response, json_of
from proxy.interpret.usage import FIELDS, conflicts
from proxy.interpret.values import mapping

_FORM = "multipart/form-data"


def interpret(recording: Recording) -> Meaning:
    """What an exchange meant. Does not raise for anything that was recorded."""
    return Reading(Delivery(recording)).run()


class Reading:
    """Of one exchange, by whoever its pieces are to be delivered to."""

    def __init__(self, delivery: Delivery) -> None:
        self.recording = delivery.recording
        self.delivery = delivery
        self.meaning = self.delivery.meaning
        self.asked: dict[str, Any] = {}

    def run(self) -> Meaning:
        """Read it; once."""
        meaning, recording, delivery = self.meaning, self.recording, self.delivery
        route = delivery.found.route
        meaning.model_asked, meaning.billed_as = delivery.found.model, delivery.found.billed_as
        if route is not None:
            meaning.operation = route.operation
        meaning.request_id = headers.request_id(recording.response_headers)
        meaning.retry_count = headers.retry_count(recording.request_headers)
        meaning.rate_limits = headers.rate_limits(recording.response_headers)
        if delivery.dialect is not None and delivery.query:
            delivery.dialect.read_query(dict(parse_qsl(delivery.query[:8192], max_num_fields=None)))
        if recording.status == SWITCHED:
            Response(delivery).read_tunnel()
        else:
            self._read_request()
            if route is not None and route.streams is not None:
                meaning.streaming = route.streams
            unknown = delivery.dialect is None
            if recording.status is not None:
                Response(delivery).read(recording.status)
            if unknown:  # the answer may have told whose form it is
                self._read_request()
        self._conclude()
        return meaning

    # The request

    def _read_request(self) -> None:
        recording, dialect = self.recording, self.delivery.dialect
        kind = content_type(recording.request_headers)
        if dialect is None:
            return
        if kind == _FORM:
            self._read_form(dialect)
            return
        if kind.startswith(NOT_JSON):
            return
        coded = decoder(headers.joined(recording.request_headers, "content-encoding"))
        body, chunks = Joined(), 0
        for _, data in recording.request:
            chunks += 1
            for piece in coded.steps(data):
                body.add(piece)
        body.add(coded.finish())
        asked = json_of(self.delivery, body, coded, "request")
        if asked is not None:
            dialect.span = (0, max(chunks - 1, 0))
            self.asked = mapping(asked)
            dialect.read_request(asked)

    def _read_form(self, dialect: Dialect) -> None:
        form = Form(headers.value_of(self.recording.request_headers, "content-type") or "")
        coded = decoder(headers.joined(self.recording.request_headers, "content-encoding"))
        for number, (_, data) in enumerate(self.recording.request):
            for piece in coded.steps(data):
                form.feed(number, piece)
        self.delivery.note(form.problem)
        self.meaning.media += [Media("request", each.kind, each.first, each.last, each.size) for each in form.files]
        dialect.read_form(form.fields)

    # The end

    def _conclude(self) -> None:
        meaning, dialect = self.meaning, self.delivery.dialect
        if dialect is not None:
            dialect.read_headers(self.recording.response_headers)
            dialect.finish()
            if dialect.counts.seen:
                meaning.usage_raw = _encoded(dialect.counts.raw)
        self._complete()
        error = meaning.error
        if error is not None and error.midstream and meaning.finish_reason_norm is None:
            meaning.finish_reason_norm = "error" if meaning.terminator != "corrupt" else None
        meaning.usage_state = self._usage_state()
        if meaning.usage_state == "none":
            meaning.usage = None
        if meaning.usage is not None:
            meaning.usage_conflict = conflicts(meaning.usage)
        if meaning.usage_state in ("missing", "partial"):
            meaning.estimate = estimated(meaning, self.asked)

    def _complete(self) -> None:
        meaning, delivery, whole = self.meaning, self.delivery, self.recording.whole
        failed = delivery.failed or (delivery.dialect is not None and delivery.dialect.failed)
        if meaning.events is None:
            meaning.complete = delivery.parsed and whole
        elif meaning.terminated:
            meaning.complete = not failed
        else:
            meaning.complete = whole and not failed and not (delivery.dialect or Dialect).ENDS_BY_EVENT
        if meaning.complete and meaning.terminator is None:
            meaning.terminator = "eof"

    def _usage_state(self) -> UsageState | None:
        meaning, status, route = self.meaning, self.recording.status, self.delivery.found.route
        dialect = self.delivery.dialect
        if dialect is None or type(dialect) is Dialect:
            return None if dialect is None else "none"
        if (status is not None and status >= 400) or not self.recording.sent:
            return "none"
        if meaning.usage_state is not None:
            return meaning.usage_state
        if meaning.usage is not None:
            if all(getattr(meaning.usage, each) is None for each in FIELDS):
                return "non_token"
            return "complete" if meaning.complete else "partial"
        if route is not None and not route.billed:
            return "none"
        if self.recording.method != "POST" and status != SWITCHED:
            return "none"
        return "none" if meaning.error is not None and not meaning.error.midstream else "missing"


def _encoded(value: Any) -> str | None:
    try:
        return msgspec.json.encode(value).decode("utf-8", "replace")
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
        return None

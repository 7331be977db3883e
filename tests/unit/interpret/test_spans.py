"""Where events begin and end: as many as a fixture says, all of its bytes, and each of them one event by itself."""

from __future__ import annotations

from itertools import pairwise

import pytest

from proxy.interpret.body import decoder
from proxy.interpret.headers import joined
from proxy.interpret.spans import spans
from proxy.interpret.sse import SseParser
from tests.support.streams import Stream, streams

FRAMED = {name: each for name, each in streams().items() if each.about["framing"] in {"sse", "ndjson", "eventstream"}}


def body_of(stream: Stream) -> bytes:
    coded = decoder(joined(stream.headers, "content-encoding"))
    return coded.feed(stream.body) + coded.finish()


@pytest.mark.parametrize("name", FRAMED)
def test_every_event_of_a_recorded_stream_has_its_place(name: str) -> None:
    stream = FRAMED[name]
    body = body_of(stream)
    found = spans(stream.headers, body)
    assert found is not None
    assert len(found) == stream.expected["events"]
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert found[0][0] == 0
    assert found[-1][1] <= len(body)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_an_event_by_itself(end: bytes) -> None:
    body = end.join((b": hello", b"data: a", b"data: b", b"", b"event: x", b"", b"data: c", b"", b"data: half"))
    found = spans([("Content-Type", "text/event-stream; charset=utf-8")], body)
    assert found is not None
    cut = [body[start:stop] for start, stop in found]
    assert [len(SseParser().feed(each)) for each in cut] == [1, 1]
    assert cut[0].startswith(b": hello")
    assert cut[1].startswith(b"event: x")
    assert not any(b"half" in each for each in cut)


@pytest.mark.parametrize("last", [b"", b"\n", b"\n\n"])
def test_a_line_is_a_line_with_its_end_or_without(last: bytes) -> None:
    body = b'{"a":1}\n\n{"a":2}' + last
    found = spans([("content-type", "application/x-ndjson")], body)
    assert found is not None
    assert [body[start:stop].strip() for start, stop in found] == [b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize("content_type", ["application/json", "audio/mpeg", ""])
def test_what_is_no_stream_has_no_events(content_type: str) -> None:
    assert spans([("content-type", content_type)], b'{"a": 1}') is None


def test_a_message_that_is_torn_is_none() -> None:
    body = streams()["bedrock-converse-text-cache"].body
    headers = [("content-type", "application/vnd.amazon.eventstream")]
    every = spans(headers, body)
    assert every is not None
    assert spans(headers, body[:-1]) == every[:-1]
    assert spans(headers, b"\0\0") == []

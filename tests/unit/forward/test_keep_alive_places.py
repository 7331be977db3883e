"""Where comments may stand in a stream of events, held against a reader of the standard, however the stream is cut."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.forward.keep_alive import COMMENT, may_have_comments
from proxy.forward.transform import Boundary
from proxy.interpret.sse import SseParser
from proxy.wire.interface import RawHeaders, UpstreamResponse

STREAM = (b"Content-Type", b"text/event-stream; charset=utf-8")
LINES = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"]
TEXTS = [b"data: a", b"event: x", b"id: 1", b":", b" ", b"x", b"\xff"]
STREAMS = st.lists(st.sampled_from([*LINES, *TEXTS]), max_size=30).map(b"".join)


def places(pieces: list[bytes]) -> set[int]:
    """Where the stream stands at a boundary, of the places at which its pieces end."""
    boundary, found = Boundary(), set()
    for piece in pieces:
        boundary.feed(piece)
        if boundary.here:
            found.add(boundary.passed)
    return found


def ends_with_an_empty_line(data: bytes) -> bool:
    """Line by line. A CR at the end is one only behind another that no LF follows."""
    if data.endswith(b"\r") and not data.endswith(b"\r\r"):
        return False
    lines = re.split(rb"\r\n|\n|\r", data)
    return data == b"" or lines[-2:] == [b"", b""]


def cut(data: bytes, at: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place for place in at if 0 < place < len(data)}), len(data)]
    return [data[begin:end] for begin, end in pairwise(bounds) if begin < end]


@given(STREAMS, st.lists(st.integers(0, 120), max_size=12))
def test_any_cutting_gives_the_same_places(data: bytes, at: list[int]) -> None:
    every = {size for size in range(1, len(data) + 1) if ends_with_an_empty_line(data[:size])}
    pieces = cut(data, at)
    ends = {sum(map(len, pieces[: count + 1])) for count in range(len(pieces))}
    assert places(pieces) == every & ends
    assert places([data[place : place + 1] for place in range(len(data))]) == every


@given(STREAMS)
def test_comments_change_no_event(data: bytes) -> None:
    """Not even where each place has one, and one between a CR and its LF."""
    commented, boundary = COMMENT, Boundary()
    for place in range(len(data)):
        boundary.feed(data[place : place + 1])
        commented += data[place : place + 1] + (COMMENT if boundary.here else b"")
    assert events(commented) == events(data)


def events(data: bytes) -> list[tuple[str, bytes]]:
    parser = SseParser()
    return [(event.name, event.data) for event in parser.feed(data)]


@pytest.mark.parametrize(
    ("passed", "here"),
    [
        ([], True),
        ([b"data: a\n\n"], True),
        ([b"data: a\r\n\r\n"], True),
        ([b"data: a\r\r"], True),
        ([b"data: a\n", b"\r\n"], True),
        ([b"data: a\r\r\n"], True),
        ([b"\n"], True),
        ([b"data: a"], False),
        ([b"data: a\n"], False),
        ([b"data: a\r\n"], False),
        ([b"data: a\r\n\r"], False),
        ([b"data: a\n\r"], False),
        ([b"data: a\r"], False),
        ([b"\r"], False),
        ([b"data: a\n\n", b":"], False),
        ([b": of theirs\n"], False),
    ],
)
def test_by_hand(passed: list[bytes], here: bool) -> None:
    boundary = Boundary()
    for data in passed:
        boundary.feed(data)
    assert boundary.here is here


@pytest.mark.parametrize(
    ("status", "headers", "bodiless", "may"),
    [
        (200, [STREAM], False, True),
        (201, [STREAM, (b"Content-Encoding", b"identity")], False, True),
        (200, [(b"content-type", b"TEXT/Event-Stream")], False, True),
        (200, [STREAM], True, False),
        (404, [STREAM], False, False),
        (200, [STREAM, (b"content-length", b"9")], False, False),
        (200, [STREAM, (b"Content-Encoding", b"gzip")], False, False),
        (200, [STREAM, (b"Content-Digest", b"sha-256=:x:")], False, False),
        (200, [(b"Content-Type", b"application/x-ndjson")], False, False),
        (200, [], False, False),
    ],
)
def test_which_responses(status: int, headers: RawHeaders, bodiless: bool, may: bool) -> None:
    assert may_have_comments(UpstreamResponse(status, b"", headers, bodiless)) is may

"""Event streams by the standard, held against a reader written straight from its text, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret import sse
from proxy.interpret.sse import SseParser

Events = list[tuple[str, str]]


def standard(data: bytes) -> tuple[Events, int]:
    """WHATWG HTML 9.2.6, one character after the other: the events, and how many lines were comments."""
    text = data.decode("utf-8", "replace")
    if data.startswith(b"\xef\xbb\xbf"):
        text = text[1:]
    lines, line, after_cr = [], "", False
    for character in text:
        if after_cr and character == "\n":
            after_cr = False
            continue
        after_cr = character == "\r"
        if character in "\r\n":
            lines.append(line)
            line = ""
        else:
            line += character
    events: Events = []
    comments, name, buffer, seen = 0, "", "", False
    for each in lines:
        if not each:
            if seen:
                events.append((name or "message", buffer[:-1]))
            name, buffer, seen = "", "", False
        elif each.startswith(":"):
            comments += 1
        else:
            field, _, value = each.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                buffer, seen = buffer + value + "\n", True
            elif field == "event":
                name = value
    return events, comments


def parsed(pieces: list[bytes]) -> tuple[Events, int]:
    parser = SseParser()
    found = [event for piece in pieces for event in parser.feed(piece)]
    parser.finish()
    return [(event.name, event.data.decode("utf-8", "replace")) for event in found], parser.comments


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place for place in places if place <= len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


STREAMS = st.lists(
    st.sampled_from(
        [
            b"data",
            b"event",
            b"id",
            b"retry",
            b"other",
            b":",
            b": ",
            b" ",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"x",
            "é📼\u2028\x85".encode(),
            b"\xe2\x82",
            b"\xff",
            b"\x00",
            b"\xef\xbb\xbf",
            b'{"a": 1}',
            b"data: {}\n\n",
        ]
    ),
    max_size=40,
).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 200), max_size=8))
def test_any_cutting_gives_what_the_standard_says(data: bytes, places: list[int]) -> None:
    expected = standard(data)
    assert parsed(cut(data, places)) == expected
    assert parsed([data[at : at + 1] for at in range(len(data))]) == expected


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\n\n", [("message", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
        (b"data:a\r\rdata: b\r\n\r\n", [("message", "a"), ("message", "b")]),
        (b"data\n\n", [("message", "")]),
        (b"data: a\ndata:  b\n\n", [("message", "a\n b")]),
        (b"event: x\n\ndata: a\n\n", [("message", "a")]),
        (b"event: x\ndata: a\n\n", [("x", "a")]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b":ping\n\ndata: a\n\n", [("message", "a")]),
    ],
)
def test_by_hand(data: bytes, events: Events) -> None:
    assert parsed([data])[0] == events


def test_what_is_no_field_is_kept() -> None:
    parser = SseParser()
    parser.feed(b'{\n  "error": {\n "code": 1}\n')
    parser.feed(b"}")
    parser.finish()
    assert bytes(parser.stray) == b'{\n  "error": {\n "code": 1}\n}'
    assert parser.unfinished


@pytest.mark.parametrize("step", [1, 100])
def test_an_event_that_is_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 1000)
    parser = SseParser()
    data = b"data: a\n\n" + b"data: " + b"x" * 3000 + b"\ndata: more\n\n" + b"data: b\n\n"
    found = [event for at in range(0, len(data), step) for event in parser.feed(data[at : at + step])]
    assert [event.data for event in found] == [b"a", b"b"]
    assert parser.problem is not None


def test_an_event_in_many_pieces_costs_its_size_only() -> None:
    parser = SseParser()
    parser.feed(b"data: ")
    for _ in range(20_000):
        assert parser.feed(b"x" * 100) == []
    (event,) = parser.feed(b"\n\n")
    assert len(event.data) == 2_000_000


def test_an_event_in_pieces_may_be_as_large_as_one_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 1000)
    data = b": " + b"c" * 500 + b"\ndata: " + b"x" * 900 + b"\n\n"
    parser = SseParser()
    found = [event for at in range(0, len(data), 50) for event in parser.feed(data[at : at + 50])]
    assert ([len(event.data) for event in found], parser.problem) == ([900], None)


@pytest.mark.parametrize("data", [b"data: {", b"da", b"event: x\n", b":", b"data: a\n"])
def test_an_event_that_is_not_whole_is_no_stray(data: bytes) -> None:
    parser = SseParser()
    parser.feed(data)
    parser.finish()
    assert (parser.unfinished, bytes(parser.stray)) == (True, b"" if data != b"da" else b"da")

"""Faults as what they are, a transformation: over every recorded stream, and what there is no room for."""

from __future__ import annotations

import gzip
import math
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret.spans import spans
from proxy.replay.answer import Answer, Head
from proxy.replay.fault_words import BadFault, parse
from proxy.replay.faults import APART, faulty
from tests.unit.replay.faultless import ANSWERS, events, plain, whole

NAMES = st.sampled_from(sorted(ANSWERS))
PARTS = st.sampled_from([b"data: ", b"\n", b"\r\n", b"\n\n", b"a", "é€🐔".encode(), b"\xff", b"{}"])
CHUNKS = st.lists(st.lists(PARTS, min_size=1, max_size=4).map(b"".join), max_size=5)


def with_fault(answer: Answer, text: str) -> Answer:
    return faulty(answer, parse(text))


def cut_places(answer: Answer) -> set[int]:
    """Where chunks end."""
    places, at = set(), 0
    for _, data in answer.chunks:
        at += len(data)
        places.add(at)
    return places


def same_but_for_cuts(one: Answer, other: Answer) -> None:
    assert whole(one) == whole(other)
    assert (one.heads, one.trailers, one.broken, one.reset, one.sent, one.end_us) == (
        *(other.heads, other.trailers, other.broken, other.reset, other.sent, other.end_us),
    )
    assert all(data for _, data in one.chunks)
    assert not one.waits or len(one.waits) == len(one.chunks) + 1


# Every recorded stream


@given(NAMES, st.integers(1, 10**7))
def test_slow_changes_no_byte_and_takes_its_time(name: str, rate: int) -> None:
    answer = ANSWERS[name]
    slow = with_fault(answer, f"slow={rate}")
    same_but_for_cuts(slow, answer)
    assert sum(slow.waits) == pytest.approx(len(whole(answer)) / rate)
    assert all(wait == 0 or wait >= 0.0099 for wait in slow.waits[:-1])
    assert max(len(data) for _, data in slow.chunks) <= max(1, rate // 10, len(whole(answer)) // 10_000 + 1)
    assert cut_places(answer) <= cut_places(slow)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_cut_is_a_beginning(name: str) -> None:
    answer = ANSWERS[name]
    count = len(answer.chunks)
    for place in {0, count // 2, count - 1}:
        cut = with_fault(answer, f"cut={place}")
        assert (cut.chunks, cut.heads) == (answer.chunks[:place], answer.heads)
        assert (cut.broken, cut.reset, cut.end_us) == (True, False, answer.chunks[place][0])
        assert with_fault(answer, f"reset={place}") == Answer(**{**fields(cut), "reset": True})


def fields(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in Answer.__dataclass_fields__}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_event_is_dropped_or_repeated_and_no_other_changes(name: str) -> None:
    answer = ANSWERS[name]
    body = plain(answer)
    places = None if answer.sent else spans(answer.heads[-1].headers, body)
    if places is None:
        for word in ("drop=0", "repeat=0"):
            with pytest.raises(BadFault, match=f"{word}: the answer is .* no stream of events"):
                with_fault(answer, word)
        return
    every = [body[start:end] for start, end in places]
    for number in {0, len(every) // 2, len(every) - 1}:
        dropped, repeated = (with_fault(answer, f"{word}={number}") for word in ("drop", "repeat"))
        assert whole(dropped) == b"".join(every[:number] + every[number + 1 :]) + body[places[-1][1] :]
        twice = whole(repeated).replace(b"\n\n{", b"\n{") if name.endswith("ndjson") else whole(repeated)
        assert twice == b"".join([*every[: number + 1], every[number], *every[number + 1 :]]) + body[places[-1][1] :]
        for changed in (dropped, repeated):
            assert (changed.broken, changed.trailers, changed.end_us) == (answer.broken, (), answer.end_us)
            assert len(changed.chunks) <= len(answer.chunks)
    with pytest.raises(BadFault, match=f"the answer has {len(every)} events, numbered from 0 to {len(every) - 1}"):
        with_fault(answer, f"drop={len(every)}")


@pytest.mark.parametrize("name", ANSWERS)
def test_every_character_is_cut_in_two(name: str) -> None:
    answer = ANSWERS[name]
    body = plain(answer)
    wide, at = [], 0
    for character in body.decode("utf-8", "surrogateescape"):
        size = len(character.encode("utf-8", "surrogateescape"))
        if size > 1:
            wide.append((at, at + size))
        at += size
    if not wide:
        with pytest.raises(BadFault, match="split=utf8: the answer has no characters of several bytes"):
            with_fault(answer, "split=utf8")
        return
    split = with_fault(answer, "split=utf8")
    assert whole(split) == body
    places = cut_places(split)
    assert all(any(start < place < end for place in places) for start, end in wide)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_line_is_cut_in_two(name: str) -> None:
    answer = ANSWERS[name]
    split = with_fault(answer, "split=line")
    body = plain(answer)
    assert whole(split) == body
    lines = [found for found in re.finditer(rb"[^\r\n]+", body) if len(found[0]) > 1]
    places = cut_places(split)
    assert all(any(found.start() < place < found.end() for place in places) for found in lines)


# Whatever the bytes are


@given(CHUNKS, st.sampled_from(["split=utf8", "split=line", "split=line:0", "slow=7", "split=line slow=9"]))
def test_neither_splitting_nor_slowing_changes_a_byte(chunks: list[bytes], text: str) -> None:
    answer = events(*chunks)
    try:
        changed = with_fault(answer, text)
    except BadFault as refused:
        assert "the answer has no" in str(refused)  # noqa: PT017 - any other chunks must not be refused
        return
    same_but_for_cuts(changed, answer)
    assert cut_places(answer) <= cut_places(changed)


@given(CHUNKS, st.sampled_from(["drop", "repeat"]), st.integers(0, 3))
def test_events_are_dropped_and_repeated_however_they_are_cut(chunks: list[bytes], word: str, number: int) -> None:
    answer = events(*chunks)
    body = b"".join(chunks)
    places = spans(answer.heads[-1].headers, body) or []
    if number >= len(places):
        with pytest.raises(BadFault, match="events"):
            with_fault(answer, f"{word}={number}")
        return
    start, end = places[number]
    expected = body[:start] + body[end:] if word == "drop" else body[:end] + body[start:end] + body[end:]
    assert whole(with_fault(answer, f"{word}={number}")) == expected


# One by one


def test_a_stall_is_a_wait_before_a_chunk_or_before_the_end() -> None:
    answer = events(b"one", b"two")
    assert with_fault(answer, "stall=1").waits == (0, math.inf, 0)
    assert with_fault(answer, "stall=1:2s stall=1:1s").waits == (0, 3, 0)
    assert with_fault(answer, "stall=2:2s").waits == (0, 0, 2)
    assert with_fault(answer, "stall=1:2s cut=1").waits == (0, 2), "it is silent, and then it is gone"
    same_but_for_cuts(with_fault(answer, "stall=0:1"), answer)


def test_a_cut_behind_the_last_chunk_leaves_the_end_out() -> None:
    cut = with_fault(events(b"one", b"two"), "cut=2")
    assert (len(cut.chunks), cut.broken, cut.trailers, cut.end_us) == (2, True, (), 30_000)


def test_what_is_split_is_written_apart() -> None:
    split = with_fault(events("a€b".encode(), b"c"), "split=utf8")
    assert [data for _, data in split.chunks] == [b"a\xe2", b"\x82\xacb", b"c"]
    assert list(split.waits) == [0, APART, 0, 0]
    there = with_fault(events(b"a\xe2", b"\x82\xacb"), "split=utf8")
    assert (len(there.chunks), list(there.waits)) == (2, [0, APART, 0]), "where it was cut already nothing is cut"
    many = with_fault(events("€".encode() * 5000), "split=utf8")
    assert sum(many.waits) == pytest.approx(1.0)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl"])
def test_a_last_line_without_its_end_is_repeated_as_a_line(content_type: str) -> None:
    answer = events(b'{"a":1}\n{"a"', b":2}", heads=(Head(1, 200, "OK", [("content-type", content_type)]),))
    assert whole(with_fault(answer, "repeat=1")) == b'{"a":1}\n{"a":2}\n{"a":2}'
    assert whole(with_fault(answer, "repeat=0")) == b'{"a":1}\n{"a":1}\n{"a":2}'


def test_one_line_or_one_character_can_be_chosen() -> None:
    lines = events(b"event: x\ndata: abcd\n\n")
    assert [data for _, data in with_fault(lines, "split=line:1").chunks] == [b"event: x\ndata:", b" abcd\n\n"]
    wide = events("é and ü".encode())
    assert [data for _, data in with_fault(wide, "split=utf8:1").chunks] == ["é and ".encode() + b"\xc3", b"\xbc"]


def test_deeds_are_done_one_after_another() -> None:
    answer = events(b"data: one\n\n", b"data: two\n\n", b"data: three\n\n")
    assert whole(with_fault(answer, "drop=0 drop=0")) == b"data: three\n\n"
    assert whole(with_fault(answer, "drop=0 cut=1")) == b"data: two\n\n"
    assert whole(with_fault(answer, "cut=1 repeat=0")) == b"data: one\n\n" * 2
    refused = with_fault(answer, "status=500 cut=0")
    assert (refused.heads[-1].status, refused.chunks, refused.broken) == (500, (), True)


def test_nothing_at_all() -> None:
    answer = events(b"one")
    assert with_fault(answer, "none") is answer


def test_a_coded_body_is_decoded_where_it_must_be_seen() -> None:
    body = b"data: one\n\ndata: two\n\n"
    coded = gzip.compress(body)
    headers = [("content-type", "text/event-stream"), ("Content-Encoding", "gzip"), ("Content-Length", str(len(coded)))]
    answer = events(coded[:5], coded[5:], heads=(Head(1, 200, "OK", headers),))
    dropped = with_fault(answer, "drop=0")
    assert whole(dropped) == b"data: two\n\n"
    assert dropped.heads[-1].headers == [("content-type", "text/event-stream"), ("Content-Length", "11")]
    split = with_fault(answer, "split=line")
    assert (whole(split), split.heads[-1].headers[-1]) == (body, ("Content-Length", str(len(body))))
    assert whole(with_fault(answer, "cut=1")) == coded[:5], "where it need not, it is not"
    for broken in ("gzip", "compress"):
        head = Head(1, 200, "OK", [("content-encoding", broken), ("content-type", "text/event-stream")])
        with pytest.raises(BadFault, match=f"drop=0: the answer's body cannot be looked into: the .*{broken}"):
            with_fault(events(b"no such coding", heads=(head,)), "drop=0")


LENGTH = (Head(1, 200, "OK", [("content-length", "3"), ("content-type", "application/json")]),)


@pytest.mark.parametrize(
    ("answer", "text", "says"),
    [
        (events(b"a", b"b", b"c"), "cut=50", "cut=50: the answer has 3 chunks, numbered from 0 to 2"),
        (events(b"a", b"b", b"c"), "stall=4:1s", "stall=4:1s: the answer has 3 chunks, numbered from 0 to 2"),
        (events(b"abc", heads=LENGTH), "cut=1", "cut=1: the answer has 1 chunk"),
        (events(heads=(Head(1, 204, "", []),)), "reset=0", "reset=0: the answer has 0 chunks"),
        (events(), "slow=5", "slow=5: the answer has no body"),
        (events(b"\n\n"), "split=line", "split=line: the answer has no lines of several bytes"),
        (events(b"ab\ncd"), "split=line:2", "has 2 lines of several bytes, numbered from 0 to 1"),
        (events(b"abc", heads=LENGTH), "drop=0", "the answer is application/json, and no stream of events"),
        (events(b"a", heads=(Head(1, 101, "", []),)), "drop=0", "the answer is another protocol, and no stream"),
        (events(b"a", heads=(), broken=True), "repeat=0", "the answer is of no content-type, and no stream"),
        (events(b": hello\n\n"), "drop=0", "drop=0: the answer has no events"),
    ],
)
def test_what_there_is_no_room_for_is_told(answer: Answer, text: str, says: str) -> None:
    with pytest.raises(BadFault, match=says):
        with_fault(answer, text)


def test_waits_stay_where_they_are_when_events_go() -> None:
    answer = events(b"data: one\n\n", b"data: two\n\n")
    assert list(with_fault(answer, "stall=0:1s drop=0").waits) == [1, 0]
    assert with_fault(answer, "stall=1:1s drop=1").waits == (0, 1)


def test_slow_is_even() -> None:
    slow = with_fault(events(bytes(100)), "slow=200")
    assert [len(data) for _, data in slow.chunks] == [20] * 5
    assert [round(wait, 6) for wait in slow.waits] == [0.1] * 5 + [0]
    assert all(one == other for one, other in pairwise(at for at, _ in slow.chunks))

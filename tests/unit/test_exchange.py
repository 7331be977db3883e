"""Exchange ids: version 7 UUIDs that never go backwards, whatever the clock does, and tell when they were made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from uuid import RFC_4122, UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import (
    Change,
    End,
    ExchangeIds,
    Gap,
    Outcome,
    RequestHead,
    Side,
    WireEnd,
    as_passed,
    id_time_us,
    outcome,
)

NOW = 1_726_900_000_123_456  # microseconds since 1970


def clock(readings: list[int]) -> ExchangeIds:
    ticks: Iterator[int] = iter(readings)
    return ExchangeIds(lambda: next(ticks))


@given(st.integers(0, (1 << 48) * 1000 - 1))
def test_version_and_variant(now: int) -> None:
    made = clock([now]).next()
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == now // 1000


@given(st.integers(0, (1 << 48) * 1000 - 1))
def test_an_id_tells_its_time_to_the_microsecond(now: int) -> None:
    assert now - 1 <= id_time_us(clock([now]).next()) <= now


def test_an_id_of_another_maker_tells_its_millisecond() -> None:
    foreign = UUID(int=(NOW // 1000) << 80 | 7 << 76 | 0xFFF << 64 | 2 << 62)
    assert id_time_us(foreign) // 1000 == NOW // 1000


def test_the_real_clock() -> None:
    ids = ExchangeIds()
    made = [ids.next() for _ in range(10_000)]
    assert made == sorted(set(made))


@given(st.lists(st.integers(NOW - 5_000_000, NOW + 5_000_000), min_size=2, max_size=50))
def test_never_backwards(readings: list[int]) -> None:
    ids = clock(readings)
    made = [ids.next() for _ in readings]
    assert all(earlier < later for earlier, later in pairwise(made))
    assert all(one.version == 7 and one.variant == RFC_4122 for one in made)


def test_a_clock_that_stands_still_for_longer_than_a_millisecond_holds() -> None:
    ids = clock([NOW] * 10_000)
    made = [ids.next() for _ in range(10_000)]
    assert made == sorted(set(made))
    # 4096 ids fit in a millisecond; the rest borrow from those to come, and the time they tell stays close.
    assert id_time_us(made[-1]) - NOW < 3_000


def test_a_clock_set_back_by_an_hour() -> None:
    ids = clock([NOW, NOW - 3_600_000_000, NOW + 1000])
    first, second, third = (ids.next() for _ in range(3))
    assert first < second < third
    assert id_time_us(second) - NOW < 2
    assert id_time_us(third) >= NOW + 999


def test_two_workers_in_the_same_microsecond_differ() -> None:
    assert clock([NOW]).next() != clock([NOW]).next()


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (Side, {"REQUEST": 0, "RESPONSE": 1, "RESPONSE_TRAILERS": 2, "REQUEST_TRAILERS": 3}),
        (
            WireEnd,
            {
                "UPSTREAM_END": 0,
                "CLIENT_LEFT": 1,
                "UPSTREAM_ERROR": 2,
                "JOURNAL_ERROR": 3,
                "WORKER_DIED": 4,
                "REFUSED": 5,
            },
        ),
        (Outcome, {"COMPLETED": 0, "CLIENT_LEFT": 1, "UPSTREAM_FAILED": 2, "REFUSED": 3, "INTERRUPTED": 4}),
    ],
)
def test_stored_numbers_stay(numbers: type[Side | WireEnd | Outcome], expected: dict[str, int]) -> None:
    assert {item.name: int(item) for item in numbers}.items() >= expected.items()


@pytest.mark.parametrize(
    "payload",
    [
        RequestHead(1, NOW, "openai", "openai", "POST", "/v1", "1.1", [("A", "\xe9"), ("A", "")], tags=[("a", "b")]),
        Gap(Side.RESPONSE, 7, "journal"),
        End(WireEnd.UPSTREAM_END, response_bytes=3, response_hash="00"),
    ],
)
def test_payloads_survive_the_journal(payload: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(payload), type=type(payload)) == payload


def test_outcomes() -> None:
    assert [outcome(each) for each in WireEnd] == [
        Outcome.COMPLETED,
        Outcome.CLIENT_LEFT,
        Outcome.UPSTREAM_FAILED,
        Outcome.INTERRUPTED,
        Outcome.INTERRUPTED,
        Outcome.REFUSED,
    ]
    changed = {each for each in WireEnd if outcome(each) != outcome(each, terminated=True)}
    assert changed == {WireEnd.CLIENT_LEFT}


def test_what_was_passed_on_is_made_of_what_came() -> None:
    changes = [
        Change("usage_asked", [], side=Side.REQUEST, at=2, taken=1, put="ü"),
        Change("response_header_added", [("a", "b")]),
        Change("usage_withheld", [], side=Side.RESPONSE, at=1, taken=2),
        Change("usage_withheld", [], side=Side.RESPONSE, at=4, taken=1),
    ]
    assert as_passed([b"abcd"], changes, Side.REQUEST) == ["abüd".encode()]
    assert as_passed([b"ab", b"cd", b"efg"], changes, Side.RESPONSE) == [b"a", b"d", b"fg"]
    refused = [*changes, Change("usage_refused", [], 400, "{}")]
    assert as_passed([b"abcd"], refused, Side.REQUEST) == [b"abcd"]
    assert as_passed([b"abcdefg"], refused, Side.RESPONSE) == [b"adfg"]


def test_what_was_put_behind_all_that_came() -> None:
    puts = ((0, "1"), (2, "2"), (2, "3"))
    changes = [Change("keep_alive", [], side=Side.RESPONSE, at=at, put=put) for at, put in puts]
    assert as_passed([b"a", b"b"], changes, Side.RESPONSE) == [b"1a", b"b23"]
    assert as_passed([b"a", b"bc"], changes, Side.RESPONSE) == [b"1a", b"b23c"]
    assert as_passed([b"ab", b"c"], changes, Side.RESPONSE) == [b"1ab", b"23c"]
    assert as_passed([], changes, Side.RESPONSE) == [b"1"]
    withheld = [*changes, Change("usage_withheld", [], side=Side.RESPONSE, at=2, taken=1)]
    assert as_passed([b"ab", b"cd"], withheld, Side.RESPONSE) == [b"1ab", b"23d"]
    assert as_passed([b"ab"], changes, Side.REQUEST) == [b"ab"]


@given(
    st.lists(st.binary(min_size=1, max_size=9), max_size=6),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20), st.sampled_from(["", "ü"])), max_size=4),
)
def test_what_was_passed_on_however_it_came(pieces: list[bytes], edits: list[tuple[int, int, str]]) -> None:
    came = wanted = b"".join(pieces)
    changes, at = [], 0
    for before, taken, put in edits:
        if (at := at + before) <= len(came):
            changes.append(Change("x", [], side=Side.RESPONSE, at=at, taken=taken, put=put))
        at += taken
    for edit in reversed(changes):
        wanted = wanted[: edit.at] + edit.put.encode() + wanted[edit.at + edit.taken :]
    assert b"".join(as_passed([came], changes, Side.RESPONSE)) == wanted
    got = as_passed(pieces, changes, Side.RESPONSE)
    assert b"".join(got) == wanted
    assert len(got) == (len(pieces) or (wanted != b""))

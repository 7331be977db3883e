"""Exchanges beside one another: places, lines, words and numbers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.replay.compare import MISSING, Spread, View, difference, differences, likeness, numbers, spreads, view
from proxy.replay.paths import shown
from proxy.store.engine import open_engine, reading
from proxy.store.read import get_exchange
from proxy.store.rows import Exchange
from tests.support.databases import Site


def places(*asked: Any) -> dict[str, tuple[Any, ...]]:
    return {shown(each.path): each.values for each in differences(asked)}


def seen(**known: Any) -> View:
    return View(Exchange(UUID(int=1), None, 0, **known), None)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (({"a": 1, "b": [1, {"c": 2}]}, {"b": [1, {"c": 3}], "a": 1.0}), {"b[1].c": (2, 3)}),
        (({"a": 1}, {}), {"a": (1, MISSING)}),
        (([1], [1, 2], [1, 3]), {"[1]": (MISSING, 2, 3)}),
        (({"a": [1]}, {"a": {"b": 1}}), {"a": ([1], {"b": 1})}),
        (({"a": True}, {"a": 1}), {"a": (True, 1)}),
        (("text", None), {"$": ("text", None)}),
        (({"x.y": 1, "z": 0}, {"x.y": 2, "z": 9}), {'["x.y"]': (1, 2), "z": (0, 9)}),
    ],
)
def test_where_requests_differ(asked: tuple[Any, ...], expected: dict[str, tuple[Any, ...]]) -> None:
    assert places(*asked) == expected


def test_no_more_places_than_anybody_reads() -> None:
    assert len(differences([list(range(1000)), list(range(1, 1001))], 7)) == 7


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(_json, _json)
def test_differences_are_those_of_json(one: Any, other: Any) -> None:
    assert places(one, one) == {}
    for each in differences([one, other]):
        for value, whole in zip(each.values, (one, other), strict=True):
            for step in each.path:
                there = step in whole if isinstance(whole, dict) else isinstance(step, int) and step < len(whole)
                whole = whole[step] if there else MISSING
                if whole is MISSING:
                    break
            assert value is whole or value == whole


def test_texts_by_lines() -> None:
    assert difference("a\nb\nc", "a\nx\nc") == ["--- a", "+++ b", "@@ -1,3 +1,3 @@", " a", "-b", "+x", " c"]
    assert difference("same", "same") == []
    assert difference("a\nb", "a\nb\n") == ["(compared are the first 5,000 lines, without their ends)"]


def test_texts_by_words() -> None:
    assert difference("It is sunny today", "It is rainy today") == ["It is [-sunny -]{+rainy +}today"]
    assert difference("", "new") == ["{+new+}"]


@given(st.text(max_size=30), st.text(max_size=30))
def test_what_differs_is_told(one: str, other: str) -> None:
    assert (difference(one, other) == []) == (one == other)


def test_likeness() -> None:
    assert likeness("a b c d", "a b c x") == pytest.approx(0.5, abs=0.26)
    assert (likeness("", ""), likeness("a", "b"), likeness(None, "a")) == (1.0, 0.0, None)
    assert likeness("word " * 100_000, "word " * 99_999) == 1.0


def test_numbers() -> None:
    streamed = seen(first_visible_us=500_000, first_reasoning_us=400_000, terminal_event_us=2_400_000, output_tokens=80)
    streamed.exchange.streaming = True
    assert (numbers(streamed)["first_token_us"], numbers(streamed)["tokens_per_second"]) == (400_000, 40.0)
    assert set(numbers(seen()).values()) == {None}
    assert numbers(seen(cost_pico=1, cost_reported_pico=2))["cost_pico"] == 2


def test_spreads() -> None:
    found = spreads([seen(output_tokens=9), seen(output_tokens=1), seen(), seen(output_tokens=4)])
    assert (found["output_tokens"], found["cost_pico"]) == (Spread(1, 4, 9, 3), None)


def test_what_is_stored(database: Site, ids: dict[str, UUID]) -> None:
    engine = open_engine(database.url, create=False)
    try:
        with reading(engine) as connection:
            found = {}
            for name, key in ids.items():
                exchange = get_exchange(connection, key)
                assert exchange is not None
                found[name] = view(connection, exchange)
    finally:
        engine.dispose()
    assert (found["stream"].asked, found["stream"].text) == ({"model": "m"}, "")
    assert found["bodiless"].text is found["running"].text is None
    assert isinstance(found["hostile"].asked, str)

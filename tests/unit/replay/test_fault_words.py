"""The grammar of faults: what its words mean, and one sentence for whatever is wrong with them."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.replay.fault_words import BadFault, Deed, Fault, parse

WORDS = ["cut=5", "reset=2", "stall=3", "stall=3:2s", "slow=200", "split=utf8", "split=line:3", "status=529", "drop=4"]
TERMS = ["every=2", "times=1"]


@pytest.mark.parametrize(
    ("word", "deed"),
    [
        ("cut=5", ("cut", 5)),
        ("reset=0", ("reset", 0)),
        ("stall=3", ("stall", 3, math.inf)),
        ("stall=3:2s", ("stall", 3, 2.0)),
        ("stall=3:500ms", ("stall", 3, 0.5)),
        ("stall=3:1.5", ("stall", 3, 1.5)),
        ("stall=3:1m", ("stall", 3, 60.0)),
        ("slow=200", ("slow", 200)),
        ("split=utf8", ("split", None, math.inf, "utf8")),
        ("split=line:3", ("split", 3, math.inf, "line")),
        ("status=429", ("status", 429)),
        ("drop=4", ("drop", 4)),
        ("repeat=4", ("repeat", 4)),
    ],
)
def test_each_fault(word: str, deed: tuple[str, int]) -> None:
    assert parse(word).deeds == (Deed(word, *deed),)


@pytest.mark.parametrize("between", [" ", ",", ";", " , ", ";\t"])
def test_words_stand_apart_in_several_ways(between: str) -> None:
    found = parse(f" status=529{between}retry-after=3{between}every=2{between}times=1{between}")
    assert (found.text, len(found.deeds)) == ("status=529 retry-after=3 every=2 times=1", 1)
    assert (found.retry_after, found.every, found.times) == (3.0, 2, 1)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), st.sets(st.sampled_from(TERMS)))
def test_what_is_read_can_be_written(words: list[str], terms: set[str]) -> None:
    found = parse(",".join([*words, *terms]))
    assert parse(found.text) == found
    assert [deed.word for deed in found.deeds] == words


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("cut=1", "111111"),
        ("cut=1 times=1", "100000"),
        ("cut=1 times=2", "110000"),
        ("cut=1 every=2", "101010"),
        ("cut=1 every=2 times=2", "101000"),
        ("none", "000000"),
    ],
)
def test_which_requests_are_hit(text: str, hit: str) -> None:
    assert "".join(str(int(parse(text).hits(before))) for before in range(6)) == hit


@pytest.mark.parametrize(
    ("text", "spoils"),
    [
        ("cut=1", True),
        ("reset=1", True),
        ("status=500", True),
        ("stall=1", True),
        ("slow=1 stall=1:2s split=utf8 drop=1 repeat=1", False),
    ],
)
def test_whether_a_client_is_left_without_an_answer(text: str, spoils: bool) -> None:
    assert parse(text).spoils is spoils


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' has no fault in it; the faults are cut=K, reset=K"),
        ("times=1", "'times=1' has no fault in it; the faults are"),
        ("cutt=5", r"'cutt=5' is no fault \(did you mean cut\?\); the faults are cut=K, .* times=N$"),
        ("status", "'status' is no fault: status takes a status from 400 to 599, such as status=529"),
        ("status=200", "status takes a status from 400 to 599"),
        ("cut=x", "'cut=x' is no fault: cut takes the number of a chunk, from 0, such as cut=5"),
        ("cut=-1", "the number of a chunk"),
        ("cut=٣", "the number of a chunk"),
        ("slow=0", "slow takes bytes a second"),
        ("stall=3:2y", "and for how long unless for ever"),
        ("split=word", "split takes utf8 or line"),
        ("drop=", "the number of an event"),
        ("cut=1 times=0", "times takes how many"),
        ("cut=1 every=2 every=3", "every is said twice"),
        ("cut=1 retry-after=3", "retry-after goes with a status only"),
        ("none cut=1", "'none' is no fault"),
        ("cut=1 " * 17, "a fault has at most 16 words"),
        ("x" * 5000, "^'x{40}…' is no fault"),
    ],
)
def test_what_is_no_fault_is_told_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(BadFault, match=says) as raised:
        parse(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


@given(st.text(max_size=40))
def test_any_text_is_a_fault_or_is_refused(text: str) -> None:
    with suppress(BadFault):
        assert isinstance(parse(text), Fault)

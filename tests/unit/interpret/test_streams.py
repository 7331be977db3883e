"""Every recorded stream means what is expected of it, however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret.exchange import interpret
from tests.support.streams import names, streams
from tests.unit.interpret.reading import differences, recording


@pytest.mark.parametrize("name", names())
def test_means_what_is_expected(name: str) -> None:
    stream = streams()[name]
    assert differences(interpret(recording(stream)), stream.expected) == {}


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("step", [1, 7])
def test_in_small_pieces(name: str, step: int) -> None:
    stream = streams()[name]
    pieces = [stream.body[at : at + step] for at in range(0, len(stream.body), step)]
    assert differences(interpret(recording(stream, pieces)), stream.expected) == {}


@given(data=st.data())
def test_in_any_pieces(data: st.DataObject) -> None:
    stream = streams()[data.draw(st.sampled_from(names()))]
    cuts = data.draw(st.lists(st.integers(0, len(stream.body)), max_size=12))
    places = [0, *sorted(cuts), len(stream.body)]
    pieces = [stream.body[start:end] for start, end in pairwise(places)]
    assert differences(interpret(recording(stream, pieces)), stream.expected) == {}

"""Arrays and lines give the same elements, however their bytes are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret import pieces
from proxy.interpret.pieces import ArrayParser, LineParser

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a"\\{}[],:é📼\n'), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place for place in places if place <= len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 1]), st.booleans(), st.lists(st.integers(0, 200)))
def test_arrays(values: list[Any], indent: int | None, ascii_only: bool, places: list[int]) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    expected = [value for value in values if isinstance(value, dict | list)]
    for cutting in (cut(data, places), [data[at : at + 1] for at in range(len(data))]):
        parser = ArrayParser()
        found = [json.loads(element) for piece in cutting for element in parser.feed(piece)]
        assert found == expected
        assert parser.closed


@given(
    st.lists(VALUES, max_size=5), st.lists(st.integers(0, 200)), st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans()
)
def test_lines(values: list[Any], places: list[int], end: str, ended: bool) -> None:
    data = end.join(json.dumps(value) for value in values) + (end if ended else "")
    for cutting in (cut(data.encode(), places), [bytes([each]) for each in data.encode()]):
        parser = LineParser()
        found = [line for piece in cutting for line in parser.feed(piece)]
        assert [json.loads(line) for line in (*found, *parser.finish())] == values


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_anything_at_all(data: bytes, places: list[int]) -> None:
    whole, in_pieces = ArrayParser(), ArrayParser()
    assert whole.feed(data) == [element for piece in cut(data, places) for element in in_pieces.feed(piece)]
    lines = LineParser()
    assert b"".join([*lines.feed(data), *lines.finish()]) == b"".join(each.strip() for each in data.split(b"\n"))


def test_what_is_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_ELEMENT", 1000)
    array, lines = ArrayParser(), LineParser()
    data = [b"[{}", b',{"a": "', *[b"x" * 100] * 30, b'"}', b',{"b": 1}]']
    assert [element for piece in data for element in array.feed(piece)] == [b"{}", b'{"b": 1}']
    assert array.problem is not None
    data = [b"{}\n", *[b"x" * 100] * 30, b"\n", b'{"b": 1}\n']
    assert [line for piece in data for line in lines.feed(piece)][-1] == b'{"b": 1}'
    assert lines.problem is not None

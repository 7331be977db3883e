"""Single places of a JSON body set anew, and not a byte around them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UsageError
from proxy.replay.edits import Edit, edited, has, parse_edit
from proxy.replay.paths import shown

ODD = b'{ "model":"m" ,\n\t"n": 1.0e0, "n":2,"a":[ {"b" : "\\u00fc\xff"} , 3 ],"deep":{"x.y":{}}, "e":[], "o":{} }\r\n'


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("temperature=0.2", ("temperature",), "0.2"),
        ("a.b[0].c=VALUE", ("a", "b", 0, "c"), '"VALUE"'),
        ("$.a[12][0]=null", ("a", 12, 0), "null"),
        ('["a.b"].c=x=y', ("a.b", "c"), '"x=y"'),
        ('a["q\\"]"]= {"z": [1]} ', ("a", 'q"]'), '{"z": [1]}'),
        ("a=", ("a",), '""'),
        ("a=NaN", ("a",), '"NaN"'),
        ("$ref=1", ("ref",), "1"),
        ("a=007", ("a",), '"007"'),
        ('["**"]["*"]=1', ("**", "*"), "1"),
    ],
)
def test_what_is_set(text: str, path: tuple[str | int, ...], value: str) -> None:
    assert parse_edit(text) == Edit(path, value)


@pytest.mark.parametrize(
    "text", ["", "a", "=1", "a[=1", "a[x]=1", "a..b=1", "[-1]=1", "a.*=1", "**.a=1", "a[*]=1", "$=1", "a.=1"]
)
def test_what_sets_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="PATH=VALUE"):
        parse_edit(text)


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ("model=gpt", b'"m"', b'"gpt"'),
        ("n=3", b'"n":2', b'"n":3'),
        ("a[0].b=[]", b'"\\u00fc\xff"', b"[]"),
        ("a[1]=x", b", 3 ]", b', "x" ]'),
        ("a[2]=4", b", 3 ]", b", 3, 4 ]"),
        ('deep["x.y"].z=true', b"{}}", b'{"z":true}}'),
        ("e[0]=1", b"[]", b"[1]"),
        ("o.p=1", b'"o":{}', b'"o":{"p":1}'),
        ("new=1", b'"o":{}', b'"o":{},"new":1'),
    ],
)
def test_the_rest_stays_to_the_byte(change: str, before: bytes, after: bytes) -> None:
    assert ODD.count(before) == 1
    assert edited(ODD, [parse_edit(change)]) == ODD.replace(before, after)


def test_one_after_another() -> None:
    body = edited(b'{"a": 1, "b": {"c": 2}}', [parse_edit("b.c=[]"), parse_edit("b.c[0]=x"), parse_edit("d=null")])
    assert body == b'{"a": 1, "b": {"c": ["x"]}, "d": null}'


@pytest.mark.parametrize("change", ["x.y=1", "a[5]=1", "a.b=1", "model[0]=1", "n.x=1", "[0]=1", "e[1]=1"])
def test_a_place_that_is_not_there(change: str) -> None:
    with pytest.raises(UsageError, match="the body has no"):
        edited(ODD, [parse_edit(change)])


@pytest.mark.parametrize("body", [b"", b"not", b'{"a":1}{"a":2}', b'{"a":', b"[" * 100_000])
def test_a_body_that_is_no_json(body: bytes) -> None:
    with pytest.raises(UsageError, match="JSON"):
        edited(body, [parse_edit("a=1")])
    assert not has(body, "a")


def test_whether_a_name_is_there() -> None:
    assert has(b' {"model": null}', "model")
    assert not has(b'{"models": {"model": 1}}', "model")
    assert not has(b'["model"]', "model")


_leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
_json = st.recursive(_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [each for step, below in inner for each in ((*path, step), *_places(below, (*path, step)))]


@given(st.dictionaries(st.text(max_size=3), _json, min_size=1), _json, st.booleans(), st.data())
def test_any_place_of_any_body(asked: dict[str, Any], value: Any, spaced: bool, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(_places(asked)))
    text = json.dumps(asked, separators=None if spaced else (",", ":"), indent=1 if spaced else None)
    edit = parse_edit(f"{shown(path)}={json.dumps(value)}")
    assert edit.path == path
    expected = json.loads(text)
    inner = expected
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert json.loads(edited(text.encode(), [edit])) == expected

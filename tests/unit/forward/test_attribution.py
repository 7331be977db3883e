"""What headers say about a request: ours must be right, those of other gateways are taken as far as they go."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.forward.attribution import MAX_SESSION, Wishes, wishes
from proxy.forward.routes import MAX_TAG_BYTES, MAX_TAGS, BadTags

ORIGINAL = "01920000-0000-7abc-8000-00000000000a"


def wish(**headers: str | bytes) -> Wishes:
    """Of headers given as python names: `x_wiretape_tags="a=b"`."""
    raw = [
        (name.replace("_", "-").title().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    return wishes([(b"Accept", b"*/*"), *raw])


def test_nothing_is_wished_for() -> None:
    assert wishes([]) == Wishes((), None, "all")
    assert wish(x_stainless_lang="python", user_agent="x") == Wishes()


def test_ours() -> None:
    made = wish(x_wiretape_tags="project=search, env=ci", x_wiretape_session="é-1", x_wiretape_record=" META ")
    assert made == Wishes((("project", "search"), ("env", "ci")), "é-1", "meta")
    assert wish(x_wiretape_record="none").record == "none"
    assert wish(x_wiretape_anything="else") == Wishes()
    assert wish(x_wiretape_replay_of=f" {ORIGINAL.upper()} ") == Wishes(replay_of=ORIGINAL)


def test_tags_in_several_headers_add_up() -> None:
    made = wishes([(b"X-Wiretape-Tags", b"a=1"), (b"x-wiretape-tags", b"a=2,b=3")])
    assert made.tags == (("a", "1"), ("a", "2"), ("b", "3"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x_wiretape_tags", "a"),
        ("x_wiretape_tags", ""),
        ("x_wiretape_tags", "a=b,"),
        ("x_wiretape_tags", "a=" + "b" * (MAX_TAG_BYTES + 1)),
        ("x_wiretape_record", "some"),
        ("x_wiretape_record", ""),
        ("x_wiretape_record", b"\xff"),
        ("x_wiretape_replay_of", ""),
        ("x_wiretape_replay_of", "last"),
        ("x_wiretape_replay_of", b"\xff"),
        ("x_wiretape_replay_of", ORIGINAL.replace("-", "")),
        ("x_wiretape_replay_of", ORIGINAL + "0"),
    ],
)
def test_ours_and_wrong(name: str, value: str | bytes) -> None:
    with pytest.raises(BadTags):
        wish(**{name: value})


def test_too_many_tags() -> None:
    with pytest.raises(BadTags, match=str(MAX_TAGS)):
        wish(x_wiretape_tags=",".join(f"t{number}=x" for number in range(MAX_TAGS + 1)))


def test_sessions() -> None:
    assert wish(x_wiretape_session="s" * 1000).session == "s" * MAX_SESSION
    assert wish(helicone_session_id="h").session == "h"
    assert wish(x_portkey_trace_id="p").session == "p"
    assert wish(helicone_session_id="h", x_wiretape_session="ours").session == "ours"
    assert wish(x_wiretape_session="ours", helicone_session_id="h").session == "ours"


def test_helicone() -> None:
    made = wish(helicone_property_app="chat", helicone_user_id="u1", helicone_auth="Bearer secret", helicone_x="y")
    assert made.tags == (("app", "chat"), ("user", "u1"))


def test_litellm() -> None:
    assert wish(x_litellm_tags="a, b ,,c").tags == (("tag", "a"), ("tag", "b"), ("tag", "c"))


@pytest.mark.parametrize("name", ["x_portkey_metadata", "cf_aig_metadata"])
def test_metadata_as_json(name: str) -> None:
    value = json.dumps({"team": "ü", "n": 1, "f": 0.5, "ok": True, "none": None, "deep": {"a": 1}, "list": [1]})
    assert wish(**{name: value}).tags == (("team", "ü"), ("n", "1"), ("f", "0.5"), ("ok", "True"))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'"text"',
        b'{"a": "\xff"}',
        b'{"\xff": 1}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 20_000,
        b'{"a":' * 5_000,
        b'{"a": "\\ud800"}',
    ],
)
def test_metadata_that_makes_no_sense_is_passed_over(value: bytes) -> None:
    assert wish(cf_aig_metadata=value, x_wiretape_session="s") == Wishes((), "s")


def test_what_others_send_is_cut_to_size() -> None:
    long = "x" * 1000
    made = wishes(
        [
            (b"Helicone-Property-" + long.encode(), long.encode()),
            (b"X-LiteLLM-Tags", long.encode()),
            (b"cf-aig-metadata", json.dumps({long: long}).encode()),
        ]
    )
    assert all(len(name) <= MAX_TAG_BYTES and len(value) <= MAX_TAG_BYTES for name, value in made.tags)
    assert len(made.tags) == 3
    many = ",".join(str(number) for number in range(100))
    assert len(wish(x_litellm_tags=many).tags) == MAX_TAGS


NAMES = ["Helicone-Property-X", "helicone-user-id", "X-LITELLM-TAGS", "x-portkey-metadata", "cf-aig-metadata", "Accept"]


@given(st.lists(st.tuples(st.sampled_from(NAMES).map(str.encode), st.binary(max_size=200)), max_size=6))
def test_no_header_of_others_fails(headers: list[tuple[bytes, bytes]]) -> None:
    for name, value in wishes(headers).tags:
        (name + value).encode()  # it will be stored as text

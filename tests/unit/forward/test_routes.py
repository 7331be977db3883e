"""Where a raw target goes: octets untouched, and never to a host that is not configured."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Origin
from proxy.forward.demo import DemoUpstream
from proxy.forward.routes import (
    MAX_TAG_BYTES,
    MAX_TAGS,
    BadTags,
    BadTarget,
    Destination,
    Route,
    doubled_segment,
    first_name,
    parse_tags,
    route,
)


def destination(name: str, base_path: bytes = b"") -> Destination:
    host = f"{name}.example".encode()
    return Destination(name, "openai", DemoUpstream(), host, base_path, Origin.LIVE, "all", drain=False)


DESTINATIONS = {
    b"openai": destination("openai"),
    b"based": destination("based", b"/base/v1"),
    b"v1": destination("v1"),
    b"caf\xc3\xa9": destination("cafe"),
}


def found(target: bytes) -> Route:
    made = route(target, DESTINATIONS)
    assert made is not None
    return made


RESTS = [
    b"/v1/chat/completions",
    b"/v1/chat/completions?",
    b"/v1/models?limit=5&after=a%20b",
    b"//double//slashes///",
    b"/../../etc/passwd",
    b"/./a/./b/..",
    b"/a%2Fb%2f..%2F",
    b"/model/us.a-v1%3A0/converse-stream",
    b"/model/us.a-v1:0/invoke",
    b"/models/claude@1:predict",
    b"/models/claude%401",
    b"/bad%zz%4%",
    b'/[{|}]^`<>"',
    b"/\\..\\windows",
    b"/\xc3\xa9\xff\x80",
    b"/a?b?c?d",
    b"/a?x=http://evil.example/@&y=//z",
    b"/http://evil.example/",
    b"/@evil.example/",
    b"//evil.example/x",
    b"/;a=b,c",
    b"/~project=x/y",
]


@pytest.mark.parametrize("rest", RESTS)
def test_octets_pass_as_they_are(rest: bytes) -> None:
    assert found(b"/openai" + rest).target == rest
    assert found(b"/based" + rest).target == b"/base/v1" + rest
    tagged = found(b"/~a=b/openai" + rest)
    assert (tagged.target, tagged.tags) == (rest, (("a", "b"),))
    assert all(found(b"/" + name + rest).destination is end for name, end in DESTINATIONS.items())


@given(st.binary(max_size=60).filter(lambda rest: b"#" not in rest))
def test_any_octets_pass_as_they_are(rest: bytes) -> None:
    assert found(b"/openai/" + rest).target == b"/" + rest
    assert found(b"/based?" + rest).target == b"/base/v1?" + rest


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/openai", b"/"),
        (b"/openai/", b"/"),
        (b"/openai?", b"/?"),
        (b"/openai?a=/b", b"/?a=/b"),
        (b"/openai/?a", b"/?a"),
        (b"/based", b"/base/v1"),
        (b"/based/", b"/base/v1/"),
        (b"/based?a", b"/base/v1?a"),
        (b"/v1/v1/models", b"/v1/models"),
    ],
)
def test_edges_of_a_path(target: bytes, expected: bytes) -> None:
    assert found(target).target == expected


@pytest.mark.parametrize(
    "target",
    [
        b"//openai/v1",
        b"//evil.example/openai/v1",
        b"///openai",
        b"/http://evil.example/",
        b"/https:%2F%2Fevil.example",
        b"/openai@evil.example/v1",
        b"/evil@openai/v1",
        b"/openai:80/v1",
        b"/openai\\evil.example/v1",
        b"/\\openai/v1",
        b"/openai%2Fv1",
        b"/%2Fopenai/v1",
        b"/%6fpenai/v1",
        b"/OpenAI/v1",
        b"/openai /v1",
        b"/./openai/v1",
        b"/../openai/v1",
        b"/x/../openai/v1",
        b"/openai;x/v1",
        b"/openai\x00/v1",
        b"/caf%C3%A9/v1",
        b"/",
        b"/?",
        b"/?openai/v1",
        b"/~a=b",
        b"/~a=b?/openai/v1",
        b"/~a=b/",
        b"/~a=b/~c=d/openai/v1",
        b"/~a=b//openai/v1",
    ],
)
def test_nothing_but_the_very_name_is_an_upstream(target: bytes) -> None:
    assert route(target, DESTINATIONS) is None


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"openai/v1",
        b"http://openai/v1",
        b"http://evil.example/openai/v1",
        b"HTTP://evil.example",
        b"evil.example:443",
        b"\\openai\\v1",
        b"?/openai",
        b"/openai/v1#frag",
        b"/openai#",
        b"/openai?a=#b",
        b"#/openai",
    ],
)
def test_what_is_no_target_of_ours(target: bytes) -> None:
    with pytest.raises(BadTarget, match=r"request target"):
        route(target, DESTINATIONS)


@given(st.binary(max_size=80))
def test_no_octets_reach_another_host(target: bytes) -> None:
    try:
        made = route(target, DESTINATIONS)
    except (BadTarget, BadTags):
        return
    assert made is None or made.destination in DESTINATIONS.values()
    assert made is None or made.target.startswith(b"/")


def tag_segment(text: bytes) -> tuple[tuple[str, str], ...]:
    return found(b"/~" + text + b"/openai/v1").tags


def test_tags_in_the_path() -> None:
    assert tag_segment(b"project=search,env=ci") == (("project", "search"), ("env", "ci"))
    assert tag_segment(b"a=") == (("a", ""),)
    assert tag_segment(b"a=b=c,a=d") == (("a", "b=c"), ("a", "d"))
    assert tag_segment(b" a = b , c = d ") == (("a", "b"), ("c", "d"))


def test_percent_encoding_in_tags_is_undone_and_only_there() -> None:
    assert tag_segment(b"team=R%26D%2FLLM") == (("team", "R&D/LLM"),)
    assert tag_segment("päron=über".encode()) == (("päron", "über"),)
    assert tag_segment(quote("päron=ü, b=%").encode()) == (("päron", "ü"), ("b", "%"))
    assert tag_segment(b"bad=%zz%4") == (("bad", "%zz%4"),)
    assert tag_segment(b"bytes=%ff\xfe") == (("bytes", "\ufffd\ufffd"),)
    assert found(b"/~a=%2F/openai/%2F").target == b"/%2F"


@pytest.mark.parametrize("text", [b"", b"a", b"=b", b" =b", b"a=b,", b",a=b", b"a=b,,c=d", b"a=b,c", b"%3D"])
def test_what_is_no_tag(text: bytes) -> None:
    with pytest.raises(BadTags, match="name=value"):
        tag_segment(text)


def test_too_many_and_too_long_tags() -> None:
    many = b",".join(b"t%d=x" % number for number in range(MAX_TAGS))
    assert len(parse_tags(many)) == MAX_TAGS
    with pytest.raises(BadTags, match=str(MAX_TAGS)):
        parse_tags(many + b",one=more")
    parse_tags(b"a" * MAX_TAG_BYTES + b"=" + b"b" * MAX_TAG_BYTES)
    for text in (b"a" * (MAX_TAG_BYTES + 1) + b"=b", b"a=" + b"b" * (MAX_TAG_BYTES + 1)):
        with pytest.raises(BadTags, match=str(MAX_TAG_BYTES)):
            parse_tags(text)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"/opnai/v1", b"opnai"),
        (b"/~a=b/opnai/v1", b"opnai"),
        (b"/~a=b", b"~a=b"),
        (b"/", b""),
        (b"/opnai?x", b"opnai"),
        (b"*", b"*"),
    ],
)
def test_the_name_that_was_meant(target: bytes, name: bytes) -> None:
    assert first_name(target) == name


@pytest.mark.parametrize(
    ("target", "doubled"),
    [
        (b"/v1/v1/models", "v1"),
        (b"/api/v1/v1/models", "v1"),
        (b"/v1/models?x=/v1/v1", None),
        (b"/v1//v1", None),
        (b"//", None),
        (b"/", None),
        (b"/a/b/c/c", None),
        (b"/\xe9/\xe9", "é"),
    ],
)
def test_doubled_segments(target: bytes, doubled: str | None) -> None:
    assert doubled_segment(target) == doubled

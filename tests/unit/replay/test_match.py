"""Which requests are the same, what differs where they are not, and which recording is the nearest."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UsageError
from proxy.mask import BodyMask
from proxy.replay.match import Canonical, Matcher, Request, Rules, differences, nearest, rule_of

JSON = [("Content-Type", "application/json")]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 1.0}


def request(body: Any = CHAT, **fields: Any) -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(**({"method": "POST", "target": "/v1/chat", "headers": JSON, "body": data} | fields))


def form(one: Request, **rules: Any) -> Canonical:
    return Matcher(Rules(**rules)).canonical(one)


def same(one: Request, other: Request, **rules: Any) -> bool:
    equal = form(one, **rules).key == form(other, **rules).key
    assert equal == (differences(form(one, **rules), form(other, **rules)) == [])
    return equal


def test_the_order_of_json_and_its_blanks_are_overlooked() -> None:
    turned = json.dumps(dict(reversed(CHAT.items())), indent=3).encode()
    assert same(request(), request(turned))
    assert same(request(), request(b"\xef\xbb\xbf" + json.dumps(CHAT).encode()))


@pytest.mark.parametrize(
    ("other", "rule"),
    [
        ({**CHAT, "temperature": 1}, "body"),
        ({**CHAT, "messages": [*CHAT["messages"], 1]}, "body"),  # type: ignore[misc]  # JSON is of any type
        ({**CHAT, "messages": []}, "body"),
        ({**CHAT, "stream": False}, "body"),
        ({**CHAT, "stream": None}, "body"),
        (b"", "body"),
        (b"{", "body"),
    ],
)
def test_all_else_of_the_body_counts(other: Any, rule: str) -> None:
    assert not same(request(), request(other))
    assert rule_of(differences(form(request()), form(request(other)))) == rule


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"method": "PUT"}, "method"),
        ({"target": "/v1/chat/"}, "path"),
        ({"target": "/v1/%63hat"}, "path"),
        ({"target": "/v1/chat?x=1"}, "query"),
        ({"headers": [*JSON, ("OpenAI-Beta", "x")]}, "header openai-beta"),
        ({"headers": [("content-type", "text/plain")]}, "header content-type"),
    ],
)
def test_what_counts_beside_the_body(fields: dict[str, Any], rule: str) -> None:
    assert not same(request(), request(**fields))
    assert rule_of(differences(form(request()), form(request(**fields)))) == rule


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("X-Goog-Upload-Command", "query", "finalize"),
        ("X-Goog-Upload-Offset", "0", "8388608"),
        ("Content-Range", "bytes 0-9/20", "bytes */20"),
    ],
)
def test_what_is_said_to_an_upload_counts(name: str, one: str, other: str) -> None:
    first, second = (request(b"", headers=[(name, said)]) for said in (one, other))
    assert not same(first, second)
    assert rule_of(differences(form(first), form(second))) == f"header {name.lower()}"


def test_what_programs_send_anew_each_time_does_not_count() -> None:
    noise = [("User-Agent", "x/2"), ("traceparent", "00-1"), ("Authorization", "Bearer sk-1"), ("X-Request-Id", "1")]
    assert same(request(), request(headers=[*noise, *JSON, ("Accept-Encoding", "gzip"), ("Accept", "*/*")]))


def test_headers_are_counted_and_overlooked_by_rule() -> None:
    one, other = request(headers=[*JSON, ("X-Mine", "1")]), request(headers=[*JSON, ("x-mine", "2")])
    assert same(one, other)
    assert not same(one, other, match_headers=("X-Mine",))
    assert same(one, other, match_headers=("X-Mine",), ignore_headers=("x-MINE",))
    assert same(request(), request(headers=[]), ignore_headers=("Content-Type",))


def test_the_order_of_a_query_and_its_credentials_are_overlooked() -> None:
    one, other = request(target="/v1/x?a=1&b=2&key=sk-123"), request(target="/v1/x?b=2&key=redacted:0123&a=1")
    assert same(one, other, secret_query=("key",))
    assert not same(one, other)


@pytest.mark.parametrize(
    "path", ["metadata.user_id", "metadata.*", "metadata", "**.user_id", "steps[*].user_id", "steps[-1]", "steps[0]"]
)
def test_json_paths_that_are_overlooked(path: str) -> None:
    def body(user: int) -> dict[str, Any]:
        return {"metadata": {"user_id": user}} if "steps" not in path else {"steps": [{"user_id": user}]}

    assert same(request(body(1)), request(body(2)), ignore_json=(path,))
    assert not same(request(body(1)), request({**body(1), "x": 1}), ignore_json=(path,))


@pytest.mark.parametrize("path", ["", ".", "a..b", "a[", "a[x]", "a]", "**", "a.**", "[1"])
def test_a_path_that_is_none(path: str) -> None:
    with pytest.raises(UsageError, match="names no place"):
        Matcher(Rules(ignore_json=(path,)))


def test_normalisers() -> None:
    rule = ((r"\d{4}-\d\d-\d\d", "DAY"), (r"req_\w+", "ID"))
    one = request({"messages": [{"content": "today is 2026-11-26, req_ab"}]}, target="/v1/req_1/x?since=2026-01-01")
    other = request({"messages": [{"content": "today is 2027-01-01, req_cd"}]}, target="/v1/req_2/x?since=2026-01-02")
    assert not same(one, other)
    assert same(one, other, normalise=rule)
    with pytest.raises(UsageError, match="regular expression"):
        Matcher(Rules(normalise=(("(", ""),)))


def _multipart(boundary: str, name: str = "a.wav") -> Request:
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--{boundary}\r\n'
        f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    ).encode() + b"\x00\xff\r\n--\r\n" * 3
    body += f"\r\n--{boundary}--\r\n".encode()
    return request(body, headers=[("Content-Type", f'multipart/form-data; boundary="{boundary}"')])


def test_the_boundary_of_a_form_is_overlooked() -> None:
    assert same(_multipart("aaa"), _multipart("0123456789"))
    assert not same(_multipart("aaa"), _multipart("aaa", "b.wav"))


def test_a_coded_request_is_the_request() -> None:
    packed = request(gzip.compress(json.dumps(CHAT).encode()), headers=[*JSON, ("Content-Encoding", "gzip")])
    assert same(request(), packed)
    broken = request(b"no gzip", headers=[*JSON, ("Content-Encoding", "gzip")])
    assert not same(request(), broken)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_equal_values_and_no_others_are_the_same(one: Any, other: Any) -> None:
    ours, theirs = request([one]), request([other])
    assert same(ours, request(json.dumps([one], indent=1, sort_keys=True).encode()))
    plain = json.dumps([one], sort_keys=True), json.dumps([other], sort_keys=True)
    if json.loads(plain[0]) != json.loads(plain[1]):
        assert not same(ours, theirs)


@given(
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.sampled_from(["", "application/json", "multipart/x; boundary=a"]),
)
def test_any_bytes_have_a_form(one: bytes, other: bytes, kind: str) -> None:
    headers = [("content-type", kind)]
    assert same(request(one, headers=headers), request(one, headers=headers))
    if kind == "":
        same(request(one, headers=headers), request(other, headers=headers))


def test_names_with_dots_are_no_paths() -> None:
    bodies = [{"a.b": 1}, {"a": {"b": 1}}, {'["a.b"]': 1}, {"a[0]": 1}, {"a": [1]}, {"": 1}, [1], {"[0]": 1}]
    assert len({form(request(body)).key for body in bodies}) == len(bodies)


def test_a_key_in_a_body_counts_as_it_is_recorded() -> None:
    key = b"sk-proj-0123456789abcdefghij"
    asked, other = (request(b'{"tool":"curl -H %b"}' % each) for each in (key, key[:3] + b"x" + key[4:]))
    recorded = request(BodyMask().feed(asked.body))
    assert key not in recorded.body
    assert same(asked, recorded)
    assert not same(other, recorded), "what of a key is kept still tells keys apart"


def test_names_with_dots_can_be_ignored() -> None:
    one, other = ({"x": {"a.b": at, "*": at}} for at in "yz")
    assert same(request(one), request(other), ignore_json=('$.x["a.b"]', 'x["*"]'))
    assert not same(request(one), request(other), ignore_json=("x.a.b", 'x["*"]'))


def test_json_that_is_nested_too_deep_is_bytes() -> None:
    deep = b"[" * 100_000
    assert same(request(deep), request(deep), ignore_json=("**.id",))
    assert not same(request(deep), request(deep + b"["))


def test_the_nearest_has_most_in_common() -> None:
    asked = form(request())
    far = form(request(target="/v1/models", method="GET"))
    near = form(request({**CHAT, "model": "n"}))
    assert nearest(asked, [far, near]) is near
    assert nearest(asked, []) is None
    (found,) = differences(asked, near)
    assert found == ("body model", '"m"', '"n"')
    long = differences(asked, form(request({**CHAT, "model": "x" * 9999})))
    assert len(long[0].recorded or "") < 250
    tails = (form(request({**CHAT, "model": "x" * 999 + tail})) for tail in "yz")
    assert len(differences(*tails)) == 1, "what differs at its end differs"

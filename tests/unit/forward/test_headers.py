"""Which headers and trailers pass, either way, and what of those for one hop is made anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.forward.headers import END_TO_END, HOP_BY_HOP, NO_TRAILERS, for_trailers, to_client, to_upstream
from proxy.wire.interface import ClientRequest, RawHeaders, UpstreamResponse

HOST = b"api.example:8443"
CODING = b"transfer-encoding"


def up(*headers: tuple[bytes, bytes], chunked: bool = False, upgrade: bool = False, strip: bool = False) -> RawHeaders:
    request = ClientRequest(b"POST", b"/x", "1.1", list(headers), chunked=chunked, upgrade=upgrade)
    return to_upstream(request, HOST, strip_attribution=strip)


def down(*headers: tuple[bytes, bytes], takes_trailers: bool = False) -> RawHeaders:
    return to_client(UpstreamResponse(200, b"OK", list(headers), False), takes_trailers=takes_trailers).headers


def test_order_case_duplicates_and_empty_values_pass() -> None:
    headers = [
        (b"X-b", b"1"),
        (b"hOsT", b"127.0.0.1:8800"),
        (b"a", b""),
        (b"X-B", b"2"),
        (b"Cookie", b"a=b"),
        (b"Cookie", b"c=d"),
        (b"x-latin", b"\xe9\xff\x80"),
        (b"Content-Length", b"3"),
        (b"Expect", b"100-continue"),
        (b"a", b""),
    ]
    expected = [(name, HOST if name == b"hOsT" else value) for name, value in headers]
    assert up(*headers) == expected
    assert down(*headers) == headers


def test_what_goes_in_is_left_as_it_is() -> None:
    headers = [(b"Host", b"x"), (b"Connection", b"a"), (b"A", b"b"), (b"Trailer", b"c")]
    kept = list(headers)
    request = ClientRequest(b"POST", b"/x", "1.1", headers)
    to_upstream(request, HOST, strip_attribution=True).append((b"X", b"y"))
    to_client(UpstreamResponse(200, b"OK", headers, False), takes_trailers=False).headers.append((b"X", b"y"))
    for_trailers(headers).append((b"X", b"y"))
    assert headers == kept


def test_nothing_is_added() -> None:
    assert up((b"Host", b"x")) == [(b"Host", HOST)]
    assert up() == [(b"Host", HOST)]
    assert up((b"A", b"b")) == [(b"Host", HOST), (b"A", b"b")]
    assert down() == []


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_headers_go(name: bytes) -> None:
    for shown in (name, name.upper(), name.title()):
        assert up((shown, b"x"), (b"B", b"c"), (b"Host", b"x")) == [(b"B", b"c"), (b"Host", HOST)]
        kept = [(shown, b"x")] if name == CODING else []
        assert down((b"A", b"b"), (shown, b"x")) == [(b"A", b"b"), *kept]


@pytest.mark.parametrize("connection", [b"X-One, x-two", b"close,X-ONE ,\tX-Two", b"x-one,,x-two,"])
def test_what_connection_names_goes(connection: bytes) -> None:
    headers = [(b"X-One", b"1"), (b"Connection", connection), (b"x-TWO", b"2"), (b"X-Three", b"3")]
    assert up((b"Host", b"x"), *headers) == [(b"Host", HOST), (b"X-Three", b"3")]
    assert down(*headers) == [(b"X-Three", b"3")]


def test_several_connection_headers() -> None:
    headers = [(b"Connection", b"x-one"), (b"CONNECTION", b"x-two"), (b"X-One", b"1"), (b"X-Two", b"2"), (b"Z", b"")]
    assert down(*headers) == [(b"Z", b"")]
    assert up((b"Host", b"x"), *headers) == [(b"Host", HOST), (b"Z", b"")]


def test_one_connection_says_nothing_of_the_next() -> None:
    assert down((b"Connection", b"x-one"), (b"X-One", b"1")) == []
    assert down((b"Connection", b"x-two"), (b"X-One", b"1")) == [(b"X-One", b"1")]
    assert down((b"X-One", b"1")) == [(b"X-One", b"1")]


@pytest.mark.parametrize("name", sorted(END_TO_END | {b"host"}))
def test_connection_cannot_name_what_changes_the_meaning(name: bytes) -> None:
    headers = [(b"Host", b"x"), (b"Connection", name), (name, b"v")] if name != b"host" else [(b"Host", b"x")]
    assert name in [key.lower() for key, _ in up(*headers)]
    assert down((b"Connection", name.title()), (name, b"v")) == [(name, b"v")]


# What is made anew for the next hop


def test_te_passes_as_far_as_it_asks_for_trailers() -> None:
    assert up((b"Host", b"x"), (b"TE", b"trailers")) == [(b"Host", HOST), (b"TE", b"trailers"), (b"Connection", b"TE")]
    assert up((b"Host", b"x"), (b"te", b"gzip, Trailers;q=1"), (b"Connection", b"te, close")) == [
        (b"Host", HOST),
        (b"te", b"trailers"),
        (b"Connection", b"te"),
    ]
    assert up((b"Host", b"x"), (b"TE", b"gzip")) == [(b"Host", HOST)]
    assert down((b"TE", b"trailers")) == []


def test_transfer_encoding_is_written_anew_where_the_body_is_chunked() -> None:
    headers = [(b"Host", b"x"), (b"Transfer-Encoding", b"Chunked")]
    assert up(*headers, chunked=True) == [(b"Host", HOST), (b"Transfer-Encoding", b"chunked")]
    assert up(*headers, (b"Connection", b"transfer-encoding"), chunked=True)[-1] == (b"Transfer-Encoding", b"chunked")
    assert up(*headers) == [(b"Host", HOST)]


def test_transfer_encoding_marks_its_place_in_a_response() -> None:
    headers = [(b"A", b"b"), (b"transfer-Encoding", b"chunked"), (b"C", b"d")]
    assert down(*headers) == headers
    assert down(*headers, (b"Connection", b"transfer-encoding")) == headers


def test_an_upgrade_passes_where_it_may() -> None:
    headers = [(b"Host", b"x"), (b"Connection", b"keep-alive,  uPGRADE, x-one"), (b"Upgrade", b"WebSocket")]
    assert up(*headers, (b"X-One", b"1"), upgrade=True) == [
        (b"Host", HOST),
        (b"Connection", b"uPGRADE"),
        (b"Upgrade", b"WebSocket"),
    ]
    assert up(*headers, (b"X-One", b"1")) == [(b"Host", HOST)]
    assert down((b"Connection", b"upgrade"), (b"Upgrade", b"websocket"), (b"A", b"b")) == [(b"A", b"b")]


# Trailers


def test_trailer_passes_to_those_who_take_trailers() -> None:
    headers = [(b"A", b"b"), (b"tRAILER", b"x-sum")]
    assert up((b"Host", b"x"), *headers) == [(b"Host", HOST), *headers]
    assert down(*headers, takes_trailers=True) == headers
    assert down(*headers) == headers[:1]
    assert down(*headers, (b"Connection", b"trailer"), takes_trailers=True) == headers[:1]


@pytest.mark.parametrize("name", sorted(NO_TRAILERS))
def test_what_frames_or_routes_is_no_trailer(name: bytes) -> None:
    for shown in (name, name.upper(), name.title()):
        assert for_trailers([(b"X-b", b"1"), (shown, b"x"), (b"x-B", b"\xe9")]) == [(b"X-b", b"1"), (b"x-B", b"\xe9")]


def test_framing_and_routing_are_among_them() -> None:
    assert {b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer", b"te"} <= NO_TRAILERS


# Ours and others'


def test_our_own_headers_are_taken_off_and_those_of_others_on_request() -> None:
    ours = [(b"x-wiretape-tags", b"a=b"), (b"X-Wiretape-Session", b"s"), (b"X-WIRETAPE-ANYTHING", b"")]
    others = [(b"Helicone-Auth", b"a"), (b"x-litellm-tags", b"b"), (b"X-Portkey-Metadata", b"c"), (b"cf-aig-x", b"d")]
    kept = [(b"Host", b"x"), (b"X-Wire", b"1"), (b"Helicon", b"2")]
    expected = [(b"Host", HOST), *kept[1:]]
    assert up(*kept, *ours, *others) == [*expected, *others]
    assert up(*kept, *ours, *others, strip=True) == expected


def test_a_length_stays_also_without_a_body() -> None:
    headers = [(b"Content-Length", b"5"), (b"ETag", b'"x"')]
    assert down(*headers) == headers


def test_a_hundred_headers_of_32_kb() -> None:
    headers = [(b"X-%d" % number, b"v" * 320) for number in range(150)]
    assert up((b"Host", b"x"), *headers)[1:] == headers


names = st.text("abcXYZ-09", min_size=1, max_size=12).map(str.encode)
values = st.binary(max_size=20)
harmless = st.lists(
    st.tuples(names.filter(lambda name: name.lower() not in HOP_BY_HOP | {b"host", b"content-length"}), values),
    max_size=20,
)


@given(harmless)
def test_whatever_is_not_for_this_hop_passes(headers: RawHeaders) -> None:
    kept = [header for header in headers if not header[0].lower().startswith(b"x-wiretape-")]
    assert up((b"Host", b"x"), *headers) == [(b"Host", HOST), *kept]
    assert down(*headers) == headers
    assert for_trailers(headers) == headers

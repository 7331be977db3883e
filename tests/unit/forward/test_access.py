"""Who may ask the data port: by which Host, from which page; and what a browser is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.forward.access import Access
from proxy.forward.answers import Answer
from proxy.wire.interface import ClientRequest, RawHeaders

PAGE = b"http://localhost:3000"
HOST = (b"Host", b"127.0.0.1:8800")
ACCESS = Access(["wiretape.internal", "192.0.2.7", "fd00::1"], [PAGE.decode(), "https://app.example"])


def asked(*headers: tuple[bytes, bytes], method: bytes = b"POST") -> ClientRequest:
    return ClientRequest(method, b"/o/v1/x", "1.1", list(headers))


def kind(answer: Answer | None) -> str | None:
    return None if answer is None else answer.kind


def by(host: bytes, access: Access = ACCESS) -> str | None:
    return kind(access.refusal(asked((b"Host", host)), guarded=True))


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1",
        b"127.0.0.1:8800",
        b"127.1.2.3:1",
        b"localhost",
        b"LocalHost:65535",
        b"[::1]",
        b"[::1]:8800",
        b"[0:0:0:0:0:0:0:1]:80",
        b"wiretape.internal",
        b"Wiretape.Internal:9000",
        b"192.0.2.7:8800",
        b"[fd00::1]:8800",
        b"[FD00:0::1]",
    ],
)
def test_names_that_are_ours(host: bytes) -> None:
    assert by(host) is None


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"evil.example:8800",
        b"127.0.0.1.evil.example",
        b"127.0.0.1.nip.io:8800",
        b"localhost.evil.example",
        b"evil.localhost",
        b"localhost.",
        b"127.0.0.1.",
        b"wiretape.internal.",
        b"wiretape.internal.evil.example",
        b"x.wiretape.internal",
        b"user@localhost",
        b"localhost@evil.example",
        b"localhost:80@evil.example",
        b"localhost:x",
        b"localhost:",
        b"localhost:8800:8800",
        b"localhost:888888",
        b"localhost/",
        b"localhost, evil.example",
        b"evil.example,localhost",
        b"localhost evil.example",
        b"http://localhost",
        b"0.0.0.0",
        b"0",
        b"127.1",
        b"2130706433",
        b"0x7f000001",
        b"0177.0.0.1",
        b"127.0.0.01",
        b"::1",
        b"[::1",
        b"[::]",
        b"[::1%25lo]",
        b"[localhost]",
        b"192.0.2.70",
        "lоcalhost".encode(),  # noqa: RUF001 - a Cyrillic o, on purpose
        b"localhost\x00",
        b"xn--localhost",
        b"*",
    ],
)
def test_names_that_are_not(host: bytes) -> None:
    assert by(host) == "host_refused"


def test_without_names_only_loopback_is_ours() -> None:
    assert by(b"wiretape.internal", Access()) == "host_refused"
    assert by(b"[::1]:1", Access()) is None


@given(st.binary(max_size=30))
def test_any_host_gets_an_answer(host: bytes) -> None:
    if by(host, Access()) is None:
        name = host.decode("ascii").rpartition(":")[0] if not host.endswith(b"]") and b":" in host else host.decode()
        assert name.lower() == "localhost" or name.startswith(("127.", "["))


def test_one_host_and_no_other_header() -> None:
    refusal = ACCESS.refusal(asked(), guarded=True)
    assert kind(refusal) == "host_refused"
    for headers in (
        [HOST, (b"host", b"evil.example")],
        [(b"Host", b"evil.example"), (b"X-Forwarded-Host", b"localhost"), (b"Forwarded", b"host=localhost")],
        [(b"Host", b"evil.example"), (b"X-Host", b"localhost"), (b"X-Original-Host", b"localhost")],
    ):
        assert kind(ACCESS.refusal(asked(*headers), guarded=True)) == "host_refused"


def test_without_a_key_of_ours_any_host_may_ask() -> None:
    assert ACCESS.refusal(asked((b"Host", b"evil.example")), guarded=False) is None


FOREIGN: list[RawHeaders] = [
    [(b"Origin", b"https://evil.example")],
    [(b"origin", b"null")],
    [(b"Origin", b"")],
    [(b"Origin", b"*")],
    [(b"Origin", b"http://localhost")],
    [(b"Origin", b"https://localhost:3000")],
    [(b"Origin", b"http://localhost:30000")],
    [(b"Origin", b"http://LOCALHOST:3000")],
    [(b"Origin", PAGE + b".evil.example")],
    [(b"Origin", PAGE + b"/")],
    [(b"Origin", b"http://127.0.0.1:8800")],
    [(b"Origin", PAGE), (b"Origin", b"https://evil.example")],
    [(b"Origin", PAGE), (b"Origin", PAGE)],
    [(b"Origin", PAGE + b", https://evil.example")],
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_pages_of_other_origins(headers: RawHeaders) -> None:
    for guarded in (True, False):
        assert kind(ACCESS.refusal(asked(HOST, *headers), guarded=guarded)) == "origin_refused"
        assert ACCESS.page([HOST, *headers]) == ()
    assert kind(Access().refusal(asked(HOST, *headers), guarded=True)) == "origin_refused"
    assert Access().refusal(asked(HOST, *headers), guarded=False) is None  # as without any configuration


@pytest.mark.parametrize("origin", [PAGE, b"https://app.example"])
def test_a_page_that_may_ask(origin: bytes) -> None:
    headers = [HOST, (b"Origin", origin), (b"Sec-Fetch-Site", b"cross-site")]
    assert ACCESS.refusal(asked(*headers), guarded=True) is None
    assert ACCESS.page(headers) == (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", b"*"),
        (b"vary", b"Origin"),
    )


def test_a_page_under_a_name_of_its_own_gets_no_key() -> None:
    rebound = asked((b"Host", b"evil.example:8800"), (b"Origin", PAGE))
    assert kind(ACCESS.refusal(rebound, guarded=True)) == "host_refused"


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"same-origin"])
def test_what_a_page_embeds_has_no_origin(site: bytes) -> None:
    """Such as a picture; also of a page that an upstream served through the data port."""
    embedded = asked(HOST, (b"Sec-Fetch-Site", site), (b"Sec-Fetch-Mode", b"no-cors"), method=b"GET")
    assert kind(ACCESS.refusal(embedded, guarded=True)) == "origin_refused"
    assert ACCESS.refusal(embedded, guarded=False) is None


def test_what_a_person_types_and_programs_send() -> None:
    assert ACCESS.refusal(asked(HOST, (b"Sec-Fetch-Site", b"none"), method=b"GET"), guarded=True) is None
    assert ACCESS.refusal(asked(HOST), guarded=True) is None
    assert ACCESS.page([HOST]) == ()


def test_all_pages() -> None:
    everybody = Access((), ["*"])
    headers = [HOST, (b"Origin", b"null")]
    assert everybody.refusal(asked(*headers), guarded=False) is None
    assert everybody.page(headers) == (
        (b"access-control-allow-origin", b"*"),
        (b"access-control-expose-headers", b"*"),
    )
    assert everybody.page([HOST]) == ()


# Preflights

WANTED = b"authorization,content-type,x-api-key,anthropic-version,x-stainless-os,x-wiretape-tags"


def preflight(*headers: tuple[bytes, bytes], origin: bytes = PAGE, method: bytes = b"OPTIONS") -> Answer | None:
    return ACCESS.preflight(asked(HOST, (b"Origin", origin), *headers, method=method))


def test_a_preflight() -> None:
    answer = preflight((b"Access-Control-Request-Method", b"POST"), (b"access-control-request-headers", WANTED))
    assert answer is not None
    assert (answer.status, answer.body("openai")) == (204, b"")
    told = dict(answer.head(b""))
    assert told[b"access-control-allow-headers"] == WANTED
    assert b"POST" in told[b"access-control-allow-methods"]
    assert b"access-control-allow-private-network" not in told
    assert told.keys() <= {
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-max-age",
    }


def test_a_preflight_from_a_public_page() -> None:
    answer = preflight((b"Access-Control-Request-Method", b"GET"), (b"Access-Control-Request-Private-Network", b"true"))
    assert answer is not None
    assert (b"access-control-allow-private-network", b"true") in answer.headers


def test_what_is_no_preflight_of_ours() -> None:
    method = (b"Access-Control-Request-Method", b"POST")
    assert preflight() is None
    assert preflight(method, method=b"POST") is None
    assert preflight(method, origin=b"https://evil.example") is None
    assert Access().preflight(asked(HOST, (b"Origin", PAGE), method, method=b"OPTIONS")) is None


def test_names_of_headers_and_nothing_else_are_told_back() -> None:
    answer = preflight((b"Access-Control-Request-Method", b"POST"), (b"Access-Control-Request-Headers", b"x:\xff\x80"))
    assert answer is not None
    assert b"access-control-allow-headers" not in dict(answer.headers)

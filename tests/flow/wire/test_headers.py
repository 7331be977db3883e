"""Headers reach the other side as they came: nothing is added but what forwarding needs, hop-by-hop ones stay here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow.wire.stage import HOST, LAST_CHUNK, Answering, Stage, chunk, request, response, staged
from tests.support.rawhttp import Message, RawHeaders, RawUpstream, connect

ID = b"x-wiretape-exchange"

MANY = [b"X-Number-%03d: %d" % (number, number) for number in range(150)]
REQUESTS: dict[str, list[bytes]] = {
    "none": [],
    "order and case": [b"zULU: 1", b"Alpha: 2", b"UPPER: 3", b"lower: 4", b"MiXeD-cAsE: 5"],
    "duplicates": [b"X-Same: 1", b"Other: 2", b"X-Same: 3", b"x-same: 4", b"X-Same: 3"],
    "empty values": [b"X-Empty:", b"X-Blank:  ", b"X-After: 1"],
    "blanks around values": [b"X-A:1", b"X-B:   2  ", b"X-C:\t3\t", b"X-D: a  b\tc"],
    "latin-1": [b"X-Name: J\xfcrgen \xff\x80\xa0", b"X-Utf-8: \xe2\x82\xac"],
    "strange names": [b"!#$%&'*+-.^_`|~: 1", b"0: 2", b"_under_score: 3"],
    "150 of them": MANY,
    "32 kB": [b"X-Long: " + b"v" * 32_768],
    "100 kB": [b"X-Long-%d: " % number + b"v" * 10_000 for number in range(10)],
    "an SDK's": [
        b"Authorization: Bearer sk-test",
        b"Accept: application/json",
        b"Accept-Encoding: gzip, deflate, br, zstd",
        b"User-Agent: OpenAI/Python 3.54.0",
        b"x-stainless-retry-count: 0",
        b"OpenAI-Organization: org-1",
        b"Idempotency-Key: stainless-1",
        b"Cookie: a=1; b=2",
        b"Forwarded: for=1.2.3.4",
        b"X-Forwarded-For: 1.2.3.4",
        b"Via: 1.1 corporate",
        b"Proxy-Authorization: Basic eDp5",
        b"Date: Mon, 23 Nov 2026 00:00:00 GMT",
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
    "other gateways'": [b"Helicone-User-Id: u", b"x-portkey-metadata: {}", b"cf-aig-metadata: {}"],
}


@pytest.mark.parametrize("body", [None, b"", b"{}"], ids=["no body", "empty body", "body"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_same_headers_as_without_us(stage: Stage, name: str, body: bytes | None) -> None:
    direct, proxied = Answering(), Answering()
    lines = REQUESTS[name]
    with RawUpstream(direct) as origin, connect(origin.port) as client:
        client.send(request(b"/v1/x", body, *lines)).read_message()
    with stage.origin(proxied) as origin:
        assert stage.exchange(request(origin.at(), body, *lines)).status == 200
        host = b"127.0.0.1:%d" % origin.port
    expected = [(key, host if value == HOST else value) for key, value in direct.requests[0].headers]
    assert proxied.requests[0].headers == expected
    assert proxied.requests[0].body == direct.requests[0].body


def test_a_chunked_request_stays_one(stage: Stage) -> None:
    script = Answering()
    lines = [b"A: 1", b"transfer-encoding: Chunked", b"B: 2"]
    with stage.origin(script) as origin:
        stage.exchange(request(origin.at(), None, *lines), chunk(b"{}"), LAST_CHUNK)
        host = b"127.0.0.1:%d" % origin.port
    expected = [(b"Host", host), (b"A", b"1"), (b"transfer-encoding", b"chunked"), (b"B", b"2")]
    assert script.requests[0].headers == expected
    assert script.requests[0].chunks == [b"{}"]


def test_the_host_is_added_where_there_was_none(stage: Stage) -> None:
    script = Answering()
    with stage.origin(script) as origin, stage.client() as client:
        client.send(b"GET %b HTTP/1.0\r\nA: 1\r\n\r\n" % origin.at()).read_message()
        host = b"127.0.0.1:%d" % origin.port
    assert script.requests[0].start == b"GET /v1/x HTTP/1.1"
    assert script.requests[0].headers == [(b"Host", host), (b"A", b"1")]


HOPS = [
    b"Connection: keep-alive, X-Hop , x-other",
    b"Keep-Alive: timeout=5",
    b"X-Hop: 1",
    b"X-OTHER: 2",
    b"Proxy-Connection: keep-alive",
    b"Connection: x-third",
    b"x-third: 3",
    b"Upgrade: h2c",
]


def test_hop_by_hop_headers_of_a_request_stay_here(stage: Stage) -> None:
    script = Answering()
    with stage.origin(script) as origin:
        assert stage.exchange(request(origin.at(), b"{}", b"A: 1", *HOPS, b"TE: gzip", b"B: 2")).status == 200
        recorded = stage.only(origin)
    assert [name for name, _ in script.requests[0].headers] == [b"Host", b"A", b"B", b"Content-Length"]
    assert ("X-Hop", "1") in recorded.headers(0)


def test_connection_cannot_take_off_what_a_request_means(stage: Stage) -> None:
    script = Answering()
    kept = [b"Authorization: Bearer k", b"Content-Type: text/plain", b"anthropic-version: 2023-06-01", b"Cookie: a=1"]
    named = b"Connection: close, host, content-length, authorization, content-type, anthropic-version, cookie"
    with stage.origin(script) as origin:
        assert stage.exchange(request(origin.at(), b"{}", named, *kept)).status == 200
    names = [name for name, _ in script.requests[0].headers]
    assert names == [b"Host", b"Authorization", b"Content-Type", b"anthropic-version", b"Cookie", b"Content-Length"]
    assert script.requests[0].body == b"{}"


def test_te_trailers_is_the_one_te_that_passes(stage: Stage) -> None:
    script = Answering()
    with stage.origin(script) as origin:
        stage.exchange(request(origin.at(), b"{}", b"TE: gzip, trailers", b"Connection: te"))
    assert script.requests[0].all("te") == [b"trailers"]
    assert script.requests[0].all("connection") == [b"TE"]


def test_our_own_headers_stay_here(stage: Stage) -> None:
    script = Answering()
    ours = [b"X-Wiretape-Tags: a=b", b"x-wiretape-session: s", b"X-WIRETAPE-RECORD: all", b"x-wiretape-else: 1"]
    with stage.origin(script) as origin:
        assert stage.exchange(request(origin.at(), b"{}", *ours)).status == 200
    assert [name for name, _ in script.requests[0].headers] == [b"Host", b"Content-Length"]


# The response


RESPONSES: dict[str, list[bytes]] = {
    "none": [],
    "order": [b"Zulu: 1", b"Alpha: 2", b"Content-Type: text/event-stream", b"lower: 3"],
    "cookies": [b"Set-Cookie: a=1; Path=/", b"X: y", b"Set-Cookie: b=2, c", b"set-cookie: a=3"],
    "duplicates": [b"X-Same: 1", b"X-Same: 1", b"Via: 1.1 a", b"X-Same: 2", b"Via: 1.1 b"],
    "empty values": [b"X-Empty:", b"X-After: 1"],
    "latin-1": [b"X-Name: J\xfcrgen \xff\x80", b"X-Utf-8: \xe2\x82\xac"],
    "strange names": [b"!#$%&'*+-.^_`|~: 1", b"0: 2"],
    "150 of them": MANY,
    "32 kB": [b"X-Long: " + b"v" * 32_768],
    "the upstream's own server and date": [b"Server: cloudflare", b"Date: Mon, 23 Nov 2026 00:00:00 GMT"],
    "rate limits": [b"x-ratelimit-remaining-tokens: 149984", b"retry-after: 20", b"x-request-id: req_1"],
}


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_has_the_same_headers_and_its_exchange(stage: Stage, name: str, framing: str) -> None:
    lines = RESPONSES[name]
    if framing == "length":
        answer = response(b"body", *lines)
    else:
        head = [b"HTTP/1.1 200 OK", *lines, b"Transfer-Encoding: chunked", b"", chunk(b"body")]
        answer = b"\r\n".join(head) + LAST_CHUNK
    with RawUpstream(Answering(answer)) as upstream, connect(upstream.port) as client:
        direct = client.send(request(b"/v1/x", b"{}")).read_message()
    with stage.origin(Answering(answer)) as origin:
        proxied = stage.exchange(request(origin.at(), b"{}"))
        recorded = stage.only(origin)
    framed = (b"content-length", b"transfer-encoding", ID)
    assert _headers(proxied, framed) == _headers(direct, framed)
    assert proxied.all("content-length") == direct.all("content-length")
    assert proxied.all("transfer-encoding") == direct.all("transfer-encoding")
    assert proxied.all(ID.decode()) == [recorded.id.encode()]
    assert recorded.changes == [
        {"kind": "response_header_added", "headers": [["x-wiretape-exchange", recorded.id]]},
    ]
    assert [name for name, _ in recorded.headers(1)] == [name.decode() for name, _ in direct.headers]
    kept = [(name, value.encode("latin-1")) for name, value in recorded.headers(1) if name.lower() != "set-cookie"]
    assert kept == [(name.decode(), value) for name, value in direct.headers if name.lower() != b"set-cookie"]


def _headers(message: Message, but: tuple[bytes, ...] = ()) -> RawHeaders:
    return [(name, value) for name, value in message.headers if name.lower() not in but]


STATUSES = [
    b"200 OK",
    b"200 Fine, thanks",
    b"201",
    b"201 ",
    b"299 Odd",
    b"418 I'm a teapot",
    b"429 Slow \xfc",
    b"529 x",
    b"999 y",
]


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_its_own_reason(stage: Stage, status: bytes) -> None:
    with stage.origin(Answering(response(b"x", status=status))) as origin:
        answer = stage.exchange(request(origin.at(), b"{}"))
        recorded = stage.only(origin)
    assert answer.start.rstrip(b" ") == b"HTTP/1.1 " + status.rstrip(b" ")
    assert recorded.facts["status"] == int(status[:3])


def test_hop_by_hop_headers_of_a_response_stay_here(stage: Stage) -> None:
    with stage.origin(Answering(response(b"x", b"A: 1", *HOPS, b"B: 2"))) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        answer = client.read_message()
        recorded = stage.only(origin)
        assert not client.has_arrived()  # what the upstream wants of its connection says nothing of this one
    assert [name for name, _ in _headers(answer, (ID,))] == [b"A", b"B", b"Content-Length"]
    assert ("X-Hop", "1") in recorded.headers(1)


def test_an_upstream_that_closes_does_not_close_the_client(stage: Stage) -> None:
    closing = response(b"x", b"Connection: close")
    with stage.origin(Answering(closing)) as origin, stage.client() as client:
        for _ in range(2):
            answer = client.send(request(origin.at(), b"{}")).read_message()
            assert answer.all("connection") == []
        assert len(origin.peers) == 2


def test_cookies_are_the_clients_to_keep(stage: Stage) -> None:
    script = Answering(response(b"x", b"Set-Cookie: session=1; Path=/"))
    with stage.origin(script) as origin, stage.client() as client:
        for _ in range(2):
            client.send(request(origin.at(), b"{}")).read_message()
    assert script.requests[1].all("cookie") == []


# What the configuration turns off


@pytest.fixture(scope="module")
def discreet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    config = "forward.expose_id = false\nforward.strip_attribution = true"
    with staged(tmp_path_factory.mktemp("discreet"), config, upstreams=2) as stage:
        yield stage


def test_without_expose_id_nothing_is_added(discreet: Stage) -> None:
    with discreet.origin(Answering(response(b"x", b"A: 1"))) as origin:
        answer = discreet.exchange(request(origin.at(), b"{}"))
        recorded = discreet.only(origin)
    assert _headers(answer) == [(b"A", b"1"), (b"Content-Length", b"1")]
    assert recorded.changes == []


def test_strip_attribution_takes_other_gateways_headers_off(discreet: Stage) -> None:
    script = Answering()
    lines = [b"Helicone-Property-App: chat", b"A: 1", b"x-litellm-tags: one,two", b'cf-aig-metadata: {"team": "x"}']
    with discreet.origin(script) as origin:
        discreet.exchange(request(origin.at(), b"{}", *lines))
        recorded = discreet.only(origin)
    assert [name for name, _ in script.requests[0].headers] == [b"Host", b"A", b"Content-Length"]
    assert recorded.tags == [("app", "chat"), ("tag", "one"), ("tag", "two"), ("team", "x")]

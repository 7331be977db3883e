"""A method is any token, passes with its case, and changes nothing but what HTTP says of HEAD."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import Run, answering, assert_same_requests, assert_same_responses, refused, twice
from tests.flow.wire.stage import Stage, request, response
from tests.support.rawhttp import Peer

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
METHODS = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"OPTIONS",
    b"patch",
    b"Patch",
    b"get",
    b"pOST",
    b"PROPFIND",
    b"M-SEARCH",
    b"QUERY",
    b"LINK",
    b"SOURCE",
    b"DESCRIBE",
    b"ANNOUNCE",
    b"PRI",
    b"QUERYING",
    b"GETS",
    b"G",
    b"1",
    b"x-own.method",
    TOKEN,
    b"LONG" * 100,
]


def _shown(method: bytes) -> str:
    return method[:20].decode()


@pytest.mark.parametrize("method", METHODS, ids=_shown)
def test_a_token_passes(stage: Stage, method: bytes) -> None:
    """Without a body none is added, and an empty one is not left out."""

    def client(peer: Peer, run: Run) -> None:
        for body in (None, b"", b"{}"):
            peer.send(request(run.at(), body, b"A: 1", method=method))
            peer.read_message(bodiless=method == b"HEAD")

    answer = response(b"", b"B: 2") if method == b"HEAD" else response(b"answer", b"B: 2")
    both = twice(stage, client, answering(answer))
    assert_same_requests(both)
    assert_same_responses(both)
    assert [each.method for each in both.proxied.requests] == [method] * 3
    assert {each.facts["method"] for each in stage.recorded(both.origin, 3)} == {method.decode()}


@pytest.mark.parametrize("method", [b"PROPFIND", b"query", b"GET"], ids=bytes.decode)
def test_a_chunked_body_to_any_method(stage: Stage, method: bytes) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, b"Transfer-Encoding: chunked", method=method), b"3\r\nabc\r\n0\r\n\r\n")
        peer.read_message()

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)


def test_head_gets_the_length_and_nothing_more(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        for _ in range(2):
            peer.send(request(run.at(), method=b"HEAD"))
            assert peer.read_message(bodiless=True).one("content-length") == b"5000"

    both = twice(stage, client, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"))
    assert_same_requests(both)
    assert_same_responses(both)


def test_head_gets_no_body_from_us_either(stage: Stage) -> None:
    """What followed the head would be taken for the next answer."""
    with stage.client() as client:
        client.send(request(b"/nobody-of-this-name/x", method=b"HEAD"), request(b"/-/live", method=b"GET"))
        assert client.read_message(bodiless=True).status == 404
        assert client.read_message().status == 200


def test_head_in_lower_case_is_not_head(stage: Stage) -> None:
    """Methods have a case (RFC 9110, 9.1): to this one a body comes."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), method=b"head"))
        assert peer.read_message().body == b"answer"

    both = twice(stage, client, answering(response(b"answer")))
    assert_same_requests(both)
    assert_same_responses(both)


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"], ids=bytes.decode)
@pytest.mark.parametrize("body", [None, b"{}"], ids=["no body", "body"])
def test_what_is_not_relayed(stage: Stage, method: bytes, body: bytes | None) -> None:
    def data(run: Run) -> bytes:
        return request(run.at(), body, method=method)

    refused(stage, data, 501, "wiretape_method_refused")


def test_a_tunnel_to_somewhere(stage: Stage) -> None:
    """As a browser asks that takes us for its proxy; what it sends behind, as if it had it, is not understood."""

    def data(run: Run) -> bytes:
        tunnel = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (run.origin.port, run.origin.port)
        return tunnel + request(run.at(), b"{}")

    refused(stage, data, 501, "wiretape_method_refused")


NO_TOKENS: dict[str, bytes] = {
    "nothing": b"",
    "an at sign": b"G@T",
    "a bracket": b"GE(T",
    "a slash": b"GET/",
    "a colon": b"GET:",
    "a comma": b"GET,POST",
    "an equals sign": b"GET=",
    "quotes": b'"GET"',
    "a backslash": b"G\\ET",
    "a brace": b"{GET}",
    "beyond ASCII": b"G\xcbT",
    "UTF-8": "GÊT".encode(),
    "NUL": b"GE\0T",
    "a tab": b"GET\t",
    "a bare CR": b"GET\r",
    "a bare LF": b"GE\nT",
    "DEL": b"GET\x7f",
}


@pytest.mark.parametrize("name", NO_TOKENS)
def test_what_is_no_token(stage: Stage, name: str) -> None:
    refused(stage, lambda run: request(run.at(), b"{}", method=NO_TOKENS[name]))

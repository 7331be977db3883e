"""Trailers of an upload reach the origin as trailers, never as headers, and without what would frame or route it."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import Run, assert_same_requests, assert_same_responses, twice
from tests.flow.wire.stage import Stage, chunk, request
from tests.support.rawhttp import Ended, Peer, chunked
from tests.support.running import files_of

CHUNKED = b"Transfer-Encoding: chunked"
BODY = b"hello"

TRAILERS: dict[str, list[bytes]] = {
    "one": [b"X-Sum: 1"],
    "order and case": [b"zULU: 1", b"Alpha: 2", b"UPPER: 3", b"lower: 4"],
    "duplicates": [b"X-Same: 1", b"Other: 2", b"x-same: 3", b"X-Same: 1"],
    "empty values": [b"X-Empty:", b"X-Blank:  ", b"X-After: 1"],
    "blanks around values": [b"X-A:1", b"X-B:   2  ", b"X-C:\t3\t"],
    "latin-1": [b"X-Name: J\xfcrgen \xff\x80", b"X-Utf-8: \xe2\x82\xac"],
    "strange names": [b"!#$%&'*+-.^_`|~: 1", b"0: 2"],
    "100 of them": [b"X-Number-%03d: %d" % (number, number) for number in range(100)],
    "32 kB": [b"X-Long: " + b"v" * 32_768],
    "what uploads really have": [
        b"x-amz-checksum-crc32: sOO8/Q==",
        b"Content-MD5: x",
        b"Digest: sha-256=x",
        b"ETag: x",
    ],
    "what a header has said already": [b"A: 2", b"Content-Type: text/plain"],
    "credentials": [b"Authorization: Bearer sk-trailing-1", b"x-api-key: sk-trailing-2", b"Cookie: a=sk-trailing-3"],
}


@pytest.mark.parametrize("name", TRAILERS)
def test_trailers_pass(stage: Stage, name: str) -> None:
    """Twice on a connection: nothing of the first's is taken for the second's."""

    def client(peer: Peer, run: Run) -> None:
        head = request(run.at(), None, b"A: 1", CHUNKED, b"Trailer: X-Sum")
        peer.send(head, _end(TRAILERS[name])).read_message()
        peer.send(request(run.at(), b"{}")).read_message()

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)
    assert len(both.proxied.requests[0].trailers) == len(TRAILERS[name])
    headers = [key.lower() for key, _ in both.proxied.requests[0].headers]
    assert headers == [b"host", b"a", b"transfer-encoding", b"trailer"]


def _end(lines: list[bytes]) -> bytes:
    return b"".join([chunk(BODY), b"0\r\n", *[line + b"\r\n" for line in lines], b"\r\n"])


def test_trailers_without_a_body(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), chunked(trailers=[(b"X-Sum", b"0")])).read_message()

    both = twice(stage, client)
    assert_same_requests(both)
    assert both.proxied.requests[0].trailers == [(b"X-Sum", b"0")]


def test_trailers_that_come_long_after_the_body(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), chunk(BODY))
        run.wait("the body arrived")
        peer.send_bytewise(b"0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n")
        peer.read_message()

    def origin(peer: Peer, run: Run) -> None:
        head = peer.read_until(b"\r\n\r\n")
        assert b"X-Sum" not in head
        peer.read_until(chunk(BODY))
        run.tell("the body arrived")
        peer.read_until(b"X-More: 2\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    both = twice(stage, client, origin)
    assert_same_requests(both)
    assert_same_responses(both)


FORBIDDEN: dict[str, bytes] = {
    "Content-Length": b"Content-Length: 5",
    "Content-Length in lower case": b"content-length: 0",
    "Transfer-Encoding": b"Transfer-Encoding: chunked",
    "another Transfer-Encoding": b"transfer-encoding: gzip",
    "Host": b"Host: other.test",
    "Connection": b"Connection: close",
    "Connection that names another": b"Connection: X-Sum",
    "Keep-Alive": b"Keep-Alive: timeout=5",
    "Proxy-Connection": b"Proxy-Connection: close",
    "TE": b"TE: trailers",
    "Upgrade": b"Upgrade: h2c",
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_frames_or_routes_does_not_pass(stage: Stage, name: str) -> None:
    """Who merges trailers into headers would read another request (RFC 9110, 6.5.1); the others still pass, and the
    request is as it was without."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), _end([b"Before: 1", FORBIDDEN[name], b"After: 2"])).read_message()
        try:
            peer.send(request(run.at(), b"{}")).read_message()
        except Ended:
            assert name in ("Connection", "Proxy-Connection")  # it may be taken at its word

    both = twice(stage, client)
    field = FORBIDDEN[name].partition(b":")[0]
    assert [key for key, _ in both.direct.requests[0].trailers] == [b"Before", field, b"After"]
    first, *others = both.proxied.requests
    assert first.trailers == [(b"Before", b"1"), (b"After", b"2")]
    assert first.headers == [(b"Host", both.proxied.host), (b"Transfer-Encoding", b"chunked")]
    assert (first.body, [each.body for each in others]) in ((BODY, [b"{}"]), (BODY, []))
    assert both.proxied.responses[0].status == 200


def test_trailers_are_recorded_without_their_credentials(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), _end([b"X-Sum: 1", *TRAILERS["credentials"]])).read_message()

    both = twice(stage, client)
    recorded = stage.only(both.origin)
    kept = recorded.headers(3)
    assert [name for name, _ in kept] == ["X-Sum", "Authorization", "x-api-key", "Cookie"]
    assert kept[0] == ("X-Sum", "1")
    assert "trailing" not in repr(recorded)
    assert all("redacted:" in value for _, value in kept[1:])
    for data in files_of(stage.wiretape.home / "journal").values():
        assert b"sk-trailing" not in data
    assert (b"x-api-key", b"sk-trailing-2") in both.proxied.requests[0].trailers

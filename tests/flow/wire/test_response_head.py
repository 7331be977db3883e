"""A response's status line and headers come down as they came, but for what belongs to one connection alone."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import ID, Run, answering, assert_same_responses, twice
from tests.flow.wire.stage import LAST_CHUNK, Stage, chunk, request, response
from tests.support.rawhttp import Ended, Peer

CODES = sorted({*range(200, 1000, 9), 201, 203, 205, 206, 226, 299, 300, 399, 418, 451, 499, 529, 599, 600, 998, 999})
REASONS: dict[str, bytes] = {
    "usual": b"200 OK",
    "missing": b"200",
    "empty": b"200 ",
    "of blanks": b"200   ",
    "with blanks inside": b"200 two  blanks\tand a tab",
    "with a blank before": b"200  OK",
    "with a blank behind": b"200 OK ",
    "in another case": b"200 oK",
    "another status": b"200 404 Not Found",
    "a status line": b"200 HTTP/1.1 500 Oops",
    "punctuation": b"""200 <b>"it's"</b>: {fine} [100%] \\o/, ~#;@|""",
    "latin-1": b"200 J\xfcrgen \xa0\xff\x80",
    "UTF-8": "200 grün ✓".encode(),
    "long": b"200 " + b"why " * 2000,
}


def _ask(peer: Peer, run: Run) -> None:
    peer.send(request(run.at(), b"{}")).read_message()


def test_every_status_is_the_upstreams(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        for code in CODES:
            answer = peer.send(request(run.at(), None, b"X-Code: %d" % code, method=b"GET")).read_message()
            assert answer.body == b"it was %d" % code

    def origin(peer: Peer, run: Run) -> None:
        try:
            while True:
                code = peer.read_message().one("x-code") or b""
                peer.send(response(b"it was " + code, status=code + b" Reason " + code))
        except Ended:
            return

    both = twice(stage, client, origin)
    assert_same_responses(both)
    assert [each.status for each in both.proxied.responses] == CODES
    assert len(both.proxied.connections) == 1


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_passes_octet_by_octet(stage: Stage, name: str) -> None:
    both = twice(stage, _ask, answering(response(b"x", status=REASONS[name])))
    (direct,), (proxied,) = both.direct.responses, both.proxied.responses
    whole = direct.start if b" " in REASONS[name] else direct.start + b" "  # it may not be missing (RFC 9112, 4)
    assert proxied.start == whole
    assert proxied.body == direct.body


HEADS: dict[str, list[bytes]] = {
    "length in the midst": [b"zULU: 1", b"Content-Length: 4", b"Alpha: 2", b"set-cookie: a=1", b"SET-COOKIE: b=2"],
    "another case": [b"CONTENT-LENGTH: 4", b"content-type: text/plain", b"DATE: Mon, 23 Nov 2026 00:00:00 GMT"],
    "blanks": [b"content-length:   4\t ", b"A:", b"B: \t", b"C:\tx  y\t"],
    "names of ours": [b"X-Wiretape-Tags: a=b", b"x-wiretape-session: s", b"Content-Length: 4"],
}


@pytest.mark.parametrize("name", HEADS)
def test_ours_is_the_only_header_added_and_the_last(stage: Stage, name: str) -> None:
    answer = b"\r\n".join([b"HTTP/1.1 200 OK", *HEADS[name], b"", b"body"])
    both = twice(stage, _ask, answering(answer))
    (direct,), (proxied,) = both.direct.responses, both.proxied.responses
    assert proxied.headers == [*direct.headers, (ID, stage.only(both.origin).id.encode())]


def test_nothing_is_added_to_what_a_chunked_response_has(stage: Stage) -> None:
    lines = [b"HTTP/1.1 200 OK", b"A: 1", b"transfer-encoding: Chunked", b"B: 2", b"", chunk(b"body")]
    both = twice(stage, _ask, answering(b"\r\n".join(lines) + LAST_CHUNK))
    (proxied,) = both.proxied.responses
    assert proxied.all("transfer-encoding") == [b"chunked"]
    names = [name for name, _ in proxied.headers if name.lower() != b"transfer-encoding"]
    assert names == [b"A", b"B", ID]
    assert proxied.headers[-1][0] == ID


def test_connection_takes_off_what_it_names_but_not_what_a_response_means(stage: Stage) -> None:
    named = (
        b"Connection: close, X-Hop , set-cookie,Retry-After, content-length, content-type, CONTENT-ENCODING, location"
    )
    kept = [
        b"Set-Cookie: a=1",
        b"Retry-After: 3",
        b"Content-Type: text/plain",
        b"Content-Encoding: x-own",
        b"Location: /there",
    ]
    gone = [
        b"X-Hop: 1",
        b"x-hop: 2",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"TE: gzip",
        b"Upgrade: h2c",
    ]
    answer = response(b"body", named, *gone[:3], *kept, *gone[3:], status=b"429 Slow")
    both = twice(stage, _ask, answering(answer, times=1))
    (proxied,) = both.proxied.responses
    assert [b"%b: %b" % header for header in proxied.headers[:-1]] == [*kept, b"Content-Length: 4"]

"""One response out of bytes: the same for any cutting, complete by its own framing, and what may come behind it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.interface import RawHeaders, UpstreamError
from proxy.wire.response import ResponseParser
from tests.unit.wire.parsing import CHUNKED, OK, SWITCHING, Parsed, cut, cut_at, cuttings, feed

GOOD = {
    "length": (OK + b"Content-Length: 3\r\n\r\nabc", b"abc", True),
    "length zero": (OK + b"Content-Length: 0\r\nX-Last:\r\n\r\n", b"", True),
    "empty values": (OK + b"X-One:\r\nX-Two:  \r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "chunks": (CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", b"abcd", True),
    "chunks with extensions": (CHUNKED + b'3;a=b;c="d e"\r\nabc\r\n0;last\r\n\r\n', b"abc", True),
    "chunk sizes in hex": (CHUNKED + b"00A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n", b"0123456789" * 2, True),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\nX-Sum: 1 \r\nx-sum: 2\r\nX-None:\r\n\r\n", b"x", True),
    "no chunks but the last": (CHUNKED + b"0\r\n\r\n", b"", True),
    "coding in another case": (OK + b"transfer-ENCODING:\tChunked \r\n\r\n1\r\nx\r\n0\r\n\r\n", b"x", True),
    "until close": (OK + b"A: b\r\n\r\nabc", b"abc", False),
    "until close without headers": (OK + b"\r\nabc", b"abc", False),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\nLink: b\r\n\r\n"
        + OK
        + b"Content-Length: 1\r\n\r\nx",
        b"x",
        True,
    ),
    "interim that claims a body": (
        b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
        b"x",
        True,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "304 with a length": (b'HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: "x"\r\n\r\n', b"", True),
    "304 with chunks": (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", b"", True),
    "205 with a body": (b"HTTP/1.1 205 Reset\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "odd reason": (b"HTTP/1.1 299 \xe9\xff  odd \r\nContent-Length: 0\r\n\r\n", b"", True),
    "no reason": (b"HTTP/1.1 529 \r\nContent-Length: 0\r\n\r\n", b"", True),
    "no reason and no blank": (b"HTTP/1.1 999\r\nContent-Length: 0\r\n\r\n", b"", True),
    "version 1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "latin-1": (OK + b"X-L: \xe9\xff\r\nContent-Length: 0\r\n\r\n", b"", True),
    "upgrade offered": (OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "line ends within the body": (OK + b"Content-Length: 8\r\n\r\n\r\n\r\n\n\r\r\n", b"\r\n\r\n\n\r\r\n", True),
    "cut in the status line": (b"HTTP/1.1 20", b"", False),
    "cut in the head": (OK + b"Content-Le", b"", False),
    "cut in the length": (OK + b"Content-Length: 5\r\n\r\nabc", b"abc", False),
    "cut in a chunk": (CHUNKED + b"5\r\nabc", b"abc", False),
    "cut before the last chunk": (CHUNKED + b"3\r\nabc\r\n", b"abc", False),
    "cut in the last chunk": (CHUNKED + b"3\r\nabc\r\n0\r\n", b"abc", False),
    "cut in the trailers": (CHUNKED + b"0\r\nX: y\r\n", b"", False),
    "nothing but an interim": (b"HTTP/1.1 100 Continue\r\n\r\n", b"", False),
    "102 and no more": (b"HTTP/1.1 102 Processing\r\nA: b\r\n\r\nHTTP/1.1 199 X\r\n\r\n", b"", False),
}


@pytest.mark.parametrize(("data", "body", "complete"), GOOD.values(), ids=GOOD)
def test_any_cutting_gives_the_same(data: bytes, body: bytes, complete: bool) -> None:
    whole = feed(data)
    assert (whole.body, whole.complete, whole.surplus) == (body, complete, False)
    for pieces in cuttings(data):
        assert feed(*pieces) == whole


def test_a_head_as_it_came() -> None:
    head = feed(b"HTTP/1.1 299  Fine  so\r\nX-b:  1 \t\r\na:\r\nX-B: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n").final
    assert (head.status, head.reason, head.bodiless) == (299, b" Fine  so", False)
    assert head.headers == [(b"X-b", b"1"), (b"a", b""), (b"X-B", b"2"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]


def test_trailers_are_no_headers() -> None:
    made = feed(GOOD["trailers"][0])
    assert made.final.headers == [(b"Transfer-Encoding", b"chunked")]
    assert made.trailers == [(b"X-Sum", b"1"), (b"x-sum", b"2"), (b"X-None", b"")]


# Interim responses


def test_interim_responses_are_told_and_leave_nothing_behind() -> None:
    made = feed(GOOD["interim"][0])
    assert [(each.status, each.reason, each.headers, each.bodiless) for each in made.interims] == [
        (100, b"Continue", [], True),
        (103, b"Early Hints", [(b"Link", b"a"), (b"Link", b"b")], True),
    ]
    assert (made.final.status, made.final.reason, made.final.headers) == (200, b"OK", [(b"Content-Length", b"1")])


def test_an_interim_response_is_told_when_it_is_whole() -> None:
    parser = ResponseParser(head_request=False)
    parser.feed(b"HTTP/1.1 103 E\r\nA: b\r\n\r")
    assert parser.interims == []
    parser.feed(b"\nHTTP/1.1 2")
    assert [each.status for each in parser.interims] == [103]
    assert (parser.head, parser.complete) == (None, False)


def test_endless_interim_responses_are_not_kept() -> None:
    parser = ResponseParser(head_request=False)
    for _ in range(10_000):
        parser.feed(b"HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 10")
        parser.feed(b"2 Processing\r\n\r\n")
        assert [each.status for each in parser.interims] == [103, 102]
        assert (parser._held, parser.parts) == (b"", [])
        parser.interims = []


# Responses without a body


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (OK + b"Content-Length: 5\r\n\r\n", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", True),
        (OK + b"\r\n", True),
        (b"HTTP/1.1 100 C\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\n", True),
        (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.0 404 No\r\n\r\n", False),
        (b"HTTP/1.0 404 No\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_head_requests_have_no_body(data: bytes, reusable: bool) -> None:
    for pieces in cuttings(data):
        made = feed(*pieces, head=True)
        assert (made.complete, made.final.bodiless, made.body, made.until_close) == (True, True, b"", False)
        assert (made.surplus, made.reusable) == (False, reusable)
    for behind in (b"1", b"12345", b"\r\n", b"0\r\n\r\n", OK):
        for pieces in ([data + behind], [data, behind], cut(data + behind, 1)):
            made = feed(*pieces, head=True)
            assert (made.complete, made.body, made.surplus, made.reusable) == (True, b"", True, False)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("framing", [b"", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_bytes_behind_a_bodiless_response_are_nobodys(status: int, framing: bytes) -> None:
    data = b"HTTP/1.1 %d No\r\n%b\r\n" % (status, framing)
    for pieces in cuttings(data):
        assert feed(*pieces).reusable is True
    for behind in (b"abc", b"\r\n", b"0\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"):
        for pieces in cuttings(data + behind):
            made = feed(*pieces)
            assert (made.complete, made.final.status, made.final.bodiless) == (True, status, True)
            assert (made.body, made.surplus, made.reusable) == (b"", True, False)


# Another request on the same connection


REUSE = {
    "length": (GOOD["length"][0], True),
    "chunks": (GOOD["trailers"][0], True),
    "interim first": (GOOD["interim"][0], True),
    "closing": (OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n", False),
    "closing among others": (OK + b"Connection: x, Close\r\nContent-Length: 0\r\n\r\n", False),
    "closing in a second header": (OK + b"Connection: x\r\nconnection: close\r\nContent-Length: 0\r\n\r\n", False),
    "until close": (GOOD["until close"][0], False),
    "not complete": (GOOD["cut in a chunk"][0], False),
    "1.0": (GOOD["version 1.0"][0], False),
    "1.0 kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", True),
    "1.0 with chunks": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        False,
    ),
    "a second response": (OK + b"Content-Length: 1\r\n\r\nx" + OK + b"Content-Length: 4\r\n\r\nevil", False),
    "garbage behind": (OK + b"Content-Length: 1\r\n\r\nxgarbage", False),
    "an empty line behind": (OK + b"Content-Length: 1\r\n\r\nx\r\n", False),
    "garbage behind a close": (OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nxmore", False),
    "a response behind chunks": (CHUNKED + b"0\r\n\r\nHTTP/1.1 500 No\r\nX: y\r\n\r\n", False),
    "garbage behind chunks": (CHUNKED + b"1\r\nx\r\n0\r\n\r\n\0", False),
    "an empty line behind chunks": (CHUNKED + b"1\r\nx\r\n0\r\n\r\n\r\n", False),
    "a switch of protocols behind chunks": (CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + SWITCHING, False),
    "an empty line behind trailers": (CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\n\r\n\r\n", False),
}


@pytest.mark.parametrize(("data", "reusable"), REUSE.values(), ids=REUSE)
def test_when_a_connection_may_carry_another_request(data: bytes, reusable: bool) -> None:
    for pieces in cuttings(data):
        made = feed(*pieces)
        assert made.reusable is reusable
        assert made.body in {b"", b"x", b"abc", b"abc"[: len(made.body)]}, "surplus bytes are no part of a body"


@pytest.mark.parametrize("place", range(1, 60))
def test_surplus_changes_nothing_of_the_response(place: int) -> None:
    data = OK + b"Content-Length: 1\r\n\r\nx" + b"HTTP/1.1 500 Evil\r\nX: y\r\nContent-Length: 2\r\n\r\nno"
    made = feed(data[:place], data[place:])
    assert (made.final.status, made.final.reason, made.final.headers) == (200, b"OK", [(b"Content-Length", b"1")])
    assert (made.body, made.trailers, made.complete, made.surplus) == (b"x", [], True, True)


# Another protocol


def test_a_switch_that_was_asked_for() -> None:
    made = feed(SWITCHING, upgrade=True)
    assert (made.upgraded, made.complete, made.reusable, made.body) == (True, False, False, b"")
    assert (made.final.status, made.final.reason, made.final.bodiless) == (101, b"Switching", True)
    assert made.final.headers == [(b"Connection", b"upgrade"), (b"Upgrade", b"websocket")]
    early = b"HTTP/1.1 103 E\r\n\r\n"
    data = early + SWITCHING + b"\x81\x05hello\r\n\r\n" + OK
    for pieces in cuttings(data):
        made = feed(*pieces, upgrade=True)
        assert made.body == b"\x81\x05hello\r\n\r\n" + OK, "what follows belongs to no parser"
        assert ([each.status for each in made.interims], made.upgraded, made.reusable) == ([103], True, False)


@pytest.mark.parametrize("name", GOOD)
def test_an_upgrade_may_be_refused(name: str) -> None:
    assert feed(GOOD[name][0], upgrade=True) == feed(GOOD[name][0])


# Whatever comes


WORDS = [
    b"HTTP/1.1 ",
    b"200 OK\r\n",
    b"204 No\r\n",
    b"100 C\r\n",
    b"101 S\r\nUpgrade: x\r\n\r\n",
    b"\r\n",
    b"\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Upgrade: x\r\n",
    b"0\r\n",
    b"1\r\nx\r\n",
    b"5",
    b";",
    b" ",
    b"\0",
    OK,
    CHUNKED,
    SWITCHING,
    b"0\r\n\r\n",
]
anything = st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(WORDS)), max_size=15).map(b"".join)
where = st.lists(st.integers(0, 1 << 12), max_size=10)


@given(anything, where, st.booleans(), st.booleans())
@example(OK + b"\r\nx", [1], False, False)
@example(CHUNKED + b"0\r\n\r\n\r\n", [1 << 12], False, False)
def test_whatever_comes_is_read_in_one_way(data: bytes, places: list[int], head: bool, upgrade: bool) -> None:
    """Refused in every cutting, or else the same; and nothing but UpstreamError comes out."""
    results: list[Parsed | None] = []
    for pieces in ([data] if data else [], cut_at(data, places) if data else [], cut(data, 1)):
        try:
            results.append(feed(*pieces, head=head, upgrade=upgrade))
        except UpstreamError:
            results.append(None)
    assert results[0] == results[1] == results[2]
    made = results[0]
    if made is not None:
        assert not made.complete or made.head is not None
        assert not made.reusable or (made.complete and not made.surplus)
        assert upgrade or not made.upgraded


bodies = st.lists(st.binary(min_size=1, max_size=50), max_size=6)


@given(bodies, st.sampled_from([[], [(b"T", b"v")], [(b"T", b""), (b"t", b"v")]]), where)
def test_chunks_in_any_cutting(chunks: list[bytes], trailers: RawHeaders, places: list[int]) -> None:
    fields = b"".join(b"%b: %b\r\n" % field for field in trailers)
    data = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + fields + b"\r\n"
    made = feed(*cut_at(data, places))
    assert (made.body, made.trailers, made.complete, made.reusable) == (b"".join(chunks), trailers, True, True)

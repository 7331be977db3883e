"""A request body out of chunks: the same for any cutting, never read in two ways, and nothing endless is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.chunked import MAX_LINE, ChunkedBody
from proxy.wire.interface import RawHeaders, RequestError

MAX_TRAILERS = 64 * 1024
LAST = b"0\r\n\r\n"
BEHIND = b"GET /next HTTP/1.1\r\n"


class Undone(NamedTuple):
    body: bytes
    complete: bool
    trailers: RawHeaders
    surplus: bytes


def undo(*pieces: bytes) -> Undone:
    """As the client's side does it: what comes once the body is complete is not fed any more."""
    chunks = ChunkedBody(MAX_TRAILERS)
    body, behind = b"", b""
    for piece in pieces:
        if chunks.complete:
            behind += piece
        else:
            body += chunks.feed(piece)
    return Undone(body, chunks.complete, chunks.trailers, chunks.surplus + behind)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def cuttings(data: bytes) -> list[list[bytes]]:
    """At once, at any one place, and byte by byte."""
    return [[data], *([data[:place], data[place:]] for place in range(1, len(data))), cut(data, 1)]


GOOD: dict[str, tuple[bytes, bytes, RawHeaders]] = {
    "one chunk": (b"3\r\nabc\r\n" + LAST, b"abc", []),
    "several": (b"3\r\nabc\r\n1\r\nd\r\n" + LAST, b"abcd", []),
    "none but the last": (LAST, b"", []),
    "sizes in hex": (b"A\r\n0123456789\r\na\r\n0123456789\r\n" + LAST, b"0123456789" * 2, []),
    "leading zeros": (b"0003\r\nabc\r\n000\r\n\r\n", b"abc", []),
    "extensions": (b'3;a=b;c="d e"\r\nabc\r\n0;last\r\n\r\n', b"abc", []),
    "blanks before an extension": (b"3 \t;a\r\nabc\r\n0 ;\r\n\r\n", b"abc", []),
    "an extension beyond ASCII": (b"1;\xc3\xa9\r\na\r\n" + LAST, b"a", []),
    "trailers": (b"1\r\nx\r\n0\r\nT: v \r\nt:\r\n\r\n", b"x", [(b"T", b"v"), (b"t", b"")]),
    "line ends within a chunk": (b"8\r\n\r\n0\r\n\r\n\n\r\n" + LAST, b"\r\n0\r\n\r\n\n", []),
    "all octets": (b"100\r\n" + bytes(range(256)) + b"\r\n" + LAST, bytes(range(256)), []),
}


@pytest.mark.parametrize(("data", "body", "trailers"), GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("behind", [b"", b"\r\n", BEHIND, LAST])
def test_any_cutting_gives_the_same(data: bytes, body: bytes, trailers: RawHeaders, behind: bytes) -> None:
    for pieces in cuttings(data + behind):
        assert undo(*pieces) == (body, True, trailers, behind)
    for pieces in cuttings(data[:-1]):
        assert undo(*pieces) == (body, False, [], b""), "without its last byte it is not complete"


def test_what_came_is_given_at_once() -> None:
    chunks = ChunkedBody(MAX_TRAILERS)
    assert chunks.feed(b"5\r\nab") == b"ab"
    assert chunks.feed(b"c") == b"c"
    assert chunks.feed(b"de\r\n2\r") == b"de"
    assert chunks.feed(b"\nfg\r\n1\r\nh") == b"fgh"
    assert chunks.feed(b"\r\n0\r\n") == b""
    assert (chunks.complete, chunks.surplus) == (False, b"")
    assert chunks.feed(b"\r\nmore") == b""
    assert (chunks.complete, chunks.surplus) == (True, b"more")


BAD = {
    "letters": b"zz\r\n",
    "no size": b"\r\nabc\r\n",
    "an extension without a size": b";a\r\n",
    "a negative size": b"-1\r\n",
    "a signed size": b"+1\r\nx\r\n",
    "a size with 0x": b"0x1\r\nx\r\n",
    "a size with an underscore": b"1_0\r\n",
    "sixteen digits": b"0000000000000001\r\nx\r\n",
    "a huge size": b"fffffffffffffffff\r\n",
    "a blank before the size": b" 1\r\nx\r\n",
    "a blank behind the size": b"1 \r\nx\r\n",
    "a tab behind the size": b"1\t\r\nx\r\n",
    "a blank within the size": b"1 1\r\n",
    "a bare LF behind the size": b"1\nx\r\n",
    "a bare CR behind the size": b"1\rx\r\n",
    "two CRs": b"1\r\r\nx\r\n",
    "a bare LF behind an extension": b"1;a\nx\r\n",
    "a bare CR within an extension": b"1;a\rb\r\nx\r\n",
    "a control within an extension": b"1;\x01\r\nx\r\n",
    "NUL behind the size": b"1\0\r\nx\r\n",
    "a comma": b"1,a\r\nx\r\n",
    "a longer chunk": b"1\r\nxy\r\n",
    "a chunk that ends with LF": b"1\r\nx\n0\r\n\r\n",
    "a chunk that ends with CR": b"1\r\nx\r0\r\n\r\n",
    "a chunk that ends with LF CR": b"1\r\nx\n\r",
    "a chunk without an end": b"1\r\nx" + LAST,
    "the last chunk with a body": b"0\r\nx\r\n\r\n",
    "a bare LF behind the last chunk": b"0\n\r\n",
    "obs-fold in a trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "a trailer without a colon": b"0\r\nAbc\r\n\r\n",
    "a trailer with a blank before the colon": b"0\r\nA : b\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: b\0\r\n\r\n",
    "a trailer that ends with LF": b"0\r\nA: b\n\r\n",
    "trailers that end with LF": b"0\r\nA: b\r\n\n",
    "a bare CR in a trailer": b"0\r\nA: b\rc\r\n\r\n",
    "a page for a chunk": b"<html>",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
@pytest.mark.parametrize("before", [b"", b"2\r\nab\r\n"])
def test_malformed_whatever_the_cutting(data: bytes, before: bytes) -> None:
    for pieces in cuttings(before + data):
        with pytest.raises(RequestError) as raised:
            undo(*pieces)
        assert (raised.value.status, raised.value.kind) == (400, "bad_request")


def test_texts_quote_nothing_of_the_request() -> None:
    for data in (b"sk-Secret\r\n", b"1;sk-Secret\0\r\n", b"0\r\nsk-Secret\r\n\r\n", b"1\r\nxsk-Secret"):
        with pytest.raises(RequestError) as raised:
            undo(data)
        assert "Secret" not in str(raised.value)


# Limits


ENDLESS = {
    "a size": (b"", b"0" * 1000, MAX_LINE),
    "an extension": (b"1;", b"e" * 1000, MAX_LINE),
    "an extension of the last chunk": (b"1\r\nx\r\n0;", b"e" * 1000, MAX_LINE),
    "blanks before an extension": (b"1", b" " * 1000, MAX_LINE),
    "a trailer": (b"0\r\nA: ", b"v" * 1000, MAX_TRAILERS),
    "a trailer's name": (b"0\r\n", b"n" * 1000, MAX_TRAILERS),
    "trailers": (b"0\r\n", b"A: b\r\n" * 100, MAX_TRAILERS),
}


@pytest.mark.parametrize(("begin", "more", "limit"), ENDLESS.values(), ids=ENDLESS)
def test_nothing_endless_is_kept(begin: bytes, more: bytes, limit: int) -> None:
    chunks = ChunkedBody(MAX_TRAILERS)
    chunks.feed(begin)

    def feed_on() -> None:
        for _ in range(2 + limit // len(more)):
            assert chunks.feed(more) == b""
            assert len(chunks._held) <= limit

    with pytest.raises(RequestError):
        feed_on()


def test_a_body_has_no_limit_and_is_not_kept() -> None:
    chunks = ChunkedBody(MAX_TRAILERS)
    for _ in range(1000):
        assert len(chunks.feed(b"1;e\r\nx\r\n" * 500)) == 500
        assert chunks._held == b""
    chunks.feed(b"ffffffffffffff\r\n")
    for _ in range(100):
        assert len(chunks.feed(b"x" * 100_000)) == 100_000
        assert chunks._held == b""


def with_a_long_line(size: int) -> bytes:
    return b"1;%b\r\nx\r\n" % (b"e" * size) + LAST


def with_long_trailers(size: int) -> bytes:
    return b"0\r\n" + b"A: %b\r\n" % (b"v" * 94) * (size // 99) + b"\r\n"


@pytest.mark.parametrize("size", [100, 1000, 1 << 20])
@pytest.mark.parametrize(("of", "limit"), [(with_a_long_line, MAX_LINE), (with_long_trailers, MAX_TRAILERS)])
def test_the_limits_do_not_depend_on_the_cutting(of: Callable[[int], bytes], limit: int, size: int) -> None:
    assert undo(*cut(of(limit - 200), size)).complete
    with pytest.raises(RequestError):
        undo(*cut(of(limit + 200), size))


# Whatever comes


chunk = st.tuples(
    st.binary(min_size=1, max_size=40),
    st.integers(0, 3).map(lambda count: b"0" * count),
    st.sampled_from([b"", b";a", b' ;b="c d"', b"\t; x=\xff"]),
).map(lambda made: (made[0], b"%b%x%b\r\n%b\r\n" % (made[1], len(made[0]), made[2], made[0])))
trailer = st.tuples(st.sampled_from([b"A", b"x-Sum", b"t"]), st.sampled_from([b"", b"1", b"a b", b"\xe9"]))
places = st.lists(st.integers(0, 1 << 12), max_size=10)


def cut_at(data: bytes, where: list[int]) -> list[bytes]:
    inside = sorted({place % len(data) for place in where} - {0}) if data else []
    return [data[begin:end] for begin, end in zip([0, *inside], [*inside, len(data)], strict=True)]


@given(st.lists(chunk, max_size=6), st.lists(trailer, max_size=3), st.binary(max_size=30), places)
@example([(b"x", b"1\r\nx\r\n")], [], b"\r\n", [1])
def test_bodies_in_any_cutting(
    chunks: list[tuple[bytes, bytes]], trailers: RawHeaders, behind: bytes, where: list[int]
) -> None:
    fields = b"".join(b"%b: %b\r\n" % field for field in trailers)
    data = b"".join(wire for _, wire in chunks) + b"0\r\n" + fields + b"\r\n" + behind
    expected = Undone(b"".join(body for body, _ in chunks), True, trailers, behind)
    assert undo(data) == undo(*cut_at(data, where)) == undo(*cut(data, 1)) == expected


WORDS = [b"0", b"1", b"a", b"\r\n", b"\r", b"\n", b";", b" ", b"x", b"1\r\nx\r\n", b"0\r\n", b"A: b\r\n", LAST]
anything = st.lists(st.sampled_from(WORDS) | st.binary(max_size=5), max_size=12).map(b"".join)


@given(anything, places)
def test_whatever_comes_is_read_in_one_way(data: bytes, where: list[int]) -> None:
    """Refused in every cutting, or else the same; and what is behind the body is what was not taken for it."""
    results: list[Undone | None] = []
    for pieces in ([data], cut_at(data, where), cut(data, 1)):
        try:
            results.append(undo(*pieces))
        except RequestError:
            results.append(None)
    assert results[0] == results[1] == results[2]
    made = results[0]
    if made is not None and made.complete:
        assert data.endswith(made.surplus)
        taken = data[: len(data) - len(made.surplus)]
        assert undo(taken) == made._replace(surplus=b"")
        assert not undo(taken[:-1]).complete

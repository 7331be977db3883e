"""The beginning of a request head: what can never become a good one is told at once, and no good one is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.interface import RequestError
from proxy.wire.request import check_unfinished, parse_head, without_blank_lines

LIMIT = 1 << 18
GOOD = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"FROBNICATE /\xff HTTP/1.0\r\nA:\r\nb: \xe9 \t\r\n\r\n",
    b"!#$%&'*+-.^_`|~09azAZ * HTTP/1.1\r\nHost:\r\n\r\n",
]


@pytest.mark.parametrize("data", GOOD)
def test_no_beginning_of_a_good_head_is_refused(data: bytes) -> None:
    parse_head(data, 10)
    for end in range(len(data)):
        check_unfinished(data[:end], LIMIT)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x16", "METHOD"),
        (b"\x16\x03", "not TLS"),
        (b"\x16\x03\x01\x02", "not TLS"),
        (b"\x80\x2e\x01", "not TLS"),
        (b" GET", "METHOD"),
        (b"\0", "METHOD"),
        (b"GET\t/", "METHOD"),
        (b"G\xc3\xa9T", "METHOD"),
        (b"\rGET", "CR LF"),
        (b"\n", "CR LF"),
        (b"GET / HTTP/1.1\n", "CR LF"),
        (b"GET / HTTP/1.1\rH", "CR LF"),
        (b"GET / HTTP/1.1\r\nHost: a\nA", "CR LF"),
        (b"GET / HTTP/1.1\r\nHost: a\r\r", "CR LF"),
    ],
)
def test_what_can_never_become_one(data: bytes, text: str) -> None:
    with pytest.raises(RequestError, match=text) as raised:
        check_unfinished(data, LIMIT)
    assert (raised.value.status, raised.value.kind) == (400, "bad_request")


def test_too_long() -> None:
    check_unfinished(b"G" * 100, 100)
    with pytest.raises(RequestError, match=r"over 100 bytes \(max_head\)") as raised:
        check_unfinished(b"G" * 101, 100)
    assert (raised.value.status, raised.value.kind) == (431, "head_too_large")


@pytest.mark.parametrize(
    ("data", "left"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"\r\n\r\n\r\nGET", b"GET"),
        (b"\r\n\r", b"\r"),
        (b"\r", b"\r"),
        (b"\n\r\nGET", b"\n\r\nGET"),
        (b"GET\r\n\r\n", b"GET\r\n\r\n"),
    ],
)
def test_blank_lines_before_a_request_line(data: bytes, left: bytes) -> None:
    assert without_blank_lines(data) == left


WORDS = [b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"A: b", b"\r", b"\n", b"\r\n", b"GET", b" ", b"\0"]
anything = st.lists(st.sampled_from(WORDS) | st.binary(max_size=6), max_size=8).map(b"".join)


@given(anything)
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
def test_nothing_but_request_errors_and_never_of_what_is_good(data: bytes) -> None:
    try:
        parse_head(data + b"\r\n\r\n", 10)
    except RequestError:
        good = False
    else:
        good = True
    for end in range(len(data)):
        try:
            check_unfinished(data[:end], LIMIT)
        except RequestError:
            assert not good

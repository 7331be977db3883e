"""A head that came before is known again, whatever its Content-Length, and means what it would mean read anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import request
from proxy.wire.interface import ClientRequest, RequestError
from proxy.wire.request import KNOWN_HEADS, LONGEST_KNOWN, parse_head

BEGIN = b"POST /known HTTP/1.1\r\nHost: a\r\n"
PLAIN = BEGIN + b"Content-Length: %d\r\nA: b\r\n\r\n"


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    request._heads.clear()
    request._heads._seen.clear()


def outcome(data: bytes) -> ClientRequest | str:
    try:
        return parse_head(data, 100)
    except RequestError as error:
        return str(error)


def anew(data: bytes) -> ClientRequest | str:
    kept, request._heads = request._heads, request._Heads()
    try:
        return outcome(data)
    finally:
        request._heads = kept


def test_the_third_time_it_is_known_whatever_its_length() -> None:
    made = [parse_head(PLAIN % length, 100) for length in (1, 20, 300, 4000)]
    assert [each.length for each in made] == [1, 20, 300, 4000]
    assert [each.headers[1] for each in made] == [(b"Content-Length", b"%d" % length) for length in (1, 20, 300, 4000)]
    assert made[0].known is None
    assert made[1].known is not None
    assert made[1].known is made[2].known is made[3].known
    assert [replace(each, length=0, headers=[]) for each in made] == [replace(made[0], length=0, headers=[])] * 4


@pytest.mark.parametrize("name", [b"Content-Length: ", b"content-length: ", b"CONTENT-LENGTH: ", b"Content-Length:"])
@pytest.mark.parametrize("digits", [b"0", b"007", b"1" * 18])
def test_its_length_may_be_written_in_any_way(name: bytes, digits: bytes) -> None:
    data = BEGIN + name + digits + b"\r\n\r\n"
    for _ in range(4):
        made = parse_head(data, 100)
        assert (made.length, made.headers[1][1]) == (int(digits), digits)
        assert made.length_at == 1


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1 2", b"1,1", b"1" * 19, b"1_0", "\u0661".encode()])
def test_a_length_that_is_none_is_never_known(value: bytes) -> None:
    for _ in range(3):
        parse_head(PLAIN % 5, 100)
        with pytest.raises(RequestError):
            parse_head(BEGIN + b"Content-Length: " + value + b"\r\nA: b\r\n\r\n", 100)


def test_another_head_is_another() -> None:
    heads = (PLAIN % 5, BEGIN + b"A: b\r\n\r\n", PLAIN.replace(b"A: b", b"A: c") % 5)
    made = [[parse_head(head, 100) for head in heads] for _ in range(3)]
    assert [[each.length for each in round_] for round_ in made] == [[5, None, 5]] * 3
    assert [[each.headers[-1][1] for each in round_] for round_ in made] == [[b"b", b"b", b"c"]] * 3
    assert len({id(each.known) for each in made[-1]}) == 3


def test_a_known_head_may_still_have_too_many_headers() -> None:
    for _ in range(3):
        assert parse_head(PLAIN % 5, 3).length == 5
        with pytest.raises(RequestError, match="over 2 headers"):
            parse_head(PLAIN % 5, 2)


def test_only_so_many_are_kept_and_none_that_came_once() -> None:
    for number in range(2 * KNOWN_HEADS):
        head = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number
        assert parse_head(head, 100).known is None
        assert (parse_head(head, 100).known is None) is False
        assert len(request._heads) <= KNOWN_HEADS
    long = PLAIN.replace(b"A: b", b"A: " + b"b" * LONGEST_KNOWN)
    assert all(parse_head(long % 5, 100).known is None for _ in range(3))


lines = st.sampled_from(
    [
        b"A: b",
        b"Content-Length: 5",
        b"content-length: 12",
        b"Content-Length:  7",
        b"Connection: close",
        b"TE: trailers",
        b"Transfer-Encoding: chunked",
        b"X: Content-Length: 3",
        b"Expect: 100-continue",
        b"Upgrade: websocket",
        b"Connection: upgrade",
        b"Host: b",
        b"\xe9: x",
        b"",
    ]
)


@given(st.lists(lines, max_size=5))
def test_any_head_means_the_same_however_often_it_came(more: list[bytes]) -> None:
    data = b"\r\n".join([b"POST /x HTTP/1.1", b"Host: a", *more, b"", b""])
    first = anew(data)
    assert [outcome(data) for _ in range(4)] == [first] * 4

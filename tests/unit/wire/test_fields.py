"""Header fields out of lines: judged once, remembered, and forgotten without a trace; a bad line never becomes good."""

from __future__ import annotations

from collections.abc import Callable

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.fields import LONGEST, REMEMBERED, BadField, ByName, FieldReader, for_requests, for_responses
from proxy.wire.interface import RawHeaders

MAKERS = {"of requests": for_requests, "of responses": for_responses}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], FieldReader]:
    return MAKERS[request.param]


GOOD: dict[bytes, tuple[bytes, bytes]] = {
    b"A: b": (b"A", b"b"),
    b"A:b": (b"A", b"b"),
    b"a:": (b"a", b""),
    b"a: \t ": (b"a", b""),
    b"a: \t b  c\t ": (b"a", b"b  c"),
    b"X-L: \xe9\xff\x80": (b"X-L", b"\xe9\xff\x80"),
    b"a: b: c:": (b"a", b"b: c:"),
    b"!#$%&'*+.^_`|~09-Z: x": (b"!#$%&'*+.^_`|~09-Z", b"x"),
    b"Host: a": (b"Host", b"a"),
    b"Content-Length: 5": (b"Content-Length", b"5"),
    b"Transfer-Encoding: chunked": (b"Transfer-Encoding", b"chunked"),
    b"Connection: Upgrade": (b"Connection", b"Upgrade"),
    b"Connection: close": (b"Connection", b"close"),
    b"Upgrade: websocket": (b"Upgrade", b"websocket"),
    b"Expect: 100-continue": (b"Expect", b"100-continue"),
    b"Trailer: x": (b"Trailer", b"x"),
    b"X: " + b"v" * 100_000: (b"X", b"v" * 100_000),
}
BAD = [
    b"",
    b"A",
    b": b",
    b" A: b",
    b"\tA: b",
    b"A : b",
    b"A\0: b",
    b"A: b\0",
    b"A: b\x7f",
    b"A: b\rC: d",
    b"A: b\nC: d",
    b"A: b\n C: d",
    b"A: b\r",
    b"A: b\n",
    b"\xe9: b",
    b"Content-Length: x",
    b"Content-Length: -1",
    b"Content-Length: " + b"9" * 30,
]


def test_lines_become_fields(make: Callable[[], FieldReader]) -> None:
    reader = make()
    for line, field in GOOD.items():
        assert reader.read(line) == [field]
    assert reader.read(b"\r\n".join(GOOD)) == list(GOOD.values())
    assert make().read(b"\r\n".join(reversed(GOOD))) == list(reversed(GOOD.values()))
    assert reader.read(b"") == []


def test_equal_lines_give_the_same_tuple(make: Callable[[], FieldReader]) -> None:
    reader = make()
    one, other, two = reader.read(b"A: b\r\nA: c\r\nA: b")
    assert one is two
    assert one is not other
    again, spelled = reader.read(b"A: b\r\na: b")
    assert again is one
    assert spelled == (b"a", b"b")


@pytest.mark.parametrize("line", BAD)
def test_bad_lines_are_bad_every_time(make: Callable[[], FieldReader], line: bytes) -> None:
    reader = make()
    good = b"Good: 1\r\nBetter: 2"
    for _ in range(3):
        for block in (line + b"\r\n" + good, good + b"\r\n" + line, b"A: b\r\n" + line + b"\r\nC: d"):
            with pytest.raises(BadField) as raised:
                reader.read(block)
            assert str(raised.value) == "not a valid header field"
    assert line not in reader._known
    assert reader.read(good) == [(b"Good", b"1"), (b"Better", b"2")]


def test_forgetting_changes_nothing(make: Callable[[], FieldReader]) -> None:
    """After so many lines all are forgotten; what was read keeps, and is read alike."""
    reader = make()
    kept = reader.read(b"Kept: 1\r\nX-Kept:")
    sizes = set()
    for number in range(3 * REMEMBERED):
        assert reader.read(b"N: %d" % number) == [(b"N", b"%d" % number)]
        assert len(reader._known) <= REMEMBERED
        sizes.add(len(reader._known))
    assert {1, REMEMBERED} <= sizes, "it was full, and it was emptied"
    assert b"Kept: 1" not in reader._known
    again = reader.read(b"Kept: 1\r\nX-Kept:")
    assert again == kept
    assert again[0] is not kept[0]
    with pytest.raises(BadField):
        reader.read(b"Kept : 1")


def test_more_lines_in_one_block_than_are_remembered(make: Callable[[], FieldReader]) -> None:
    reader = make()
    block = b"\r\n".join(b"N: %d" % number for number in range(REMEMBERED + 10))
    expected = [(b"N", b"%d" % number) for number in range(REMEMBERED + 10)]
    assert reader.read(block) == expected
    assert reader.read(block) == expected
    assert len(reader._known) <= REMEMBERED


def test_long_lines_are_not_remembered(make: Callable[[], FieldReader]) -> None:
    reader = make()
    longest = b"X: %b" % (b"v" * (LONGEST - 3))
    assert reader.read(longest)[0] is reader.read(longest)[0]
    longer = longest + b"v"
    assert reader.read(longer) == reader.read(longer) == [(b"X", b"v" * (LONGEST - 2))]
    assert list(reader._known) == [longest]


def test_readers_know_nothing_of_each_other() -> None:
    one, two = for_requests(), for_responses()
    one.read(b"A: b")
    assert two._known == {}


lines = st.lists(st.sampled_from([*GOOD, *BAD]) | st.binary(max_size=12), max_size=5).map(b"\r\n".join)


def judged(reader: FieldReader, block: bytes) -> RawHeaders | None:
    try:
        return reader.read(block)
    except BadField:
        return None


@given(st.lists(lines, max_size=4))
@example([b"A: b\nC: d", b"A: b", b"A: b\r\nC: d"])
def test_what_was_read_before_does_not_matter(blocks: list[bytes]) -> None:
    experienced = for_requests()
    for block in [*blocks, *blocks]:
        made = judged(experienced, block)
        assert made == judged(for_requests(), block)
        if made is not None:
            assert len(made) == (len(block.split(b"\r\n")) if block else 0)
            assert all(name and value == value.strip(b" \t") for name, value in made)


names = st.sampled_from([b"A", b"x-y", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect"])
values = st.binary(max_size=8) | st.sampled_from([b"close", b"chunked", b"5", b"h2c", b"gzip, chunked", b" "])
fields = st.tuples(names, st.sampled_from([b":", b": ", b":\t "]), values).map(b"".join)


@pytest.mark.parametrize("start", [b"POST / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n"])
@given(fields | st.binary(max_size=12))
@example(b"A: \xff\x80\x7f")
def test_llhttp_says_the_same(start: bytes, line: bytes) -> None:
    """Of any line, also of those that it is not asked about."""
    if b"\r\n" in line:
        return
    heard = Heard()
    kind = httptools.HttpRequestParser if start.startswith(b"POST") else httptools.HttpResponseParser
    try:
        kind(heard).feed_data(start + line + b"\r\n\r\n")
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        heard.fields.clear()
    reader = for_requests() if start.startswith(b"POST") else for_responses()
    assert (judged(reader, line) if line else None) == (heard.fields if len(heard.fields) == 1 else None)


class Heard:
    def __init__(self) -> None:
        self.fields: RawHeaders = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))


# By name


def test_names_are_judged_once_by_their_lower_case() -> None:
    judged: list[bytes] = []

    def judge(name: bytes) -> int:
        judged.append(name)
        return len(name)

    by_name = ByName(judge)
    for _ in range(3):
        assert [by_name[name] for name in (b"Content-Type", b"content-type", b"A")] == [12, 12, 1]
    assert judged == [b"content-type", b"content-type", b"a"]


def test_names_are_forgotten_too() -> None:
    by_name = ByName(bytes.upper)
    for number in range(2 * REMEMBERED + 1):
        assert by_name[b"N-%d" % number] == b"N-%d" % number
        assert len(by_name) <= REMEMBERED
    assert by_name[b"n-0"] == b"N-0"

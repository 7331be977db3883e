"""AWS' event stream, held against the parser of AWS' own SDK."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret.eventstream import EventStreamParser
from tests.support.aws import encoded, event, exception
from tests.support.streams import streams

NAMES = [name for name in streams() if name.startswith("bedrock-") and streams()[name].body[:1] == b"\0"]


def ours(pieces: list[bytes]) -> tuple[list[tuple[str, bytes]], bool]:
    parser = EventStreamParser()
    found = [(message.name, message.payload) for piece in pieces for message in parser.feed(piece)]
    return found, parser.corrupt


def theirs(data: bytes) -> tuple[list[tuple[str, bytes]], bool]:
    """What botocore makes of it; its errors are all about checksums and lengths."""
    buffer, found = EventStreamBuffer(), []
    buffer.add_data(data)
    try:
        for message in buffer:
            headers = message.headers
            name = headers.get(":event-type") or headers.get(":exception-type") or headers.get(":error-code")
            found.append((name or "", message.payload))
    except Exception:  # noqa: BLE001 - whatever it raises
        return found, True
    return found, False


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


@given(name=st.sampled_from(NAMES), places=st.lists(st.integers(0, 2000), max_size=8))
def test_reads_what_the_sdk_reads(name: str, places: list[int]) -> None:
    data = streams()[name].body
    assert ours(cut(data, places)) == theirs(data)


@given(
    name=st.sampled_from(NAMES),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=3),
    places=st.lists(st.integers(0, 2000), max_size=4),
)
def test_a_broken_one_is_read_as_far_as_the_sdk_reads_it(
    name: str, flips: list[tuple[int, int]], places: list[int]
) -> None:
    data = bytearray(streams()[name].body)
    for at, change in flips:
        data[at % len(data)] ^= change
    found, corrupt = ours(cut(bytes(data), places))
    expected, broken = theirs(bytes(data))
    assert (found, corrupt) == (expected, broken)


@given(data=st.binary(max_size=300))
def test_anything_is_read(data: bytes) -> None:
    found, _ = ours([data])
    assert found == theirs(data)[0]


def test_kinds() -> None:
    data = (
        event("chunk", {"a": 1})
        + exception("throttlingException", "slow")
        + encoded(b"", message_type="error", error_code="500", error_message="no")
    )
    parser = EventStreamParser()
    one, two, three = parser.feed(data)
    assert (one.kind, one.name, one.payload) == ("event", "chunk", b'{"a": 1}')
    assert (two.kind, two.name) == ("exception", "throttlingException")
    assert (three.kind, three.name, three.said) == ("error", "500", "no")
    assert not parser.pending


def test_other_types_of_headers_are_passed_over() -> None:
    """One of each: flags, numbers, bytes, a time, a uuid; and a string behind them."""
    head = b"\x01a\x00\x01b\x01\x01c\x02\x07\x01d\x03\x00\x07\x01e\x04" + bytes(4) + b"\x01f\x05" + bytes(8)
    head += b"\x01g\x06\x00\x02xx\x01h\x08" + bytes(8) + b"\x01i\x09" + bytes(16)
    head += b"\x0b:event-type\x07\x00\x04name"
    prelude = struct.pack(">II", len(head) + 16, len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head
    message += struct.pack(">I", zlib.crc32(message))
    assert ours([message]) == ([("name", b"")], False) == theirs(message)


def test_a_message_that_is_too_large_ends_the_reading() -> None:
    prelude = struct.pack(">II", 2**31, 0)
    parser = EventStreamParser()
    assert parser.feed(prelude + struct.pack(">I", zlib.crc32(prelude)) + bytes(1000)) == []
    assert parser.corrupt
    assert parser.problem is not None
    assert parser.feed(bytes(1000)) == []

"""Damaged segments: what is intact is read, what is not is named with its place, and nothing behind it is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.journal import record
from proxy.journal.reader import Segment
from proxy.journal.record import Damage, Record
from proxy.journal.writer import segment_name
from tests.support.journals import SEED, WORKER, Entry, Image, exchange, image, merged, preamble, read_file

# Payloads with newlines, heads and no end of line: what a search could stumble over.
SMALL = image(
    [
        Entry(record.REQUEST_HEAD, b"a" * 32, 0, 0, b'{"ordinal": 1}'),
        Entry(record.RESPONSE_CHUNK, b"a" * 32, 1, 12, b"data: x\n\ndata: @ res+ \n\n@ "),
        Entry(record.RESPONSE_CHUNK, b"a" * 32, 2, 123, b""),
        Entry(record.RESPONSE_CHUNK, b"b" * 32, 0, 1234, bytes(range(256))),
        Entry(record.END, b"a" * 32, 3, 12345, b"{}"),
    ]
)
LARGE = image(merged(exchange(1, extras=True), exchange(2, chunks=[b"x" * 400, b"@ " * 200]), exchange(3)))
MOST_CPU = 5.0  # seconds for 16 MiB; measured: 0.1 to 0.6


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage") / segment_name(WORKER, 0)


@pytest.fixture
def place(path: Path) -> Iterator[int]:
    """A descriptor that holds SMALL, to be damaged."""
    path.write_bytes(SMALL.data)
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def records(found: list[Record | Damage]) -> list[Record]:
    return [item for item in found if isinstance(item, Record)]


def damages(found: list[Record | Damage]) -> list[Damage]:
    return [item for item in found if isinstance(item, Damage)]


def check_honest(shape: Image, data: bytes, found: list[Record | Damage]) -> None:
    """Every record that is intact is read, in order; every byte that is not is in a damage, and no intact one is."""
    intact = [each for each in shape.records if data[each.offset : each.end] == shape.data[each.offset : each.end]]
    assert records(found) == intact
    spans = [item[:2] if isinstance(item, Damage) else item[5:] for item in found]
    assert spans, "the file holds records"
    assert spans[0][0] == shape.begin
    assert all(one[1] == other[0] for one, other in pairwise(spans)), "every byte is accounted for, once"
    assert spans[-1][1] == len(data)


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere(path: Path, place: int, bit: int) -> None:
    for at, byte in enumerate(SMALL.data):
        os.pwrite(place, bytes([byte ^ 1 << bit]), at)
        found = read_file(path)
        os.pwrite(place, bytes([byte]), at)
        assert records(found) == [each for each in SMALL.records if not each.offset <= at < each.end]
        hit = [(each.offset, each.end) for each in SMALL.records if each.offset <= at < each.end]
        assert [each[:2] for each in damages(found)] == hit, "named exactly; the first line's other copy costs nothing"


def test_a_damaged_payload_names_its_exchange(path: Path, place: int) -> None:
    victim = SMALL.records[3]
    os.pwrite(place, b"?", victim.end - 10)
    (damage,) = damages(read_file(path))
    assert damage == Damage(victim.offset, victim.end, "payload of res+ record 0 is damaged", b"b" * 32, 0)


def test_truncation_at_every_offset(path: Path, place: int) -> None:
    for size in range(len(SMALL.data) - 1, -1, -1):
        os.ftruncate(place, size)
        found = read_file(path)
        whole = [each for each in SMALL.records if each.end <= size]
        assert records(found) == whole
        end = whole[-1].end if whole else SMALL.begin
        if size > end:
            assert damages(found) == [Damage(end, size, "torn tail")]
        elif size >= SMALL.begin // 2 or size == 0:
            assert damages(found) == [], "it ends with a record, or before any"
        else:
            assert damages(found) == [Damage(0, size, "both copies of the first line are damaged")]


@given(st.data())
def test_garbage_of_any_length(path: Path, data: st.DataObject) -> None:
    begin = data.draw(st.integers(LARGE.begin, len(LARGE.data) - 1))
    length = data.draw(st.integers(1, len(LARGE.data) - begin))
    unit = data.draw(st.binary(min_size=1, max_size=40) | st.sampled_from([b"\0", b"@ ", b"@ res+ ", b"\n"]))
    garbage = (unit * (length // len(unit) + 1))[:length]
    broken = LARGE.data[:begin] + garbage + LARGE.data[begin + length :]
    path.write_bytes(broken)
    check_honest(LARGE, broken, read_file(path))


@given(st.lists(st.tuples(st.integers(LARGE.begin, len(LARGE.data) - 1), st.integers(1, 255)), min_size=2, max_size=5))
def test_several_damages(path: Path, hits: list[tuple[int, int]]) -> None:
    broken = bytearray(LARGE.data)
    for at, change in hits:
        broken[at] ^= change
    path.write_bytes(broken)
    found = read_file(path)
    check_honest(LARGE, bytes(broken), found)
    assert len(damages(found)) <= len(hits)


def test_two_heads_with_an_intact_record_between(path: Path) -> None:
    one, other = SMALL.records[0], SMALL.records[2]
    broken = bytearray(SMALL.data)
    broken[one.offset] ^= 1
    broken[other.offset + 5] ^= 1
    path.write_bytes(broken)
    assert damages(read_file(path)) == [
        Damage(one.offset, one.end, "no intact record here"),
        Damage(other.offset, other.end, "no intact record here"),
    ]


@given(st.integers(0, len(LARGE.data)))
def test_a_position_in_the_middle_of_a_record(path: Path, position: int) -> None:
    """Nobody stores such a position; a file that was put back from a copy could have it all the same."""
    path.write_bytes(LARGE.data)
    assert records(read_file(path, position)) == [each for each in LARGE.records if each.offset >= position]


def test_neither_copy_of_the_first_line(path: Path) -> None:
    broken = bytearray(SMALL.data)
    broken[0] ^= 1
    broken[SMALL.begin - 2] ^= 1
    path.write_bytes(broken)
    assert read_file(path) == [Damage(0, len(broken), "both copies of the first line are damaged")]


def test_zeros_where_the_disk_never_wrote(path: Path) -> None:
    """What a power failure leaves of a file whose length was written and whose blocks were not."""
    for zeros in (1, 100, 200, 5000, 3_000_000):
        path.write_bytes(SMALL.data + b"\0" * zeros)
        found = read_file(path)
        assert records(found) == SMALL.records
        assert damages(found) == [Damage(len(SMALL.data), len(SMALL.data) + zeros, "torn tail")]


# A search over 16 MiB of what looks like heads

_HEAD = b"@ res+ %b 1 1 10 00000000 00000000\n" % (b"a" * 32)
LOOK_ALIKES = {
    "whole heads": _HEAD,
    "short heads": b"@ a %b 1 1 1 00000000 00000000\n" % (b"0" * 32),
    "heads with long numbers": b"@ res+ %b 1111111111111111111 1111111111111111111x\n" % (b"a" * 32),
    "heads without an end": _HEAD[:-1],
    "begins of heads": b"@ res+ ",
    "the first two octets": b"@ ",
    "the first octet": b"@",
    "empty lines": b"\n",
    "letters": b"x",
}


def bytes_read() -> int:
    """By this process, in all."""
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise AssertionError("the kernel says nothing of reading")


@pytest.mark.parametrize("unit", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_a_search_is_linear(path: Path, unit: bytes) -> None:
    payload = (unit * (record.MAX_PAYLOAD // len(unit) + 1))[: record.MAX_PAYLOAD]
    last = Entry(record.END, b"a" * 32, 1, 0, b"{}")
    shape = image([Entry(record.RESPONSE_CHUNK, b"a" * 32, 0, 0, payload), last])
    broken = bytearray(shape.data)
    broken[shape.begin + 3] ^= 1
    path.write_bytes(broken)
    segment = Segment(path)
    began, read = time.process_time(), bytes_read()
    found = list(segment.read(0, limit=len(broken)))
    spent, read = time.process_time() - began, bytes_read() - read
    segment.close()
    victim, after = shape.records
    assert found == [Damage(victim.offset, victim.end, "no intact record here"), after]
    assert spent < MOST_CPU
    assert read < 1.5 * len(broken)


def test_a_search_without_end_is_linear(path: Path) -> None:
    """The same where no record follows: the search meets the end of the file."""
    payload = _HEAD * (record.MAX_PAYLOAD // len(_HEAD))
    data = preamble() + b"?" + payload
    path.write_bytes(data)
    began, read = time.process_time(), bytes_read()
    found = read_file(path)
    spent, read = time.process_time() - began, bytes_read() - read
    assert found == [Damage(len(preamble()), len(data), "torn tail")]
    assert spent < MOST_CPU
    assert read < 1.5 * len(data)


def test_a_long_damage_is_read_through_whatever_the_limit(path: Path) -> None:
    """`limit` bounds what is handed out, not how far a damage may reach."""
    shape = image([Entry(record.RESPONSE_CHUNK, b"a" * 32, seq, 0, b"@ \n" * 100_000) for seq in range(4)])
    broken = bytearray(shape.data)
    for each in shape.records[:3]:
        broken[each.offset] ^= 1
    path.write_bytes(broken)
    segment = Segment(path)
    assert segment.preamble is not None
    assert segment.preamble.seed == SEED
    found = list(segment.read(0, limit=1))
    segment.close()
    assert [each[:2] for each in damages(found)] == [(shape.begin, shape.records[3].offset)]
    assert not records(found)

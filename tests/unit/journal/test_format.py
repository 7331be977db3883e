"""The format of a segment, bytes in and records out: what is written is read, and nothing else passes for a record."""

from __future__ import annotations

from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.journal import record
from proxy.journal.record import Damage, NeedData, Preamble, Record, UnknownVersion
from tests.support.journals import SEED, WORKER, Entry, Image, exchange, image, merged, preamble

payloads = st.binary(max_size=200) | st.sampled_from(
    [b"", b"\n", b"@ ", b"@ res+ ", b"\n\n\n", b"\0" * 300, b"@" * 500]
)
numbers = st.integers(0, 10**19 - 1)
KINDS = (
    *(record.REQUEST_HEAD, record.REQUEST_CHUNK, record.RESPONSE_HEAD, record.RESPONSE_CHUNK, record.TRAILERS),
    *(record.CHANGE, record.GAP, record.END, record.NOTE),
)
entries = st.builds(
    Entry,
    st.sampled_from(KINDS) | st.from_regex(rb"[a-z+]{1,8}", fullmatch=True),
    st.uuids().map(lambda value: value.hex.encode()),
    numbers,
    numbers,
    payloads,
)


def decode_all(data: bytes, begin: int, seed: int = SEED) -> list[Record | Damage | NeedData]:
    """Everything that stands in a whole file, with what is not whole at its end."""
    found: list[Record | Damage | NeedData] = []
    at = begin
    while at < len(data):
        item = record.decode(seed, data, 0, at)
        found.append(item)
        if isinstance(item, NeedData):
            break
        at = item.end
    return found


@given(st.lists(entries, max_size=8), st.integers(0, 2**64 - 1))
def test_round_trip(written: list[Entry], seed: int) -> None:
    shape = image(written, seed=seed)
    assert decode_all(shape.data, shape.begin, seed) == shape.records


@pytest.mark.parametrize("size", [0, 1, 1_000_000, record.MAX_PAYLOAD])
def test_round_trip_of_sizes(size: int) -> None:
    shape = image([Entry(record.RESPONSE_CHUNK, record.NIL, 0, 0, b"\n" * size)])
    assert decode_all(shape.data, shape.begin) == shape.records


def test_a_head_is_bounded() -> None:
    longest = Entry(b"abcdefgh", b"f" * 32, 10**19 - 1, 10**19 - 1, b"")
    assert len(record.encode(2**64 - 1, 2**63, *longest)) - 1 <= record.MAX_HEAD


@given(st.lists(entries, min_size=1, max_size=6), st.data())
def test_any_piece_needs_data_or_is_right(written: list[Entry], data: st.DataObject) -> None:
    """However the file is cut into what was read of it, decoding says the same or asks for more."""
    shape = image(written)
    each = data.draw(st.sampled_from(shape.records))
    base = data.draw(st.integers(0, each.offset))
    cut = data.draw(st.integers(each.offset, len(shape.data)))
    found = record.decode(SEED, shape.data[base:cut], base, each.offset)
    if cut >= each.end:
        assert found == each
    else:
        assert isinstance(found, NeedData)
        assert found.scanned == each.offset
        assert found.wanted in (0, each.end)


# Forgeries


def forgeries(shape: Image) -> bytes:
    """What an upstream could plant that had read this very file: its records, its heads, and heads of other seeds."""
    heads = b"".join(shape.data[each.offset : shape.data.index(b"\n", each.offset) + 1] for each in shape.records)
    foreign = b"".join(record.encode(seed, 0, *each[:5]) for seed in (0, 1, SEED ^ 1) for each in shape.records[:2])
    return shape.data + heads + b"\n" + foreign + shape.data[shape.begin :]


def test_forged_records_in_a_payload_are_payload() -> None:
    innocent = exchange(1)
    planted = forgeries(image(innocent))
    written = merged(innocent, exchange(2, chunks=[planted, planted[7:], b"\n" + planted]))
    shape = image(written)
    assert decode_all(shape.data, shape.begin) == shape.records


@pytest.mark.parametrize("victim", [0, 3, 6])
def test_forged_records_are_not_found_by_a_search(victim: int) -> None:
    """With the true head in front damaged, the search for the next record runs over every forgery."""
    planted = forgeries(image(exchange(1)))
    shape = image([Entry(record.RESPONSE_CHUNK, b"a" * 32, seq, 0, planted) for seq in range(8)])
    data = bytearray(shape.data)
    data[shape.records[victim].offset] ^= 1
    found = decode_all(bytes(data), shape.begin)
    rest = [each for each in shape.records if each.seq != victim]
    assert [each for each in found if isinstance(each, Record)] == rest
    assert [each[:2] for each in found if isinstance(each, Damage)] == [shape.records[victim][5:]]


def test_a_copy_fits_no_other_place() -> None:
    """Not even one byte further on, nor where only high bits of the offset differ."""
    entry = Entry(record.RESPONSE_CHUNK, b"a" * 32, 1, 1, b"text")
    for there in (1000, 1001, 1000 + 2**32, 1000 + 2**26):
        data = record.encode(SEED, there, *entry)
        assert isinstance(record.decode_at(SEED, data, 1000, 1000), Record) == (there == 1000)


def test_a_length_beyond_the_bound_is_no_record() -> None:
    """It would make a reader wait, or ask for memory, for ever; no writer of ours makes one."""
    data = record.encode(SEED, 0, b"res+", b"a" * 32, 1, 1, b"x" * (record.MAX_PAYLOAD + 1))
    assert record.decode_at(SEED, data, 0, 0) is None


@given(st.binary(max_size=3000), st.integers(0, 2**40))
def test_no_bytes_make_it_raise(data: bytes, base: int) -> None:
    found = record.decode(SEED, data, base, base)
    assert isinstance(found, NeedData), "random bytes hold no record, and no damage ends without one"
    assert base <= found.scanned <= base + len(data)


# The first line


@given(
    st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True),
    st.uuids(),
    st.integers(0, 999_999_999),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**62),
)
def test_preamble_round_trip(node: str, worker: UUID, segment: int, seed: int, started: int) -> None:
    written = Preamble(node, worker, segment, seed, started)
    data = record.encode_preamble(written)
    assert len(data) <= 2 * record.PREAMBLE_MAX
    assert record.decode_preamble(data + b"more") == (written, len(data))


def test_one_copy_of_the_preamble_is_enough() -> None:
    data = preamble()
    expected = record.decode_preamble(data)
    for at in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            assert record.decode_preamble(bytes(broken)) == expected


def test_no_copy_of_the_preamble() -> None:
    data = preamble()
    half = len(data) // 2
    broken = bytearray(data)
    broken[5] ^= 1
    broken[half + 9] ^= 1
    assert record.decode_preamble(bytes(broken)) is None
    assert record.decode_preamble(b"") is None
    assert record.decode_preamble(data[: half - 1]) is None
    assert record.decode_preamble(b"x" + data) is None, "in no other place"


def test_unknown_version() -> None:
    with pytest.raises(UnknownVersion, match="journal format 2, this program reads 1"):
        record.decode_preamble(preamble(version=2))


def test_a_damaged_version_is_not_an_unknown_one() -> None:
    data = bytearray(preamble())
    at = data.index(b" 1 ") + 1
    data[at] = ord("2")
    found = record.decode_preamble(bytes(data))
    assert found is not None
    assert found[0].worker == WORKER


def test_checks_are_the_documented_ones() -> None:
    """Another program must be able to read the files from the format's description alone."""
    data = record.encode(SEED, 77, b"res+", b"a" * 32, 3, 5, b"hi")
    line, rest = data.split(b"\n", 1)
    text, head_crc, crc = line.rsplit(b" ", 2)
    assert text == b"@ res+ " + b"a" * 32 + b" 3 5 2"
    check = crc32(text, crc32(SEED.to_bytes(8, "big") + (77).to_bytes(8, "big")))
    assert (head_crc, crc) == (b"%08x" % check, b"%08x" % crc32(b"hi", check))
    assert rest == b"hi\n"

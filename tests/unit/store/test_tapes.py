"""A tape holds exactly the chunks that it was made of, in little space, and damage to it is noticed."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.store import tapes
from proxy.store.tapes import FORMAT, BadTape, pack, unpack
from tests.support import realtext

Chunk = tuple[int, int, bytes]

BITS64 = st.integers(-(2**63), 2**63 - 1)
ANY_CHUNKS = st.lists(st.tuples(BITS64, BITS64, st.binary(max_size=40)), max_size=30)
STEPS = st.lists(st.tuples(st.integers(1, 300), st.integers(-(2**40), 2**40), st.binary(max_size=9)), max_size=300)
CHECKSUM = 4  # bytes


def back(chunks: Iterable[Chunk]) -> list[Chunk]:
    packed = pack(chunks)
    return list(unpack(packed.format, packed.data))


def forged(block: bytes) -> bytes:
    return zlib.crc32(block, tapes._SEED).to_bytes(4, "little") + block


def varints(*numbers: int) -> bytes:
    out = bytearray()
    for number in numbers:
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)


def frame(content: bytes) -> bytes:
    """A frame as a block's body has it, but for the dictionary: none of it is needed."""
    parameters = zstandard.ZstdCompressionParameters(format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=0)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


@given(ANY_CHUNKS)
def test_any_chunks_come_back(chunks: list[Chunk]) -> None:
    packed = pack(iter(chunks))
    assert list(unpack(packed.format, packed.data)) == chunks
    assert (packed.format, packed.chunks) == (FORMAT, len(chunks))
    assert packed.bytes == sum(len(data) for *_, data in chunks)


@given(STEPS)
def test_rising_seqs_and_times_that_jump_back_come_back(steps: list[Chunk]) -> None:
    seq, at_us, chunks = 0, 1_758_000_000_000_000, []
    for step, later, data in steps:
        seq, at_us = seq + step, at_us + later
        chunks.append((seq, at_us, data))
    assert back(chunks) == chunks


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=60), st.integers(1, 9))
def test_any_cutting_of_a_body_comes_back(body: bytes, cuts: list[int], step: int) -> None:
    places = [0, *sorted(cuts), 3000]
    chunks = [(n * step, n, body[a:b]) for n, (a, b) in enumerate(pairwise(places))]
    assert back(chunks) == chunks


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [(0, 0, b"")],
        [(7, 1_758_000_000_000_000, b"x")],
        [(0, 0, b""), (1, 1, b""), (2, 2, b"")],
        [(-(2**63), 2**63 - 1, b"a"), (2**63 - 1, -(2**63), b"b")],
        [(0, 0, b""), (1, 2**63 - 1, b""), (2, -(2**63), b""), (3, 0, b"a"), (4, 1, b"a" * 70_000)],
    ],
)
def test_edges_come_back(chunks: list[Chunk]) -> None:
    assert back(chunks) == chunks


@pytest.mark.parametrize("bad", [(2**63, 0, b""), (0, 2**63, b""), (0, -(2**63) - 1, b"")])
def test_numbers_beyond_64_bits_are_refused(bad: Chunk) -> None:
    with pytest.raises(OverflowError):
        pack([(0, 0, b""), bad])


@pytest.mark.parametrize("size", [0, 1, 4096, 65_536])
def test_several_blocks_come_back(size: int) -> None:
    rng = random.Random(size)
    count = 2 * tapes.BLOCK_CHUNKS + 5 if size < 2 else 3_000_000 // size
    chunks = [(n, 20 * n + rng.randrange(9), rng.randbytes(64) * (size // 64) + bytes(size % 64)) for n in range(count)]
    assert back(chunks) == chunks


@pytest.mark.parametrize("size", [tapes.BLOCK_BYTES - 1, tapes.BLOCK_BYTES, tapes.BLOCK_BYTES + 1, 5_000_000])
def test_chunks_about_as_long_as_a_block_come_back(size: int) -> None:
    chunks = [(0, 0, bytes(size)), (1, 1, random.Random(1).randbytes(size)), (2, 2, b"")]
    assert back(chunks) == chunks


def test_tapes_can_be_read_side_by_side() -> None:
    chunks = [[(n, n, (b"%d " % (n * k)) * 20) for n in range(40_000)] for k in (3, 7)]
    packed = [pack(each) for each in chunks]
    read = list(zip(*(unpack(each.format, each.data) for each in packed), strict=True))
    assert [list(each) for each in zip(*read, strict=True)] == chunks


def test_a_small_exchange_has_little_overhead() -> None:
    assert len(pack([]).data) == 4
    assert len(pack([(1, 1_758_000_000_000_000, b"0123456789")]).data) <= 32


def test_the_dictionary_is_the_one_of_this_format() -> None:
    assert tapes._SEED == 0xD2499252  # a tape can be read only with the bytes that it was packed with


def test_a_tape_of_old_can_still_be_read() -> None:
    written = (
        "06dadc381281030680809fd888b99f0600000011180102243c0001ff00ff00ff00ff00ff00ff42fc16ff00009d000018"
        "7d0a0a0440000a779479590fbdb2d240240c"
    )
    assert list(unpack(1, bytes.fromhex(written))) == [
        (3, 1_758_000_000_000_000, b'event: ping\ndata: {"type": "ping"}\n\n'),
        (4, 1_758_000_000_071_234, b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk"}\n\n'),
        (6, 1_758_000_000_071_230, b""),
    ]


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(BadTape, match="format 2"):
        unpack(FORMAT + 1, pack([(0, 0, b"x")]).data)


def test_damage_at_any_place_is_noticed() -> None:
    data = pack([(n, n * n * 999, b"data: %d\n\n" % n * 3) for n in range(40)]).data
    for place in range(len(data)):
        for change in (1, 0x80, 0xFF):
            with pytest.raises(BadTape):
                unpack(FORMAT, data[:place] + bytes((data[place] ^ change,)) + data[place + 1 :])
        with pytest.raises(BadTape):
            unpack(FORMAT, data[:place])
    with pytest.raises(BadTape):
        unpack(FORMAT, data + b"\0")


def test_damage_with_a_right_checksum_never_crashes() -> None:
    rng = random.Random(3)
    block = pack([(n + (n > 9), n * n * 999, b"data: %d\n\n" % n * rng.randrange(4)) for n in range(40)]).data[
        CHECKSUM:
    ]
    for place in range(len(block)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, block[place] ^ 0x10):
            try:
                for seq, at_us, data in unpack(FORMAT, forged(block[:place] + bytes((value,)) + block[place + 1 :])):
                    assert (type(seq), type(at_us), type(data)) == (int, int, bytes)
            except BadTape:
                pass
        if place:
            with pytest.raises(BadTape):
                list(unpack(FORMAT, forged(block[:place])))


@given(st.binary(max_size=80))
def test_any_bytes_with_a_right_checksum_never_crash(block: bytes) -> None:
    try:
        list(unpack(FORMAT, forged(block)))
    except BadTape:
        pass


# Flags and widths, then: chunks, seq, time, step of seq, step of time, length, bytes of columns, bytes of body.
HOSTILE = {
    "more chunks than a block has": b"\0\0" + varints(2**60, 0, 0, 2, 2, 0, 0, 0),
    "no chunks": b"\0\0" + varints(0, 0, 0, 0, 0, 0, 0, 0),
    "a chunk of an exabyte": b"\0\0" + varints(1, 0, 0, 0, 0, 2**60, 0, 1) + b"x",
    "a packed chunk of an exabyte": b"\2\0" + varints(1, 0, 0, 0, 0, 2**60, 0, len(frame(b"x"))) + frame(b"x"),
    "columns of an exabyte": b"\0\0" + varints(1, 0, 0, 0, 0, 0, 2**60, 0),
    "a body of an exabyte": b"\0\0" + varints(1, 0, 0, 0, 0, 0, 0, 2**60),
    "a frame that wants a window of terabytes": b"\2\0" + varints(1, 0, 0, 0, 0, 9, 0, 5) + b"\0\xf8\1\0\0",
    "a frame that holds more than its chunks": b"\2\0"
    + varints(1, 0, 0, 0, 0, 5, 0, len(z := frame(bytes(10**8))))
    + z,
    "columns that hold more than there are": b"\x11\0" + varints(2, 0, 0, 0, 0, 0, len(z), 0) + z,
    "lengths below nothing": b"\x80\0" + varints(2, 0, 0, 0, 0, 0, 16, 0) + b"\xff" * 16,
    "a width of nine": b"\x90\0" + varints(2, 0, 0, 0, 0, 0, 18, 0) + bytes(18),
    "a number without end": b"\0\0" + b"\x80" * 5000,
}


@pytest.mark.parametrize("block", HOSTILE.values(), ids=HOSTILE)
def test_hostile_numbers_are_refused_and_allocate_nothing(block: bytes) -> None:
    tape = forged(block)
    tracemalloc.start()
    try:
        with pytest.raises(BadTape):
            list(unpack(FORMAT, tape))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_memory_is_bounded_by_a_piece() -> None:
    piece = bytes(65_536)
    count = 200_000_000 // len(piece)
    tracemalloc.start()
    try:
        packed = pack((n, 1000 * n, piece) for n in range(count))
        assert sum(len(data) for *_, data in unpack(packed.format, packed.data)) == packed.bytes == count * len(piece)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
        tracemalloc.reset_peak()
        assert sum(1 for _ in unpack(packed.format, packed.data)) == count
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert len(packed.data) < 100_000


def openai_plain(seed: int) -> Iterator[bytes]:
    return realtext.openai_chat(seed, obfuscation=False, usage=False)


@pytest.mark.parametrize(
    ("stream", "ratio"),
    [
        (realtext.openai_chat, 15),
        (openai_plain, 15),
        (realtext.anthropic_messages, 8),
        (realtext.gemini_sse, 5),
    ],
)
def test_streams_of_providers_pack_well(stream: Callable[[int], Iterator[bytes]], ratio: float) -> None:
    before = after = 0
    for seed in range(30):
        chunks = realtext.recorded(seed, stream(seed))
        assert 300 <= len(chunks) <= 600
        packed = pack(chunks)
        assert list(unpack(packed.format, packed.data)) == chunks
        before += packed.bytes
        after += len(packed.data)
    assert before / after >= ratio


def test_the_text_that_is_measured_with_is_no_easier_than_english() -> None:
    written = realtext.text(random.Random(1), 40_000).encode()
    assert len(written) / len(zstandard.ZstdCompressor(level=19).compress(written)) < 4

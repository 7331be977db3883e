"""THE PACKED FORM OF CHUNKS: all of one side of one exchange in one blob, byte for byte, with their numbers and times.

A tape is a CRC-32 (4 bytes, little-endian; of `tapes.dict` and all that follows) and then blocks, none if no chunks.
A block is a head, columns, noise and a body, each described below where it is written. Every number in a head is a
varint, 7 bits a byte, the lowest first; signed ones are zigzag. Knows no database, nor what the bytes mean.
"""

from __future__ import annotations

import builtins
import sys
import threading
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, pairwise
from operator import sub
from pathlib import Path
from typing import Final, NamedTuple

import zstandard

from proxy.errors import WiretapeError

FORMAT: Final = 1
"""What is stored beside a tape's data. `tapes.dict` belongs to it: another dictionary is another format."""

BLOCK_BYTES: Final = 1 << 20
"""A block ends once its body has as many bytes, so that packing never holds more than this and some chunks."""

BLOCK_CHUNKS: Final = 1 << 14
"""Most chunks of a block: bounds what unpacking allocates for boundaries, whatever a head claims."""

_AT_ONCE = 64  # chunks taken from the caller before the block's size is looked at; divides BLOCK_CHUNKS
_PIECE = 1 << 20  # bytes unpacked at a time
_NOISE = 2  # planes of the times' steps that hold nothing but jitter: 65 ms in microseconds
_WINDOW = 1 << 23  # bytes: more than level 3 asks for, far less than a forged frame may
_LEVEL = 3
_COLUMNS_PACKED, _BODY_PACKED = 1, 2

_WRAP, _LOWEST, _HIGHEST = 1 << 64, -(1 << 63), (1 << 63) - 1

_DICTIONARY = Path(__file__).with_name("tapes.dict").read_bytes()
# In the checksum because zstd unpacks with a wrong dictionary as gladly as with the right one.
_SEED = zlib.crc32(_DICTIONARY)
_HISTORY = zstandard.ZstdCompressionDict(_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


class Packed(NamedTuple):
    """A tape: its format, its chunks, their bytes before packing, and the blob."""

    format: int
    chunks: int
    bytes: int
    data: builtins.bytes


class BadTape(WiretapeError, ValueError):
    """The blob is no tape of a known format: damaged, cut short, or written by a newer version."""


class _Head(NamedTuple):
    """A block's head: a byte each for the first two and the next two (times 16: the second), then varints."""

    flags: int
    length_width: int  # planes: bytes that each value takes; so are the next two
    seq_width: int
    at_width: int
    chunks: int
    seq: int  # of the first chunk; signed, as are the next three
    at_us: int
    seq_same: int  # where there are no planes: the step from every chunk's seq to the next one's
    at_same: int
    length_same: int
    columns: int  # bytes as stored
    body: int  # bytes as stored

    def encode(self) -> bytes:
        head = bytearray((self.flags | self.length_width << 4, self.seq_width | self.at_width << 4))
        signed = (self.seq, self.at_us, self.seq_same, self.at_same)
        zigzag = (value << 1 if value >= 0 else (-value << 1) - 1 for value in signed)
        for number in (self.chunks, *zigzag, self.length_same, self.columns, self.body):
            while number > 0x7F:
                head.append(number & 0x7F | 0x80)
                number >>= 7
            head.append(number)
        return bytes(head)


class _Context(threading.local):
    """Compressors of a thread: setting one up costs as much as packing a stream, and two threads cannot share one."""

    def __init__(self) -> None:
        parameters = zstandard.ZstdCompressionParameters(
            compression_level=_LEVEL,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=0,
            write_checksum=0,
            write_dict_id=0,
        )
        self.plain = zstandard.ZstdCompressor(compression_params=parameters)
        self.body = zstandard.ZstdCompressor(compression_params=parameters, dict_data=_HISTORY)


_context = _Context()


def pack(chunks: Iterable[tuple[int, int, bytes]]) -> Packed:
    """The tape of `(seq, microseconds, data)`. OverflowError if a seq or time does not fit into signed 64 bits."""
    blocks: list[bytes] = []
    count = size = 0
    source = iter(chunks)
    while True:
        seqs: list[int] = []
        times: list[int] = []
        datas: list[bytes] = []
        lengths: list[int] = []
        held = 0
        while held < BLOCK_BYTES and len(datas) < BLOCK_CHUNKS and (batch := list(islice(source, _AT_ONCE))):
            seq, at_us, data = zip(*batch, strict=True)
            seqs += seq
            times += at_us
            datas += data
            sizes = list(map(len, data))
            lengths += sizes
            held += sum(sizes)
        if not datas:
            break
        blocks.append(_block(seqs, times, lengths, datas))
        count += len(datas)
        size += held
    packed = b"".join(blocks)
    return Packed(FORMAT, count, size, zlib.crc32(packed, _SEED).to_bytes(4, "little") + packed)


def unpack(format: int, data: bytes) -> Iterator[tuple[int, int, bytes]]:  # noqa: A002 -- the column's name
    """The chunks that were packed, unpacked as they are asked for.

    BadTape at once for an unknown format or a wrong checksum; while iterating, for what only a forger gets past that.
    """
    if format != FORMAT:
        raise BadTape(f"tape of format {format}: this version reads format {FORMAT} only")
    if len(data) < 4 or int.from_bytes(data[:4], "little") != zlib.crc32(memoryview(data)[4:], _SEED):
        raise BadTape("damaged tape: its checksum does not match")
    return _chunks(memoryview(data)[4:])


def _block(seqs: list[int], times: list[int], lengths: list[int], datas: list[bytes]) -> bytes:
    """Head, columns (planes of seq steps, of lengths, high ones of time steps), noise (low ones of these), body.

    Columns and body are zstd frames without magic, size and checksum where that is smaller, the body's with the
    dictionary as what went before it; the noise is stored as it is.
    """
    seq_same, seq_planes = _planes(_steps(seqs))
    at_same, at_planes = _planes(_steps(times))
    length_same, length_planes = _planes(lengths)
    raw_columns = b"".join((*seq_planes, *length_planes, *at_planes[_NOISE:]))
    raw_body = b"".join(datas)
    columns = min(raw_columns, _context.plain.compress(raw_columns), key=len) if raw_columns else raw_columns
    body = min(raw_body, _context.body.compress(raw_body), key=len)
    head = _Head(
        flags=_COLUMNS_PACKED * (columns is not raw_columns) | _BODY_PACKED * (body is not raw_body),
        length_width=len(length_planes),
        seq_width=len(seq_planes),
        at_width=len(at_planes),
        chunks=len(datas),
        seq=seqs[0],
        at_us=times[0],
        seq_same=seq_same,
        at_same=at_same,
        length_same=length_same,
        columns=len(columns),
        body=len(body),
    )
    # The copy matters: zstandard hands out a frame in memory as large as the frame could have become.
    return b"".join((head.encode(), columns, *at_planes[:_NOISE], body))


def _steps(values: list[int]) -> list[int]:
    if min(values) < _LOWEST or max(values) > _HIGHEST:
        raise OverflowError("a number of a chunk does not fit into 64 bits")
    return list(map(sub, values[1:], values))


def _planes(values: list[int]) -> tuple[int, list[bytes]]:
    """What all values are, and no planes; or 0, and of all values the lowest byte, the next, ... up to the last not 0.

    Values count modulo 2**64, so that a single step back costs eight planes, most of them nothing but 0.
    """
    if not values or values.count(values[0]) == len(values):
        return (values[0] if values else 0), []
    try:
        column = array("q", values)
    except OverflowError:
        column = array("Q", [value % _WRAP for value in values])
    stored = _little(column).tobytes()
    zeros = bytes(len(values))
    width = next((width for width in range(8, 1, -1) if stored[width - 1 :: 8] != zeros), 1)
    return 0, [stored[plane::8] for plane in range(width)]


def _values(planes: Sequence[memoryview], count: int) -> list[int]:
    """What `_planes` was given, if there are planes; signed."""
    stored = bytearray(8 * count)
    for place, plane in enumerate(planes):
        stored[place::8] = plane
    column = array("q")
    column.frombytes(stored)
    return _little(column).tolist()


def _little(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _summed(first: int, planes: Sequence[memoryview], same: int, count: int) -> Iterable[int]:
    """`count` values from the first and the steps between them."""
    if not planes:
        return range(first, first + same * count, same) if same else [first] * count
    values = list(accumulate(_values(planes, count - 1), initial=first))
    if len(planes) == 8:
        values = [(value - _LOWEST) % _WRAP + _LOWEST for value in values]
    return values


def _chunks(data: memoryview) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(data):
        head, at = _read_head(data, at)
        steps = head.chunks - 1
        noise = min(head.at_width, _NOISE) * steps
        ends = list(accumulate((head.columns, noise, head.body), initial=at))
        if ends[-1] > len(data):
            raise BadTape("damaged tape: a block is longer than what is left")
        columns, low, body = (data[start:end] for start, end in pairwise(ends))
        at = ends[-1]
        yield from _read_block(head, columns, low, body)


def _read_head(data: memoryview, at: int) -> tuple[_Head, int]:
    """The head at `at` and where it ends."""
    numbers: list[int] = []
    start = at
    at += 2
    number = shift = 0
    while len(numbers) < 8:
        if at >= len(data) or shift > 63:
            raise BadTape("damaged tape: a block's head does not end")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    chunks, *signed, length_same, columns, body = numbers
    seq, at_us, seq_same, at_same = (value >> 1 if not value & 1 else -((value + 1) >> 1) for value in signed)
    flags, length_width = data[start] & 15, data[start] >> 4
    seq_width, at_width = data[start + 1] & 15, data[start + 1] >> 4
    if not 0 < chunks <= BLOCK_CHUNKS or max(seq_width, at_width, length_width) > 8 or flags > 3:
        raise BadTape("damaged tape: a block's head cannot be true")
    widths = (length_width, seq_width, at_width)
    return _Head(flags, *widths, chunks, seq, at_us, seq_same, at_same, length_same, columns, body), at


def _read_block(
    head: _Head, columns: memoryview, noise: memoryview, body: memoryview
) -> Iterator[tuple[int, int, bytes]]:
    steps = head.chunks - 1
    noisy = min(head.at_width, _NOISE)
    sizes = [steps] * head.seq_width + [head.chunks] * head.length_width + [steps] * (head.at_width - noisy)
    if head.flags & _COLUMNS_PACKED:
        # One byte more than there must be shows a frame that holds more.
        columns = memoryview(b"".join(_read(columns, None, sum(sizes) + 1)))
    if len(columns) != sum(sizes):
        raise BadTape("damaged tape: a block's columns are not as long as its head says")
    ends = list(accumulate(sizes, initial=0))
    planes = [columns[start:end] for start, end in pairwise(ends)]
    lengths_at, high_at = head.seq_width, head.seq_width + head.length_width
    low = [noise[plane * steps : (plane + 1) * steps] for plane in range(noisy)]
    seqs = _summed(head.seq, planes[:lengths_at], head.seq_same, head.chunks)
    times = _summed(head.at_us, low + planes[high_at:], head.at_same, head.chunks)
    lengths = (
        _values(planes[lengths_at:high_at], head.chunks) if head.length_width else [head.length_same] * head.chunks
    )
    if min(lengths) < 0:
        raise BadTape("damaged tape: a chunk has less than no bytes")
    total = sum(lengths)
    pieces = _read(body, _HISTORY, total + 1) if head.flags & _BODY_PACKED else iter((bytes(body),))
    yield from zip(seqs, times, _cut(pieces, lengths, total), strict=True)


def _read(packed: memoryview, history: zstandard.ZstdCompressionDict | None, most: int) -> Iterator[bytes]:
    """What a frame holds, up to `most` bytes, a piece at a time."""
    # One of its own for every frame: tapes may be read side by side, and a decompressor reads one frame at a time.
    decompressor = zstandard.ZstdDecompressor(
        dict_data=history, max_window_size=_WINDOW, format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    try:
        with decompressor.stream_reader(packed) as reader:
            while most and (piece := reader.read(min(most, _PIECE))):
                most -= len(piece)
                yield piece
    except zstandard.ZstdError as error:
        raise BadTape(f"damaged tape: {error}") from error


def _cut(pieces: Iterator[bytes], lengths: list[int], total: int) -> Iterator[bytes]:
    """The bytes of `pieces`, which must be `total`, in parts of the given lengths."""
    held = next(pieces, b"")
    if len(held) == total:
        if any(pieces):
            raise BadTape("damaged tape: a body is longer than its chunks")
        ends = list(accumulate(lengths))
        return map(held.__getitem__, map(slice, (0, *ends), ends))
    return _cut_pieces(chain((held,), pieces), lengths)


def _cut_pieces(pieces: Iterator[bytes], lengths: list[int]) -> Iterator[bytes]:
    held = b""
    start = 0
    for length in lengths:
        end = start + length
        if end > len(held):
            held = _longer(held[start:], length, pieces)
            start, end = 0, length
        yield held[start:end]
        start = end
    if start < len(held) or any(pieces):
        raise BadTape("damaged tape: a body is longer than its chunks")


def _longer(held: bytes, length: int, pieces: Iterator[bytes]) -> bytes:
    """`held` and as many pieces as make up `length`: no more is allocated than there are bytes."""
    parts = [held]
    have = len(held)
    while have < length:
        piece = next(pieces, None)
        if piece is None:
            raise BadTape("damaged tape: a body is shorter than its chunks")
        parts.append(piece)
        have += len(piece)
    return b"".join(parts)

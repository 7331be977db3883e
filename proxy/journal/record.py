"""THE FORMAT of a journal segment: bytes in, records out. Pure: no files, no clock; must not know what payloads mean.

A journal is one worker life: files `<worker uuid>-<nnnnnn>.journal`, numbered from 0. A file begins with its preamble,
one line written twice so that a damaged copy costs nothing:

    wiretape-journal 1 <node> <worker hex32> <segment> <seed hex16> <started µs since 1970> <crc hex8>\n

Then come records, each a head line, the raw payload, and a newline (for `less`; it is no part of the payload):

    @ <kind> <exchange hex32> <seq> <µs since the exchange began> <payload length> <head crc> <crc>\n

`head crc` is crc32 over (seed, offset of the record in its file, the line up to the space before `head crc`); `crc`
continues it over the payload. Seed and offset make a head that somebody plants in a payload, even one copied from
this very file, fail its check. The head has a check of its own so that a length is never believed that is not ours.

Reading: a record whose head fits but whose payload does not is one lost record, and its length still leads to the
next. Where no head fits, the next place whose head and payload fit is searched (resynchronising). A record cut off by
the end of the file is the end: for a live writer "not yet", for a dead one a torn tail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

VERSION = 1
MAX_PAYLOAD = 16 * 1024 * 1024  # one record; longer payloads are cut into several by the caller
MAX_HEAD = 160  # bytes of a head line, newline included
PREAMBLE_MAX = 512  # bytes of one copy

# Kinds. Never reuse a word; readers skip those they do not know.
REQUEST_HEAD = b"req"
REQUEST_CHUNK = b"req+"
RESPONSE_HEAD = b"res"
RESPONSE_CHUNK = b"res+"
TRAILERS = b"trl"
CHANGE = b"chg"
GAP = b"gap"
END = b"end"
NOTE = b"note"  # of no exchange, padding: shows that so much can be written again

NIL = b"0" * 32
_HEAD = re.compile(rb"(@ ([a-z+]{1,8}) ([0-9a-f]{32}) (\d{1,19}) (\d{1,19}) (\d{1,8})) ([0-9a-f]{8}) ([0-9a-f]{8})\n")
_PREAMBLE = re.compile(
    rb"(wiretape-journal (\d{1,6}) ([A-Za-z0-9._-]{1,255}) ([0-9a-f]{32}) (\d{1,9}) ([0-9a-f]{16}) (\d{1,19})) "
    rb"([0-9a-f]{8})\n"
)


@dataclass(frozen=True, slots=True)
class Preamble:
    """What a segment says of itself. `seed` is 64 random bits, `started_us` counts from 1970."""

    node: str
    worker: UUID
    segment: int
    seed: int
    started_us: int
    version: int = VERSION


class Record(NamedTuple):
    """One record; `offset` and `end` are places in its file, `exchange` is the id as 32 hex digits."""

    kind: bytes
    exchange: bytes
    seq: int
    at_us: int
    payload: bytes
    offset: int
    end: int


_record = tuple.__new__  # half of what calling the class costs


class Damage(NamedTuple):
    """Bytes from `offset` to `end` that hold no intact record.

    Where only a payload is damaged it is one record, whose `exchange` and `seq` are known.
    """

    offset: int
    end: int
    reason: str
    exchange: bytes | None = None
    seq: int = 0


class NeedData(NamedTuple):
    """The bytes end inside a record. `scanned`: where a search for the next head may go on, else the record's start."""

    offset: int
    scanned: int
    wanted: int = 0


class UnknownVersion(ValueError):
    """A segment of a format version that this program does not read."""


def encode_preamble(preamble: Preamble) -> bytes:
    """Both copies of the first line."""
    text = b"wiretape-journal %d %b %b %d %016x %d" % (
        preamble.version,
        preamble.node.encode("ascii"),
        preamble.worker.hex.encode(),
        preamble.segment,
        preamble.seed,
        preamble.started_us,
    )
    return b"%b %08x\n" % (text, crc32(text)) * 2


def decode_preamble(data: bytes) -> tuple[Preamble, int] | None:
    """The preamble and where records begin, from a file's first 2 * PREAMBLE_MAX bytes; None if neither copy is intact.

    Where only one copy is whole, the other's length is the same, so the records' beginning is known all the same.
    Raises UnknownVersion for an intact preamble of another version.
    """
    for match in _PREAMBLE.finditer(data[: 2 * PREAMBLE_MAX]):
        text, version, node, worker, segment, seed, started, crc = match.groups()
        if crc32(text) != int(crc, 16):
            continue
        length = len(match[0])
        if match.start() not in (0, length):
            continue
        if int(version) != VERSION:
            raise UnknownVersion(f"journal format {int(version)}, this program reads {VERSION}")
        preamble = Preamble(node.decode(), UUID(worker.decode()), int(segment), int(seed, 16), int(started))
        return preamble, 2 * length
    return None


@lru_cache(maxsize=64)
def seed_crc(seed: int) -> int:
    """What `encode_all` wants of a seed: worked out once for a file."""
    return crc32(seed.to_bytes(8, "big"))


def encode_all(seed: int, offset: int, exchange: bytes, seq: int, entries: Sequence[tuple[bytes, int, bytes]]) -> bytes:
    """Records of one exchange as they stand from `offset` of their file on: an entry is kind, µs and payload, `seq` is
    that of the first, `seed` the file's seed_crc."""
    parts: list[bytes] = []
    for kind, at_us, payload in entries:
        size = len(payload)
        head = b"@ %b %b %d %d %d" % (kind, exchange, seq, at_us, size)
        head_crc = crc32(head, crc32(offset.to_bytes(8, "big"), seed))
        head = b"%b %08x %08x\n" % (head, head_crc, crc32(payload, head_crc))
        parts += (head, payload, b"\n")
        offset += len(head) + size + 1
        seq += 1
    return b"".join(parts)


def encode(seed: int, offset: int, kind: bytes, exchange: bytes, seq: int, at_us: int, payload: bytes) -> bytes:
    """A whole record as it stands at `offset` of the file whose preamble holds `seed`."""
    return encode_all(seed_crc(seed), offset, exchange, seq, [(kind, at_us, payload)])


def decode(seed: int, data: bytes, base: int, start: int) -> Record | Damage | NeedData:
    """What stands at file offset `start`, where `data` holds the file from offset `base` on."""
    return decode_at(seed, data, base, start) or resynchronise(seed, data, base, start, start + 1)


def decode_at(seed: int, data: bytes, base: int, start: int) -> Record | Damage | NeedData | None:
    """As `decode`, but None where no head fits: nothing is searched."""
    at = start - base
    match = _HEAD.match(data, at, at + MAX_HEAD)
    if match is not None:
        return _judge(seed, data, base, match)
    if len(data) - at < MAX_HEAD and b"\n" not in data[at:]:
        return NeedData(start, start)
    return None


def _judge(seed: int, data: bytes, base: int, match: re.Match[bytes]) -> Record | Damage | NeedData | None:
    """The record that a line which looks like a head leads, None if the line is no head of this place."""
    head, kind, exchange, seq, at_us, length, head_crc, crc = match.groups()
    start = base + match.start()
    check = crc32(head, crc32(start.to_bytes(8, "big"), seed_crc(seed)))
    size = int(length)
    if check != int(head_crc, 16) or size > MAX_PAYLOAD:
        return None
    begin = match.end()
    end = begin + size
    if len(data) <= end:
        return NeedData(start, start, base + end + 1)
    payload = data[begin:end]
    if crc32(payload, check) != int(crc, 16) or data[end] != 10:
        reason = f"payload of {kind.decode()} record {int(seq)} is damaged"
        return Damage(start, base + end + 1, reason, exchange, int(seq))
    return _record(Record, (kind, exchange, int(seq), int(at_us), payload, start, base + end + 1))


def resynchronise(seed: int, data: bytes, base: int, start: int, search: int) -> Damage | NeedData:
    """The damaged stretch from `start` to the next record that is intact, looking from file offset `search` on."""
    at = search - base
    # The regular expression looks at every place in C: payloads may be full of what looks like heads, or begins so.
    while match := _HEAD.search(data, at):
        found = _judge(seed, data, base, match)
        if isinstance(found, NeedData):
            return NeedData(start, found.scanned, found.wanted)
        if found is not None:
            return Damage(start, base + match.start(), "no intact record here")
        at = match.start() + 1
    # What is left is the beginning of a head, if anything: in the last line, and no longer than a head can be.
    unfinished = data.find(b"@", max(at, data.rfind(b"\n") + 1, len(data) - MAX_HEAD))
    return NeedData(start, base + unfinished if unfinished >= 0 else max(search, base + len(data)))

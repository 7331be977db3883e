"""Reads exchanges from JSON lines, as `export jsonl` writes them. Whatever is torn or edited is told with its line.

What a line says of the meaning is passed over: it is read again from the bytes. Memory holds one line at a time. Must
not know the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import IO, Annotated, Any, Literal
from uuid import UUID

import msgspec

from proxy.errors import UsageError
from proxy.exchange import Origin, Outcome, Side, WireEnd
from proxy.replay.shelf import Shelved
from proxy.store.rows import ChangeRow, ChunkRow, ExchangeRow, GapRow, HeadRow

LONGEST = 2**30
"""Bytes of the longest line that is read."""

Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Side = Literal["request", "response", "response_trailers", "request_trailers"]
_End = Literal["upstream_end", "client_left", "upstream_error", "journal_error", "worker_died", "refused"]
_Outcome = Literal["completed", "client_left", "upstream_failed", "refused", "interrupted"]
_PASSED_OVER = frozenset(("journal", "origin", "id", "error", "wire_end", "outcome", "record", "tags"))


class BadLine(UsageError):
    """A line that cannot be understood; the text names it."""


class _Timed(msgspec.Struct):
    seq: Count
    at_us: Count


class _Head(_Timed):
    side: _Side
    status: Integer | None
    reason: str | None
    headers: list[tuple[str, str]]


class _Chunk(_Timed):
    side: _Side
    size: int
    text: str | None = None
    base64: bytes | None = None

    def data(self) -> bytes:
        found = self.base64 if self.text is None else self.text.encode()
        if found is None or len(found) != self.size:
            raise ValueError(f"the chunk with the seq {self.seq} has not its {self.size} bytes")
        return found


class _Change(_Timed):
    change: Any


class _Gap(_Timed):
    side: _Side
    bytes: Count
    reason: str | None


class _Line(msgspec.Struct):
    """What of a line is taken in; its names are those of ExchangeRow, but for `wire_error`."""

    id: UUID
    started_us: Integer
    wire_end: _End | None
    outcome: _Outcome | None
    record: Literal["all", "meta"]
    heads: list[_Head]
    chunks: list[_Chunk]
    changes: list[_Change]
    gaps: list[_Gap]
    tags: list[tuple[str, str]]
    request_bytes: Integer
    response_bytes: Integer
    request_chunks: Integer
    response_chunks: Integer
    unrecorded_bytes: Integer
    lost_records: Integer
    masked: Integer
    ordinal: Integer | None = None
    node: str | None = None
    upstream: str | None = None
    dialect: str | None = None
    method: str | None = None
    target: str | None = None
    client: str | None = None
    client_kind: str | None = None
    credential: str | None = None
    credential_name: str | None = None
    session: str | None = None
    http_version: str | None = None
    status: Integer | None = None
    reason: str | None = None
    wire_error: str | None = None
    request_sent_us: Integer | None = None
    head_us: Integer | None = None
    first_byte_us: Integer | None = None
    last_byte_us: Integer | None = None
    end_us: Integer | None = None
    overhead_us: Integer | None = None
    request_hash: Hash | None = None
    response_hash: Hash | None = None
    request_out_hash: Hash | None = None
    response_out_hash: Hash | None = None
    replay_of: UUID | None = None
    interpretation_error: str | None = None


_decode = msgspec.json.Decoder(_Line).decode


def exchanges(file: IO[bytes]) -> Iterator[Shelved | None]:
    """The exchanges of a file, as they are asked for; None for one that was still running. Raises BadLine."""
    for number, line in _lines(file):
        try:
            yield _exchange(_decode(line))
        except (ValueError, RecursionError) as error:
            torn = "" if line.endswith(b"\n") else ", and the file ends in it"
            raise BadLine(f"line {number}: {_plain(error)}{torn}") from None


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise BadLine(f"line {number}: it has more than {LONGEST // 2**20:,} MiB")
        if not line.isspace():
            yield number, line


def _plain(error: Exception) -> str:
    said = str(error).rstrip(".")
    if isinstance(error, msgspec.ValidationError):
        return f"this is no exchange of `export jsonl`: {said[:1].lower()}{said[1:]}"
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError | RecursionError):
        return "this is no whole JSON object"
    return said


def _exchange(line: _Line) -> Shelved | None:
    if line.wire_end is None or line.outcome is None:
        return None
    chunks = [ChunkRow(line.id, _side(each), each.seq, each.at_us, each.data()) for each in line.chunks]
    _check(line, chunks)
    for name, rows in (("heads", line.heads), ("chunks", chunks), ("changes", line.changes), ("gaps", line.gaps)):
        places = [(each.side if isinstance(each, _Head) else 0, each.seq) for each in rows]
        if len(set(places)) < len(places):
            raise ValueError(f"two of its {name} have the same seq")
    return Shelved(
        _row(line),
        [
            HeadRow(line.id, _side(each), each.seq, each.at_us, each.status, each.reason, each.headers)
            for each in line.heads
        ],
        chunks,
        [ChangeRow(line.id, each.seq, each.at_us, _encoded(each.change)) for each in line.changes],
        [GapRow(line.id, each.seq, each.at_us, _side(each), each.bytes, each.reason) for each in line.gaps],
        line.credential_name,
        line.interpretation_error,
    )


def _side(row: _Head | _Chunk | _Gap) -> Side:
    return Side[row.side.upper()]


def _encoded(change: Any) -> str:
    """The text of a change record; what was no JSON stands as it was."""
    return change if isinstance(change, str) else msgspec.json.encode(change).decode()


def _row(line: _Line) -> ExchangeRow:
    row = ExchangeRow(line.id, None, line.started_us, origin=Origin.IMPORT, error=line.wire_error)
    row.tags = sorted(set(line.tags))
    row.record = int(line.record == "meta")
    if line.wire_end is not None and line.outcome is not None:
        row.wire_end, row.outcome = WireEnd[line.wire_end.upper()], Outcome[line.outcome.upper()]
    for name in ExchangeRow.__dataclass_fields__:
        if name not in _PASSED_OVER:
            value = getattr(line, name)
            setattr(row, name, bytes.fromhex(value) if value is not None and name.endswith("_hash") else value)
    return row


def _check(line: _Line, chunks: Iterable[ChunkRow]) -> None:
    """Raise ValueError if bodies are not what was recorded, as far as that can be told."""
    for side in (Side.REQUEST, Side.RESPONSE):
        found = [each.data for each in chunks if each.side == side]
        if not found or line.unrecorded_bytes or line.lost_records:
            continue  # not kept, or not all of it
        name = side.name.lower()
        said = (getattr(line, f"{name}_chunks"), getattr(line, f"{name}_bytes"))
        hashed = getattr(line, f"{name}_hash")
        whole = hashlib.sha256()
        for data in found:
            whole.update(data)
        same = line.masked or hashed is None or hashed == whole.hexdigest()
        if said != (len(found), sum(map(len, found))) or not same:
            raise ValueError(f"the {name} is not what was recorded")

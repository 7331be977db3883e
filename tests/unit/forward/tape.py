"""A journal in a folder, recorders that write to it, and what stands in it afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec

from proxy.exchange import End, ExchangeIds, RequestHead, WireEnd
from proxy.forward.recorder import Recorder, is_coded
from proxy.forward.recording import Recording
from proxy.journal import record
from proxy.journal.reader import Segment
from proxy.journal.record import Record
from proxy.journal.writer import JournalWriter

IDS = ExchangeIds()
T = TypeVar("T")


class Clock:
    """Counts a millisecond for each look. `fail_in` looks from now it fails, once: a fault in the midst of whatever."""

    def __init__(self) -> None:
        self.now = 0
        self.fail_in: int | None = None

    def __call__(self) -> int:
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in < 0:
                self.fail_in = None
                raise RuntimeError("sk-Secret")
        self.now += 1_000_000
        return self.now


@dataclass
class Writes:
    """`count` of write(2), and what went with them."""

    count: int = 0
    records: int = 0
    bytes: int = 0


class Stage:
    """A journal in a folder, and recorders on it."""

    def __init__(
        self, folder: Path, on_failure: str = "refuse", max_body: int | None = None, max_bytes: int | None = None
    ) -> None:
        self.folder = folder
        self.journal = JournalWriter(folder, node="n", worker=IDS.next(), max_bytes=max_bytes, fsync_every=None)
        self.recording = Recording(self.journal, on_failure, max_body)

    def recorder(
        self, kind: type[Recorder] = Recorder, *headers: tuple[str, str], clock: Clock | None = None
    ) -> Recorder:
        head = RequestHead(0, 1, "openai", "openai", "POST", "/v1/x", "1.1", list(headers))
        return kind(self.recording, IDS.next_number(), head, coded=is_coded(head.headers), now=clock or Clock())

    def records(self, recorder: Recorder | None = None) -> list[Record]:
        """All intact records (of an exchange); fails on damage."""
        found: list[Record] = []
        for path in sorted(self.folder.glob("*.journal")):
            segment = Segment(path)
            try:
                for item in segment.read(0, limit=1 << 30):
                    assert isinstance(item, Record), item
                    found.append(item)
            finally:
                segment.close()
        if recorder is None:
            return found
        return [item for item in found if item.exchange == UUID(recorder.id).hex.encode()]

    @contextlib.contextmanager
    def counting(self) -> Iterator[Writes]:
        """How often, and how much, is written meanwhile."""
        writes = Writes()
        counts, records, size = sum(self.journal.write_times.counts), self.journal.records, self.journal.bytes
        yield writes
        writes.count = sum(self.journal.write_times.counts) - counts
        writes.records = self.journal.records - records
        writes.bytes = self.journal.bytes - size

    @contextlib.contextmanager
    def failing(self, room: int = 0) -> Iterator[None]:
        """The journal may grow by `room` bytes only: with some, a write succeeds in part, with none it fails."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.journal.offset + room, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def kinds(records: list[Record]) -> list[bytes]:
    return [item.kind for item in records]


def decoded(records: list[Record], kind: bytes, type_: type[T]) -> list[T]:
    return [msgspec.json.decode(item.payload, type=type_) for item in records if item.kind == kind]


def end_of(records: list[Record]) -> End:
    (end,) = decoded(records, record.END, End)
    return end


def body_of(records: list[Record], kind: bytes = record.RESPONSE_CHUNK) -> bytes:
    return b"".join(item.payload for item in records if item.kind == kind)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def carry(recorder: Recorder, request: list[bytes], response: list[bytes]) -> None:
    """A whole exchange, all of it passed on, each step committed for itself."""
    recorder.begin()
    for data in request:
        recorder.request_chunk(data)
        recorder.commit()
    recorder.request_complete()
    recorder.response_head(200, "OK", [("Content-Type", "text/event-stream")])
    recorder.commit()
    for data in response:
        recorder.response_chunk(data)
        recorder.commit()
    recorder.end(WireEnd.UPSTREAM_END)
    recorder.commit()

"""Appends records to one worker's journal. Synchronous on purpose: one `write(2)` per record keeps their order,
cannot be cancelled, and what it returned from survives the death of the process. Must not know what payloads mean,
nor databases, nor an event loop; fsync runs in a thread of its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from proxy.errors import WiretapeError
from proxy.journal import record

SEGMENT_BYTES = 64 * 1024 * 1024
SPARE_BELOW = 64 * 1024 * 1024  # bytes free on the disk, below which the next segment is begun in advance
_DISK_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class JournalError(WiretapeError):
    """A record could not be written (disk full, `max_journal` reached, I/O error); nothing of it stays in the file."""


def segment_name(worker: UUID, segment: int) -> str:
    return f"{worker}-{segment:06d}.journal"


def node_name(hostname: str) -> str:
    """A host name reduced to what a preamble may hold: 1 to 63 of [A-Za-z0-9._-]."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", hostname)[:63] or "node"


def _size(entry: os.DirEntry[str]) -> int:
    """Of a file that ingest may remove at any time."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _check_sizes(entries: list[tuple[bytes, int, bytes]]) -> None:
    for _, _, payload in entries:
        if len(payload) > record.MAX_PAYLOAD:
            raise ValueError(f"a record of {len(payload)} bytes could never be read again")


class _Draft(NamedTuple):
    """A segment that is locked and begun, but not yet under its own name."""

    path: Path
    fd: int
    seed: int
    begin: int


class Histogram:
    """How long writes took. `counts[n]` are those of less than FIRST_NS * 2^n nanoseconds, and not less than half of
    that; the last holds all that took longer."""

    FIRST_NS = 8192
    BUCKETS = 20

    def __init__(self) -> None:
        self.counts = [0] * self.BUCKETS
        self.total_ns = 0

    def by_seconds(self) -> dict[str, int]:
        """The counts by what bounds them from above, in seconds."""
        bounds = [f"{(self.FIRST_NS << power) / 1e9:g}" for power in range(self.BUCKETS - 1)]
        return dict(zip([*bounds, "+Inf"], self.counts, strict=True))

    def add(self, took_ns: int) -> None:
        self.counts[min((took_ns >> 13).bit_length(), self.BUCKETS - 1)] += 1
        self.total_ns += took_ns


class JournalWriter:
    """One journal: the live segment and its lock. Not for use from several threads.

    `max_bytes` bounds all journals of the folder together; `fsync_every` is in seconds, None for never. The first
    file is made with the first record.
    """

    def __init__(
        self,
        folder: Path,
        *,
        node: str,
        worker: UUID,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int | None = None,
        fsync_every: float | None = 1.0,
    ) -> None:
        self.folder = folder
        self.worker = worker
        self.ordinal = 0
        self.records = 0
        self.bytes = 0
        self.write_times = Histogram()
        self._node = node_name(node)
        self._segment_bytes = segment_bytes
        self._segment = -1
        self._fd = -1
        self._seed_crc = 0
        self._begin = 0  # of the live segment's records
        self._offset = 0
        self._spare: _Draft | None = None
        self._room = -1  # up to where the live segment may grow; below zero: the next record needs a new one
        self._elsewhere = 0  # bytes of the folder's journals that are not in the live segment
        self._most = sys.maxsize if max_bytes is None else max_bytes
        self._lock = threading.Lock()  # guards _fd and _retired against the sync thread
        self._retired: list[int] = []
        self._dirty = False
        self._sync_failed = False
        self._stop = threading.Event()
        self._sync: threading.Thread | None = None
        self.refresh()
        if fsync_every is not None:
            self._sync = threading.Thread(target=self._sync_loop, args=(fsync_every,), name="fsync", daemon=True)
            self._sync.start()

    @property
    def segment(self) -> int:
        return self._segment

    @property
    def offset(self) -> int:
        """The end of the live segment, in bytes."""
        return self._offset

    def append(self, kind: bytes, exchange: bytes, seq: int, at_us: int, payload: bytes) -> None:
        """Write one record, of at most MAX_PAYLOAD bytes. Raises JournalError, then nothing of the record stays."""
        offset = self._offset
        end = offset + len(payload) + record.MAX_HEAD + 1
        if end > self._room or self._elsewhere + end > self._most or self._sync_failed:
            self.append_all(exchange, seq, [(kind, at_us, payload)])
            return
        data = record.encode_all(self._seed_crc, offset, exchange, seq, ((kind, at_us, payload),))
        self._write_at(offset, data)
        self._offset = offset + len(data)
        self._dirty = True
        self.records += 1
        self.bytes += len(data)

    def append_all(self, exchange: bytes, seq: int, entries: list[tuple[bytes, int, bytes]]) -> None:
        """Write records of one exchange in one write; an entry is kind, µs and payload, and `seq` is that of the first.
        Raises JournalError, then nothing of any of them stays."""
        if self._sync_failed:
            self._sync_failed = False
            raise JournalError(f"the journal in {self.folder} could not be synced to its disk; check the disk's health")
        offset = self._offset
        data = record.encode_all(self._seed_crc, offset, exchange, seq, entries)
        if len(data) > record.MAX_PAYLOAD:
            _check_sizes(entries)
        if offset + len(data) > self._room:
            self._open_next()
            offset = self._offset
            data = record.encode_all(self._seed_crc, offset, exchange, seq, entries)
        end = offset + len(data)
        if self._elsewhere + end > self._most:
            self._give_up_segment()
            raise JournalError(f"the journal in {self.folder} has reached max_journal; let ingest catch up")
        self._write_at(offset, data)
        self._offset = end
        self._dirty = True
        self.records += len(entries)
        self.bytes += end - offset

    def _write_at(self, offset: int, data: bytes) -> None:
        """Raises JournalError, then the segment ends at `offset` again."""
        begun = time.perf_counter_ns()
        try:
            written = os.write(self._fd, data)
            if written != len(data):
                self._write_rest(data, written)
        except OSError as error:
            self._cut_back(offset)
            if error.errno in _DISK_FULL:
                self._give_up_segment()
            raise self._failure(error) from None
        finally:
            self.write_times.add(time.perf_counter_ns() - begun)

    def refresh(self) -> None:
        """Look at the folder again, once a second: how much waits there, and is the live segment still in it?"""
        total = 0
        live = False
        name = segment_name(self.worker, self._segment)
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name == name:
                        live = True
                    elif entry.name.endswith(".journal"):
                        total += _size(entry)
        except (FileNotFoundError, NotADirectoryError):
            pass  # as if it were empty; the next segment makes the folder anew
        except OSError:
            return  # such as too many open files: no reason to believe that anything changed
        if self._fd >= 0 and not live:
            # Somebody removed the file under us: what is written there now would be lost with our descriptor. It is
            # held until the next one is there, or ingest would take us for dead.
            self._room = -1
            with contextlib.suppress(JournalError):
                self._open_next()
        self._elsewhere = total
        if self._fd >= 0:
            self._prepare_spare()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of all journals in the folder, as of the last refresh and what was written since."""
        return self._elsewhere + self._offset

    def close(self) -> None:
        """Sync and give up the lock: the journal is complete."""
        self._stop.set()
        if self._sync is not None:
            self._sync.join()
        self._drop_spare()
        self._retire()
        self._sync_retired(sync=self._sync is not None)

    def _open_next(self) -> None:
        """Open, lock and name the next segment, then let go of the one before."""
        draft = self._spare
        if draft is None or not draft.path.exists():
            self._drop_spare()
            draft = self._begin_draft()
        self._spare = None
        segment = self._segment + 1
        try:
            draft.path.rename(self.folder / segment_name(self.worker, segment))
        except OSError as error:
            self._drop(draft)
            raise self._failure(error) from None
        self._retire()
        with self._lock:
            self._fd = draft.fd
        self._segment, self._seed_crc, self._room = segment, record.seed_crc(draft.seed), self._segment_bytes
        self._begin = self._offset = draft.begin
        self._prepare_spare()

    def _begin_draft(self) -> _Draft:
        """The next segment, under its own name only once it is locked and begun: ingest takes an unlocked segment for a
        dead worker's."""
        segment = self._segment + 1
        path = (self.folder / segment_name(self.worker, segment)).with_suffix(".new")
        seed = secrets.randbits(64)
        preamble = record.encode_preamble(
            record.Preamble(self._node, self.worker, segment, seed, time.time_ns() // 1000)
        )
        fd = -1
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.write(fd, preamble) != len(preamble):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if fd >= 0:
                self._drop(_Draft(path, fd, seed, 0))
            raise self._failure(error) from None
        return _Draft(path, fd, seed, len(preamble))

    def _drop(self, draft: _Draft) -> None:
        os.close(draft.fd)
        with contextlib.suppress(OSError):
            draft.path.unlink()

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._drop(self._spare)
            self._spare = None

    def _prepare_spare(self) -> None:
        """On a full disk no segment can be begun, and it may be the live one that fills it: what is stored of that is
        removed only when another takes its place, so that one has to be there already."""
        if self._spare is None:
            with contextlib.suppress(OSError, JournalError):
                found = os.statvfs(self.folder)
                if found.f_bavail * found.f_frsize < SPARE_BELOW:
                    self._spare = self._begin_draft()

    def _write_rest(self, data: bytes, written: int) -> None:
        """After a short write: as a rule the rest cannot be written either, but the error then says why."""
        while written < len(data):
            more = os.write(self._fd, data[written:])
            if not more:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += more

    def _give_up_segment(self) -> None:
        """There is no more room: ingest makes some by removing what is stored, but never the live segment."""
        if self._offset > self._begin:
            with contextlib.suppress(JournalError):
                self._open_next()

    def _retire(self) -> None:
        with self._lock:
            if self._fd >= 0:
                self._elsewhere += self._offset
                self._retired.append(self._fd)
                self._fd = self._room = -1
                self._begin = self._offset = 0
            if self._sync is None:
                retired, self._retired = self._retired, []
                for fd in retired:
                    os.close(fd)

    def _cut_back(self, offset: int) -> None:
        """Take a record that was written in part out again; where even that fails, the segment ends with it, but
        stays locked until the next one is there."""
        try:
            os.ftruncate(self._fd, offset)
        except OSError:
            self._room = -1

    def _failure(self, error: OSError) -> JournalError:
        return JournalError(f"the journal in {self.folder} cannot be written: {error.strerror or error}")

    def _sync_loop(self, every: float) -> None:
        while not self._stop.wait(every):
            self._sync_retired(sync=True)
            if not self._dirty:
                continue
            self._dirty = False
            try:
                with self._lock:
                    fd = os.dup(self._fd) if self._fd >= 0 else -1
            except OSError:
                self._dirty = True  # too many open files: in the next round
                continue
            if fd >= 0:
                self._sync_one(fd)

    def _sync_retired(self, *, sync: bool) -> None:
        with self._lock:
            retired, self._retired = self._retired, []
        for fd in retired:
            if sync:
                self._sync_one(fd)
            else:
                os.close(fd)

    def _sync_one(self, fd: int) -> None:
        try:
            os.fdatasync(fd)
        except OSError:
            # The page cache may have dropped what it could not write: the next append must say so, not this thread.
            self._sync_failed = True
        finally:
            os.close(fd)

"""One side of a recorded exchange, chunk by chunk as it came: for commands, and for programs that read streams.

A tape is copied out of the database once, so that nobody holds it who reads at the pace of a stream.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, NamedTuple, Protocol, Self, TypeVar
from uuid import UUID

from proxy.errors import UsageError, WiretapeError
from proxy.exchange import Side
from proxy.store import Connection, Engine, read
from proxy.store.engine import check_version, open_engine, reading
from proxy.store.rows import Exchange, Pairs

_IN_MEMORY = 8 * 2**20


def _spool() -> IO[bytes]:
    return SpooledTemporaryFile(max_size=_IN_MEMORY)


class Chunk(NamedTuple):
    """What one read of a socket brought: when it came, in microseconds since the exchange began, and the bytes."""

    at_us: int
    data: bytes


class Tape:
    """The chunks of one side of an exchange; a sequence, and a context manager that lets go of them.

    `headers` are those of the side's (final) head. `whole`: as far as it crossed the wire, all of it is here; `note`
    says what is to be known of it otherwise. To be read by one thread at a time.
    """

    def __init__(self, exchange: Exchange, side: Side, headers: Pairs, spool: IO[bytes] | None = None) -> None:
        self.exchange = exchange
        self.side = side
        self.headers = headers
        self.whole = True
        self.note = ""
        self._spool = _spool() if spool is None else spool
        self._times = array("q")
        self._ends = array("q", (self._spool.tell(),))

    def add(self, at_us: int, data: bytes) -> None:
        """Append a chunk; before any is read."""
        self._spool.write(data)
        self._times.append(at_us)
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._times)

    def __getitem__(self, number: int) -> Chunk:
        """The chunk of this number, counted from 0, or from the end where it is negative. Raises IndexError."""
        count = len(self._times)
        place = number + count if number < 0 else number
        if not 0 <= place < count:
            raise IndexError(f"the tape has {count} chunks, none has the number {number}")
        self._spool.seek(self._ends[place])
        return Chunk(self._times[place], self._spool.read(self._ends[place + 1] - self._ends[place]))

    def __iter__(self) -> Iterator[Chunk]:
        """All chunks, at once."""
        return self.play(None)

    def play(self, speed: float | None = 1.0, start: int = 0) -> Iterator[Chunk]:
        """The chunks, each when it is due: so many times as fast as they came, None without waiting.

        `start` is the number of the first; the one before it counts as just gone by. Raises ValueError for a speed that
        is none.
        """
        return pace(self._from(start), speed, self.time_before(start))

    async def aplay(self, speed: float | None = 1.0, start: int = 0) -> AsyncIterator[Chunk]:
        """As `play`, for an event loop of asyncio."""
        due = due_times(speed, self.time_before(start))
        for chunk in self._from(start):
            wait = due(chunk.at_us) - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            yield chunk

    def time_before(self, number: int) -> int:
        """When the chunk before this one came; 0 for the first."""
        return self._times[number - 1] if 0 < number <= len(self._times) else 0

    def time_of(self, number: int) -> int:
        """When this chunk came, and 0 for the first: what came before any belongs to it."""
        return self._times[number] if number else 0

    def _from(self, start: int) -> Iterator[Chunk]:
        return (self[number] for number in range(start, len(self._times)))

    def header(self, name: str) -> str:
        """The values of a header, by its name in lower case, joined with commas; empty if there is none."""
        return ", ".join(value for each, value in self.headers if each.lower() == name)

    def close(self) -> None:
        """Let go of the bytes."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Timed(Protocol):
    """What came at a time, in microseconds since the exchange began."""

    @property
    def at_us(self) -> int: ...


Item = TypeVar("Item", bound=Timed)


def pace(items: Iterable[Item], speed: float | None, since_us: int = 0) -> Iterator[Item]:
    """Each item when it is due, with what came at `since_us` due now; see Tape.play."""
    due = due_times(speed, since_us)
    for item in items:
        wait = due(item.at_us) - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        yield item


def due_times(speed: float | None, since_us: int = 0) -> Callable[[int], float]:
    """Tells when (monotonic seconds) what came at a time is due, if this call is the time `since_us`."""
    if speed is None:
        return lambda _: 0.0
    if not 0 < speed < math.inf:
        raise ValueError(f"the speed {speed!r} is none: a number above 0, or None for no waiting")
    began = time.monotonic()
    return lambda at_us: began + (at_us - since_us) / 1_000_000 / speed


def tape(exchange: str | UUID, database: str | Path, *, request: bool = False) -> Tape:
    """The recorded chunks of a response, or of the request, with their exact boundaries and times.

    `exchange` is its id, the first or last digits of it, the id of its response, or `last`; `database` a URL such as
    `sqlite:///PATH` or `postgresql://USER@HOST/NAME`, or the path of an SQLite file. Raises UsageError for what is not
    there, WiretapeError where the body was not recorded, DatabaseAway for a database that cannot be used now.
    """
    engine = open_engine(f"sqlite:///{database}" if isinstance(database, Path) else database, create=False)
    try:
        check_version(engine)
        return capture(engine, str(exchange), Side.REQUEST if request else Side.RESPONSE)
    finally:
        engine.dispose()


def capture(engine: Engine, given: str, side: Side, spool: IO[bytes] | None = None) -> Tape:
    """The chunks of one side; several tapes may share a spool.

    Raises UsageError for an exchange that is not there, WiretapeError where nothing of the body was recorded.
    """
    with reading(engine) as connection:
        exchange = read.get_exchange(connection, read.find_exchange(connection, given))
        if exchange is None:
            raise UsageError(f"the exchange {given} was deleted just now")
        return _copied(connection, exchange, side, spool)


def _copied(connection: Connection, exchange: Exchange, side: Side, spool: IO[bytes] | None) -> Tape:
    # The last head of a response is the one that is not interim.
    heads = [head for head in read.headers(connection, exchange.id) if head.side == side]
    lost = sum(gap.bytes for gap in read.gaps(connection, exchange.id) if gap.side == side)
    found = Tape(exchange, side, heads[-1].headers if heads else (), spool)
    try:
        for chunk in read.chunks(connection, exchange.id, side):
            found.add(chunk.at_us, chunk.data)
        crossed = exchange.request_bytes if side is Side.REQUEST else exchange.response_bytes
        if not len(found):
            _refuse_empty(exchange, side, crossed + lost, answered=bool(heads))
    except BaseException:
        if spool is None:
            found.close()
        raise
    found.whole = not lost and not exchange.lost_records
    found.note = _note(exchange, side, lost)
    return found


def _refuse_empty(exchange: Exchange, side: Side, crossed: int, *, answered: bool) -> None:
    """Raise if the body is not there, rather than empty."""
    name = side.name.lower()
    if side is Side.RESPONSE and not answered:
        yet = " yet" if exchange.outcome is None else ""
        raise WiretapeError(
            f"{exchange.id} has no response of the upstream{yet}: `wiretape show {exchange.id}` says why"
        )
    if crossed or (exchange.record and exchange.outcome is None):
        raise WiretapeError(
            f"the {name} body of {exchange.id} was not recorded: only exchanges recorded with bodies can be replayed"
        )


def _note(exchange: Exchange, side: Side, lost: int) -> str:
    name = side.name.lower()
    said = []
    if lost:
        said.append(f"{lost:,} {'byte' if lost == 1 else 'bytes'} of the {name} body were not recorded")
    if exchange.lost_records:
        records = "record" if exchange.lost_records == 1 else "records"
        said.append(f"{exchange.lost_records:,} {records} of the exchange could not be read")
    if exchange.masked:
        said.append("keys in its bodies are masked")
    if exchange.outcome is None:
        said.append("it is still running")
    return f"{exchange.id}: {'; '.join(said)}" if said else ""

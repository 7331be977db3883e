"""What playback costs, and how well it keeps time.

`python -m tests.bench.playback`: a chat's stream of 60 chunks is recorded and played again by a `wiretape playback` of
its own. Every answer is compared byte for byte. CPU is that of playback's process.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from proxy.exchange import ExchangeIds, Outcome, Side, WireEnd
from proxy.store.engine import open_engine
from proxy.store.migrate import upgrade
from proxy.store.rows import ChunkRow, ExchangeRow, HeadRow, JournalRow
from proxy.store.write import Writer
from tests.bench.measure import cpu_times
from tests.support.journals import WORKER
from tests.support.realtext import openai_chat
from tests.support.running import serving

REQUESTS, CLIENTS = 4000, 8
STREAMS, CHUNKS, GAP_US = 50, 60, 25_000
APART = 0.011  # seconds between the beginnings of two streams
ALLOWED_US, ALLOWED_MS = 500.0, 2.0
CHAT = b'{"model":"gpt-5","stream":true,"messages":[{"role":"user","content":"%s"}]}' % (b"tell me more " * 100)
_REQUEST = b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
_REQUEST += b"Content-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT)


@dataclass(frozen=True)
class Figures:
    """`cpu_us` of a request without waiting; `p50_ms`, `p99_ms`: how late chunks are in timed playback."""

    requests: int
    cpu_us: float
    p50_ms: float
    p99_ms: float

    @property
    def reached(self) -> bool:
        return self.cpu_us <= ALLOWED_US and self.p50_ms <= ALLOWED_MS


def _chunks() -> list[bytes]:
    return list(islice(openai_chat(1), CHUNKS))


def record(url: str, chunks: list[bytes]) -> None:
    """Write the one exchange that is played."""
    engine = open_engine(url, create=True)
    upgrade(engine)
    writer = Writer(engine)
    with writer.transaction():
        journal = JournalRow(WORKER, "here", 1, stored=1, highest_ordinal=1)
        writer.put_journal(journal)
        key = ExchangeIds().next()
        row = ExchangeRow(key, journal.id, time.time_ns() // 1000, 1, node="here", upstream="openai", dialect="openai")
        row.method, row.target, row.http_version = "POST", "/openai/v1/chat/completions", "1.1"
        row.status, row.reason, row.wire_end, row.outcome = 200, "OK", WireEnd.UPSTREAM_END, Outcome.COMPLETED
        row.end_us = (len(chunks) + 1) * GAP_US
        writer.put_exchanges([row])
        asked = [("Host", "h"), ("Content-Type", "application/json"), ("Content-Length", str(len(CHAT)))]
        came = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        writer.put_heads(
            [
                HeadRow(key, Side.REQUEST, 0, 0, None, None, asked),
                HeadRow(key, Side.RESPONSE, 2, GAP_US, 200, "OK", came),
            ]
        )
        body = [ChunkRow(key, Side.REQUEST, 1, 1, CHAT)]
        body += [ChunkRow(key, Side.RESPONSE, 3 + n, (n + 1) * GAP_US, data) for n, data in enumerate(chunks)]
        writer.put_chunks(body)
    engine.dispose()


async def _answer(reader: asyncio.StreamReader) -> list[tuple[float, bytes]]:
    """The chunks of one answer, each with the time at which it was there."""
    await reader.readuntil(b"\r\n\r\n")
    found = []
    while size := int(await reader.readline(), 16):
        data = await reader.readexactly(size)
        found.append((time.monotonic(), data))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return found


async def _many(port: int, each: int, whole: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(each):
        writer.write(_REQUEST)
        assert b"".join(data for _, data in await _answer(reader)) == whole
    writer.close()
    await writer.wait_closed()


async def _timed(port: int, chunks: list[bytes], after: float) -> list[float]:
    """How late each chunk is, in seconds; `after` so many seconds the request is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(after)
    began = time.monotonic()
    writer.write(_REQUEST)
    found = await _answer(reader)
    writer.close()
    await writer.wait_closed()
    assert [data for _, data in found] == chunks
    return [at - began - (number + 1) * GAP_US / 1e6 for number, (at, _) in enumerate(found)]


def measure(folder: Path, requests: int = REQUESTS, streams: int = STREAMS) -> Figures:
    """Play in `folder`."""
    chunks = _chunks()
    (folder / "home").mkdir(mode=0o700)
    record(f"sqlite:///{folder}/home/wiretape.db", chunks)
    port = {"playback": 0}
    config = "[playback]\norder = 'repeat_last'\n"
    with serving(folder, command="playback", config=config, ports=port) as playing:
        pid = playing.pid("playback")

        async def all_of_them() -> float:
            await _many(playing.port_of("playback"), 100, b"".join(chunks))
            before = cpu_times([pid])[pid]
            share = requests // CLIENTS
            where = playing.port_of("playback")
            await asyncio.gather(*(_many(where, share, b"".join(chunks)) for _ in range(CLIENTS)))
            return (cpu_times([pid])[pid] - before) / (share * CLIENTS) * 1e6

        cpu_us = asyncio.run(all_of_them())
        playing.stop()
    with serving(folder, command="playback", config=config + "speed = 1\n", ports=port) as playing:

        async def beside_each_other() -> list[float]:
            where = playing.port_of("playback")
            # Streams of a busy program begin one after another, and overlap.
            each = await asyncio.gather(*(_timed(where, chunks, APART * number) for number in range(streams)))
            return [late for one in each for late in one]

        late = asyncio.run(beside_each_other())
        playing.stop()
    cuts = quantiles([abs(each) for each in late], n=100)
    return Figures(requests, cpu_us, cuts[49] * 1000, cuts[98] * 1000)


def main() -> int:
    with TemporaryDirectory(prefix="wiretape-playback-") as folder:
        figures = measure(Path(folder))
    told = f"{figures.requests} requests, {CLIENTS} at a time: {figures.cpu_us:.0f} us of CPU each"
    print(f"{told} ({ALLOWED_US:.0f} allowed)")
    print(
        f"{STREAMS} streams of {CHUNKS} chunks at once: a chunk is off by {figures.p50_ms:.2f} ms at p50 "
        f"({ALLOWED_MS:.0f} allowed), {figures.p99_ms:.2f} ms at p99"
    )
    return 0 if figures.reached else 1


if __name__ == "__main__":
    sys.exit(main())

"""What forward holds in memory does not depend on how much waits for a slow side, and a held stream costs little."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.bench.measure import peak_resident_kib, resident_kib
from tests.chaos.ledger import Ledger
from tests.chaos.mix import Met, Plan, Way
from tests.chaos.mixed_clients import Client, fault
from tests.chaos.mixed_upstream import MixedUpstream
from tests.flow.wire.stage import Origin, Stage, request, response, staged
from tests.support.journals import limited
from tests.support.rawhttp import DEADLINE, Peer, TooLate
from tests.support.running import Running, serving, wait_for

MIB = 1 << 20
DOWN, UP = 500 * MIB, 200 * MIB
GROWTH_KIB = 16 * 1024
PATIENCE = 1.0
"""Seconds without progress after which a sender counts as held back."""
STREAMS = 1000 if os.environ.get("CI") == "true" else 300
KIB_PER_STREAM = 24
FILES = 512  # descriptors, of which a stream takes two
DATA = random.Random(500).randbytes(500_001).hex().encode()
"""What is sent, again and again; no length of a buffer divides its own."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("memory")
    try:
        with staged(folder, upstreams=4) as stage:
            yield stage
    finally:
        shutil.rmtree(folder)  # it is a gigabyte, which pytest would keep


def pour(peer: Peer, total: int, held_back: threading.Event) -> str:
    """Send so many bytes of DATA, and tell when the other side takes no more; the hash of what was sent."""
    begun = peer.sent
    digest = hashlib.sha256()
    while (at := peer.sent - begun) < total:
        data = memoryview(DATA)[at % len(DATA) :][: total - at]
        try:
            count = peer._send_some(data, time.monotonic() + (DEADLINE if held_back.is_set() else PATIENCE))
        except TooLate:
            if held_back.is_set():
                raise
            held_back.set()
        else:
            digest.update(data[:count])
    return digest.hexdigest()


def drain(peer: Peer, total: int) -> str:
    """Read so many bytes and keep none of them; their hash."""
    digest = hashlib.sha256()
    while total:
        data = peer.read_exactly(min(total, MIB))
        digest.update(data)
        total -= len(data)
        del peer.received[: peer._taken]
        peer._taken = 0
    return digest.hexdigest()


@contextmanager
def grows_little(stage: Stage) -> Iterator[None]:
    """That the worker never needs much more meanwhile than before, when it had already carried something."""
    with stage.origin(_answer) as origin:
        assert stage.exchange(request(origin.at(), DATA)).body == DATA
    pid = stage.wiretape.pid("forward")
    before = resident_kib([pid])
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is now what it has (proc(5))
    yield
    assert peak_resident_kib([pid]) - before <= GROWTH_KIB


def recorded(stage: Stage, origin: Origin, side: str = "response") -> tuple[str, str, str | None]:
    """Outcome, and hashes in and out of a side, of the only exchange; not the chunks, they are too much."""
    sql = f"SELECT outcome, {side}_hash, {side}_out_hash FROM exchange_list WHERE upstream = ? AND started_us >= ?"  # noqa: S608 - the words above
    sql += " AND outcome IS NOT NULL"
    ledger = Ledger(stage.wiretape.home)
    # Half a gigabyte: on a slow disk that takes longer than the relaying did.
    (row,) = wait_for(lambda: ledger.query(sql, origin.name, origin.since_us), "the exchange to be stored", 300)
    return cast("tuple[str, str, str | None]", row)


def _answer(peer: Peer) -> None:
    peer.read_message()
    peer.send(response(DATA))


def test_half_a_gigabyte_for_a_client_that_does_not_read(stage: Stage) -> None:
    held_back = threading.Event()
    sent: list[str] = []

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DOWN)
        sent.append(pour(peer, DOWN, held_back))

    with grows_little(stage), stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        assert held_back.wait(DEADLINE)
        assert client.read_head()[0] == b"HTTP/1.1 200 OK"
        received = drain(client, DOWN)
        origin.wait_idle()
    assert [received] == sent
    assert recorded(stage, origin) == ("completed", received, None)


def test_an_upload_to_an_upstream_that_does_not_read(stage: Stage) -> None:
    held_back = threading.Event()
    received: list[str] = []

    def script(peer: Peer) -> None:
        assert held_back.wait(DEADLINE)
        peer.read_head()
        received.append(drain(peer, UP))
        peer.send(response())

    with grows_little(stage), stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), None, b"Content-Length: %d" % UP))
        sent = pour(client, UP, held_back)
        assert client.read_message().status == 200
    assert received == [sent]
    assert recorded(stage, origin, "request") == ("completed", sent, None)


def test_many_streams_at_once(tmp_path: Path) -> None:
    """More than the usual limit of descriptors allows, which the server raises for itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with limited(resource.RLIMIT_NOFILE, most):
        asyncio.run(_hold(tmp_path))


async def _hold(folder: Path) -> None:
    async with MixedUpstream() as upstream:
        with ExitStack() as stack:
            with limited(resource.RLIMIT_NOFILE, FILES):
                wiretape = stack.enter_context(
                    serving(
                        folder,
                        f"--upstream=up=http://127.0.0.1:{upstream.port}",
                        config="forward.shutdown_grace = '1s'",
                    )
                )
            forward = wiretape.pid("forward")
            upstream.gate.set()
            await _all(_begun(wiretape, upstream, "warm", 10))
            upstream.gate.clear()
            before = resident_kib([forward])
            streams = _begun(wiretape, upstream, "held", STREAMS)
            stack.callback(upstream.gate.set)
            await _flowing(streams)
            grown = resident_kib([forward]) - before
            upstream.gate.set()
            await _all(streams)
            assert wiretape.pid("forward") == forward
        assert not upstream.faults
    assert grown / STREAMS <= KIB_PER_STREAM


Streams = dict[asyncio.Task[None], Met]


def _begun(wiretape: Running, upstream: MixedUpstream, name: str, count: int) -> Streams:
    """Streams that are held behind their first event, each with a connection of its own."""
    port = int(wiretape.url.rpartition(":")[2])
    streams: Streams = {}
    for number in range(count):
        plan = Plan(f"{name}-{number}", Way.STREAM, pieces=3, last=True, held=True)
        met = upstream.met[plan.token] = Met(plan)
        streams[asyncio.create_task(Client(port).carry_out(met))] = met
    return streams


async def _flowing(streams: Streams) -> None:
    """Until something has come of each; none of them may be over."""
    for task, met in streams.items():
        flows = asyncio.create_task(met.flowing.wait())
        await asyncio.wait((task, flows), return_when=asyncio.FIRST_COMPLETED)
        flows.cancel()
    over = [met for task, met in streams.items() if task.done()]
    for task in streams if over else ():
        task.cancel()
    first = f"{over[0].status} {bytes(over[0].body)!r}" if over else ""
    assert not over, f"{len(over)} of {len(streams)} streams did not stay open, the first: {first}"


async def _all(streams: Streams) -> None:
    await asyncio.gather(*streams)
    assert [found for met in streams.values() if (found := fault(met)) is not None] == []

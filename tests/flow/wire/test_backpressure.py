"""Who does not read holds the other side back, and what waits for it fills no memory of ours."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Stage, chunk, request, response, staged
from tests.support.rawhttp import DEADLINE, Ended, Peer, TooLate

MIB = 1 << 20
BLOCK = bytes(range(256)) * (MIB // 256)
BLOCKS = 300
PATIENCE = 1.0
"""Seconds without progress after which a sender counts as held back."""
GROWTH = 32 * MIB
CLIENTS = 8


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker that has carried nothing yet, so that nothing it let go of hides what it takes."""
    with staged(tmp_path_factory.mktemp("fresh"), upstreams=12) as stage:
        yield stage


class Poured:
    """A script or a client that sends block after block; `done` tells that it was held back, or that all went out."""

    def __init__(self, head: bytes, packed: bytes) -> None:
        self.blocks = 0
        self.done = threading.Event()
        self._head = head
        self._packed = packed

    def answer(self, peer: Peer) -> None:
        """As an upstream: until the connection goes."""
        peer.read_message()
        self.pour(peer)
        peer.wait_hung_up()

    def pour(self, peer: Peer) -> None:
        patient, peer._deadline = peer._deadline, PATIENCE
        try:
            peer.send(self._head)
            while self.blocks < BLOCKS:
                peer.send(self._packed)
                self.blocks += 1
        except (TooLate, Ended):
            pass
        peer._deadline = patient
        self.done.set()


def _memory(stage: Stage) -> int:
    """Resident bytes of the worker."""
    status = Path(f"/proc/{stage.wiretape.pid('forward')}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _warm_up(stage: Stage) -> int:
    """What the worker needs once it has carried something."""
    small = response(BLOCK)

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(small)

    with stage.origin(script) as origin:
        assert stage.exchange(request(origin.at(), BLOCK)).body == BLOCK
    return _memory(stage)


def test_many_held_back_at_once_need_little_each(fresh: Stage) -> None:
    before = _warm_up(fresh)
    poured = [Poured(STREAM, chunk(BLOCK)) for _ in range(CLIENTS)]
    with fresh.origin(*[each.answer for each in poured]) as origin, ExitStack() as stack:
        for client in [stack.enter_context(fresh.client(receive_buffer=4096)) for _ in poured]:
            client.send(request(origin.at(), b"{}"))
        for each in poured:
            assert each.done.wait(DEADLINE)
            assert each.blocks < BLOCKS / 4
        assert _memory(fresh) - before < GROWTH


_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BLOCKS * MIB)


@pytest.mark.parametrize(("head", "packed"), [(_LENGTH, BLOCK), (STREAM, chunk(BLOCK))], ids=["length", "chunks"])
def test_a_client_that_does_not_read_holds_the_upstream_back(fresh: Stage, head: bytes, packed: bytes) -> None:
    before = _warm_up(fresh)
    poured = Poured(head, packed)
    with fresh.origin(poured.answer) as origin, fresh.client(receive_buffer=4096) as client:
        client.send(request(origin.at(), b"{}"))
        assert poured.done.wait(DEADLINE)
        assert poured.blocks < BLOCKS / 4
        assert _memory(fresh) - before < GROWTH


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_an_upstream_that_does_not_read_holds_the_client_back(fresh: Stage, framing: str) -> None:
    before = _warm_up(fresh)
    end = threading.Event()

    def script(peer: Peer) -> None:
        assert end.wait(DEADLINE)

    with fresh.origin(script, receive_buffer=4096) as origin, fresh.client() as client:
        size = b"Content-Length: %d" % (BLOCKS * MIB) if framing == "length" else b"Transfer-Encoding: chunked"
        poured = Poured(request(origin.at(), None, size), BLOCK if framing == "length" else chunk(BLOCK))
        poured.pour(client)
        assert poured.blocks < BLOCKS / 4
        assert _memory(fresh) - before < GROWTH
        end.set()


def test_a_client_that_reads_on_gets_the_rest(stage: Stage) -> None:
    held_back = threading.Event()
    blocks = 40

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM)
        # More than all buffers on the way hold: the other side is held back when this ends.
        sent = peer.fill(chunk(BLOCK[:4096]), patience=PATIENCE)
        assert sent < blocks * MIB
        held_back.set()
        rest = sent % len(chunk(BLOCK[:4096]))
        peer.send(chunk(BLOCK[:4096])[rest:] if rest else b"", LAST_CHUNK)

    with stage.origin(script) as origin, stage.client(receive_buffer=4096) as client:
        client.send(request(origin.at(), b"{}"))
        assert held_back.wait(DEADLINE)
        body = client.read_message().body
        recorded = stage.only(origin)
    assert len(body) > MIB
    assert len(body) % 4096 == 0
    assert body == BLOCK[:4096] * (len(body) // 4096)
    assert recorded.facts["response_bytes"] == len(body)
    assert recorded.facts["response_hash"] == hashlib.sha256(body).hexdigest()
    assert recorded.facts["response_out_hash"] is None


def test_an_upstream_that_reads_on_gets_the_rest(stage: Stage) -> None:
    go_on = threading.Event()
    received: list[bytes] = []
    total = 24 * MIB

    def script(peer: Peer) -> None:
        assert go_on.wait(DEADLINE)
        received.append(peer.read_message().body)
        peer.send(response())

    with stage.origin(script, receive_buffer=4096) as origin, stage.client() as client:
        client.send(request(origin.at(), None, b"Content-Length: %d" % total))
        sent = client.fill(BLOCK, patience=PATIENCE)
        assert sent < total
        go_on.set()
        whole = BLOCK * (total // MIB)
        client.send(whole[sent:])
        assert client.read_message().status == 200
        recorded = stage.only(origin)
    assert received == [whole]
    assert recorded.facts["request_hash"] == hashlib.sha256(whole).hexdigest()
    assert recorded.facts["request_out_hash"] is None


def test_others_are_not_held_back(stage: Stage) -> None:
    poured = Poured(STREAM, chunk(BLOCK))

    def other(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(BLOCK))

    with stage.origin(poured.answer, other) as origin, stage.client(receive_buffer=4096) as client:
        client.send(request(origin.at(), b"{}"))
        assert poured.done.wait(DEADLINE)
        assert stage.exchange(request(origin.at(), b"{}")).body == BLOCK
        client.close()
        origin.wait_idle()

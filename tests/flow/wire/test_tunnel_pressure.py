"""Over a switched connection both sides speak at once and unbuffered, and who does not read holds the other back."""

from __future__ import annotations

import random
import threading

import pytest

from tests.flow.wire.differential import Run
from tests.flow.wire.stage import Stage
from tests.flow.wire.tunnels import TARGET, assert_same_bytes, tunnelled
from tests.support.rawhttp import DEADLINE, Peer
from tests.support.websocket import Op, accepted, opened

ROUNDS = 200
TOTAL = 100 << 20
BLOCK = bytes(range(256)) * 256
PATIENCE = 1.0
"""Seconds without progress after which a sender counts as held back."""
LARGE = random.Random(9).randbytes(6_000_000)


def test_each_frame_arrives_before_the_next_is_sent(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        websocket, _ = opened(peer, run.at(TARGET))
        for number in range(ROUNDS):
            websocket.send(Op.TEXT, b"delta %d" % number)
            run.wait("heard", number + 1)
        for number in range(ROUNDS):
            assert websocket.read(Op.TEXT).data == b"token %d" % number
            run.tell("read")
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        websocket, _ = accepted(peer)
        for number in range(ROUNDS):
            assert websocket.read(Op.TEXT).data == b"delta %d" % number
            run.tell("heard")
        for number in range(ROUNDS):
            websocket.send(Op.TEXT, b"token %d" % number)
            run.wait("read", number + 1)

    tunnelled(stage, client, origin)


def test_both_speak_at_once(stage: Stage) -> None:
    """More than all buffers hold: it ends only if neither direction waits for the other."""

    def part(peer: Peer) -> None:
        speaking = threading.Thread(target=peer.send, args=(LARGE,))
        speaking.start()
        assert_same_bytes(peer.read_exactly(len(LARGE)), LARGE)
        speaking.join(DEADLINE)
        assert not speaking.is_alive()

    def client(peer: Peer, run: Run) -> None:
        opened(peer, run.at(TARGET))
        part(peer)
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        accepted(peer)
        part(peer)

    both = tunnelled(stage, client, origin)
    recorded = stage.only(both.origin)
    for side in (0, 1):
        assert_same_bytes(recorded.body(side), LARGE)


def _filled(peer: Peer) -> int:
    """Fill up what takes it; how much that was, the rest of the last block included."""
    sent = peer.fill(BLOCK, patience=PATIENCE)
    assert sent < TOTAL / 4
    return sent


def _finish(peer: Peer, sent: int) -> int:
    """Send what is left of the block that did not go out whole; how many blocks it is now."""
    left = -sent % len(BLOCK)
    peer.send(BLOCK[len(BLOCK) - left :])
    return (sent + left) // len(BLOCK)


@pytest.mark.parametrize("reads_not", ["client", "origin"])
def test_who_does_not_read_holds_the_other_back(stage: Stage, reads_not: str) -> None:
    """Reading on brings all of it, and nothing twice."""
    open_, held_back = threading.Event(), threading.Event()
    blocks: list[int] = []

    def speak(peer: Peer) -> None:
        assert open_.wait(DEADLINE)
        sent = _filled(peer)
        held_back.set()
        blocks.append(_finish(peer, sent))
        peer.fin()
        peer.read_to_end()

    def hear(peer: Peer) -> bytes:
        assert held_back.wait(DEADLINE)
        return peer.read_to_end()

    heard: list[bytes] = []

    def origin(peer: Peer) -> None:
        accepted(peer)
        open_.set()
        if reads_not == "client":
            speak(peer)
        else:
            heard.append(hear(peer))

    with (
        stage.origin(origin, receive_buffer=4096) as upstream,
        stage.client(receive_buffer=4096 if reads_not == "client" else None) as client,
    ):
        opened(client, upstream.at(TARGET))
        if reads_not == "client":
            heard.append(hear(client))
            client.close()
        else:
            speak(client)
        upstream.wait_idle()
        recorded = stage.only(upstream)
    assert_same_bytes(heard[0], BLOCK * blocks[0])
    assert_same_bytes(recorded.body(1 if reads_not == "client" else 0), heard[0])


def test_an_end_behind_bytes_that_wait_is_no_leaving(stage: Stage) -> None:
    """While the client is not read from the kernel is asked about it; what it sent before its end is still to come."""
    go_on = threading.Event()
    data = BLOCK[:32768]
    heard: list[bytes] = []

    def origin(peer: Peer) -> None:
        accepted(peer)
        assert go_on.wait(5 * DEADLINE)
        heard.append(peer.read_to_end())

    with stage.origin(origin, receive_buffer=4096, deadline=5 * DEADLINE) as upstream, stage.client() as client:
        opened(client, upstream.at(TARGET))
        count = stage.fill_up(client, data)
        client.fin()
        assert not client.has_arrived(1.5), "it was taken for gone"
        go_on.set()
        upstream.wait_idle()
    assert_same_bytes(heard[0], data * count)


def test_one_direction_held_back_leaves_the_other_free(stage: Stage) -> None:
    held_back = threading.Event()

    def origin(peer: Peer) -> None:
        websocket, _ = accepted(peer)
        _filled(peer)
        held_back.set()
        for number in range(ROUNDS):
            assert websocket.read(Op.TEXT).data == b"delta %d" % number

    with stage.origin(origin) as upstream, stage.client(receive_buffer=4096) as client:
        websocket, _ = opened(client, upstream.at(TARGET))
        assert held_back.wait(DEADLINE)
        for number in range(ROUNDS):
            websocket.send(Op.TEXT, b"delta %d" % number)
        upstream.wait_idle()
        client.rst()

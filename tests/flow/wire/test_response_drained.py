"""With `on_client_leave = "drain"` a response is read to its end and recorded, however and whenever its client left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Recorded, Stage, chunk, request
from tests.support.rawhttp import DEADLINE, Peer, chunked

BLOCK = bytes(range(256)) * 256
BLOCKS = 20
STEPS = 4
"""So many pieces come one after the other: the first that meets a closed connection is answered with a reset, and the
next finds that."""
_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BLOCKS * len(BLOCK))
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

leaving = pytest.mark.parametrize("how", [Peer.close, Peer.rst], ids=["FIN", "RST"])


def _drained(stage: Stage, how: Callable[[Peer], None], before: Sequence[bytes], behind: Sequence[bytes]) -> Recorded:
    """What is recorded of an exchange whose client leaves after `before`, as soon as that has arrived."""
    asked, go_on, sent = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.read_message()
        asked.set()
        peer.send(*before)
        for number, each in enumerate(behind):
            if number < STEPS:
                assert go_on.acquire(timeout=DEADLINE)
            peer.send(each)
            sent.release()

    with stage.origin(script, kind="drain") as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}"))
        assert asked.wait(DEADLINE)
        if before:
            client.read_exactly(1)
        how(client)
        for _ in range(STEPS):
            go_on.release()
            assert sent.acquire(timeout=DEADLINE)
            _wait_seen(stage)
        origin.wait_idle()
        recorded = stage.only(origin)
    assert (recorded.outcome, recorded.facts["wire_end"]) == ("client_left", "client_left")
    return recorded


def _wait_seen(stage: Stage) -> None:
    """Until the worker must have seen all that was there: it has answered others, who asked later."""
    for _ in range(3):
        assert stage.exchange(request(b"/-/live", method=b"GET")).status == 200


@leaving
@pytest.mark.parametrize("before", [0, 1, 9], ids=["before the head", "after it", "in the midst"])
@pytest.mark.parametrize("framing", ["length", "chunks", "until close"])
def test_all_of_it_is_recorded(stage: Stage, how: Callable[[Peer], None], before: int, framing: str) -> None:
    head = {"length": _LENGTH, "chunks": STREAM}.get(framing, b"HTTP/1.1 200 OK\r\n\r\n")
    block = chunk(BLOCK) if framing == "chunks" else BLOCK
    parts = [head, *[block] * BLOCKS, LAST_CHUNK if framing == "chunks" else b""]
    recorded = _drained(stage, how, parts[:before], parts[before:])
    assert recorded.facts["status"] == 200
    assert recorded.facts["response_bytes"] == len(BLOCK) * BLOCKS
    assert recorded.response == BLOCK * BLOCKS
    assert recorded.facts["response_out_hash"] not in {None, recorded.facts["response_hash"]}


@leaving
def test_also_hints_and_trailers(stage: Stage, how: Callable[[Peer], None]) -> None:
    end = chunked(BLOCK, trailers=[(b"X-Sum", b"1")])
    recorded = _drained(stage, how, [_HINTS], [STREAM, *[chunk(BLOCK)] * BLOCKS, end])
    assert [side for side, _ in recorded.heads] == [0, 1, 1, 2]
    assert recorded.headers(2) == [("X-Sum", "1")]

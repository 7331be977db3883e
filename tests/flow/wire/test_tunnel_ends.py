"""However one side of a switched connection ends, the other is told just that, and the exchange has its one outcome."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.flow.wire.differential import Run
from tests.flow.wire.stage import Origin, Recorded, Stage
from tests.flow.wire.tunnels import TARGET, assert_same_bytes, tunnelled
from tests.support.rawhttp import DEADLINE, End, Ended, Peer
from tests.support.running import wait_for
from tests.support.websocket import Op, WebSocket, accepted, handshake, opened, switching

SOON = DEADLINE
"""Seconds within which an end reaches the other side; it takes no time, but the machine may be busy."""
LAST_WORDS = [b"last", b" ", b"words"]
BLOCK = bytes(65536)


def _outcome(recorded: Recorded) -> tuple[str, str]:
    return str(recorded.facts["wire_end"]), recorded.outcome


def _said_on(peer: Peer, run: Run, heard: str) -> None:
    """Each of the last words when the one before has arrived: nothing waits for the connection's end."""
    for number, word in enumerate(LAST_WORDS, 1):
        peer.send(word)
        run.wait(heard, number)


def _heard_on(peer: Peer, run: Run, heard: str) -> None:
    for word in LAST_WORDS:
        assert peer.read_exactly(len(word)) == word
        run.tell(heard)


# Half of it


def test_a_client_that_has_said_all_hears_the_rest(stage: Stage) -> None:
    ended: list[End | None] = []

    def client(peer: Peer, run: Run) -> None:
        opened(peer, run.at(TARGET))[0].send(Op.TEXT, b"that is all")
        peer.fin()
        _heard_on(peer, run, "word")
        assert peer.read_to_end() == b""

    def origin(peer: Peer, run: Run) -> None:
        accepted(peer)[0].read(Op.TEXT)
        assert peer.read_to_end() == b""
        ended.append(peer.ended)
        _said_on(peer, run, "word")

    both = tunnelled(stage, client, origin)
    assert ended == [End.FIN] * 2
    assert both.direct.client.ended is both.proxied.client.ended is End.FIN
    assert _outcome(stage.only(both.origin)) == ("upstream_end", "completed")


def test_an_upstream_that_has_said_all_hears_the_rest(stage: Stage) -> None:
    ended: list[End | None] = []

    def client(peer: Peer, run: Run) -> None:
        opened(peer, run.at(TARGET))[0].read(Op.TEXT)
        assert peer.read_to_end() == b""
        _said_on(peer, run, "word")

    def origin(peer: Peer, run: Run) -> None:
        accepted(peer)[0].send(Op.TEXT, b"that is all")
        peer.fin()
        _heard_on(peer, run, "word")
        assert peer.read_to_end() == b""
        ended.append(peer.ended)

    both = tunnelled(stage, client, origin)
    assert ended == [End.FIN] * 2
    assert both.direct.client.ended is both.proxied.client.ended is End.FIN
    assert _outcome(stage.only(both.origin)) == ("upstream_end", "completed")


def test_all_that_was_said_before_the_switch_arrives_behind_it(stage: Stage) -> None:
    """The end of it too, though it is seen before anybody knows that there will be a tunnel."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(handshake(run.at(TARGET)), b"early").fin()
        stage.exchange(b"GET /-/live HTTP/1.1\r\nHost: h\r\n\r\n")  # the worker has seen the end when it answers this
        run.tell("said")
        assert peer.read_message().status == 101
        _heard_on(peer, run, "word")
        assert peer.read_to_end() == b""

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        run.wait("said")
        peer.send(switching())
        assert peer.read_to_end() == b"early"
        _said_on(peer, run, "word")
        peer.fin()

    both = tunnelled(stage, client, origin)
    assert both.proxied.client.ended is both.proxied.connections[0].ended is End.FIN
    assert _outcome(stage.only(both.origin)) == ("upstream_end", "completed")


def test_both_have_said_all_at_once(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        opened(peer, run.at(TARGET))
        run.wait("open")
        peer.fin().read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        accepted(peer)
        run.tell("open")
        peer.fin().read_to_end()

    both = tunnelled(stage, client, origin)
    assert both.proxied.client.ended is both.proxied.connections[0].ended is End.FIN
    assert _outcome(stage.only(both.origin)) == ("upstream_end", "completed")


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_all_that_was_said_before_an_end_arrives_before_it(stage: Stage, size: int) -> None:
    """Also what still waits for the other side to read it."""
    data = random.Random(size).randbytes(size)

    def client(peer: Peer, run: Run) -> None:
        opened(peer, run.at(TARGET))
        assert_same_bytes(peer.read_to_end(), data)
        peer.send(data)

    def origin(peer: Peer, run: Run) -> None:
        accepted(peer)
        peer.send(data).fin()
        assert_same_bytes(peer.read_to_end(), data)

    both = tunnelled(stage, client, origin)
    assert both.proxied.client.ended is both.proxied.connections[0].ended is End.FIN
    recorded = stage.only(both.origin)
    for side in (0, 1):
        assert_same_bytes(recorded.body(side), data)


# A reset


def test_a_client_that_resets_resets_the_upstream(stage: Stage) -> None:
    heard, ended = threading.Event(), threading.Event()
    ends: list[End | None] = []

    def origin(peer: Peer) -> None:
        accepted(peer)[0].read(Op.TEXT)
        heard.set()
        peer.read_to_end()
        ends.append(peer.ended)
        ended.set()

    with stage.origin(origin) as upstream, stage.client() as client:
        opened(client, upstream.at(TARGET))[0].send(Op.TEXT, b"hello")
        assert heard.wait(DEADLINE)
        client.rst()
        assert ended.wait(SOON), "the upstream is still held"
        recorded = stage.only(upstream)
    assert ends == [End.RST]
    assert _outcome(recorded) == ("client_left", "client_left")
    assert recorded.facts["status"] == 101


def test_a_client_that_vanishes_while_the_upstream_goes_on(stage: Stage) -> None:
    """It closes, and what comes then is answered with a reset."""
    open_, over = threading.Event(), threading.Event()

    def origin(peer: Peer) -> None:
        accepted(peer)
        open_.set()
        tick = threading.Event()
        with suppress(Ended):
            while True:
                peer.send(b"and on")
                tick.wait(0.001)
        over.set()

    with stage.origin(origin) as upstream, stage.client() as client:
        opened(client, upstream.at(TARGET))
        assert open_.wait(DEADLINE)
        client.close()
        assert over.wait(SOON), "the upstream is still held"
        assert _outcome(stage.only(upstream)) == ("client_left", "client_left")


def test_an_upstream_that_resets_resets_the_client(stage: Stage) -> None:
    """A FIN would look as if it had said all."""
    heard = threading.Event()

    def origin(peer: Peer) -> None:
        accepted(peer)[0].send(Op.TEXT, b"hello")
        assert heard.wait(DEADLINE)
        peer.rst()

    with stage.origin(origin) as upstream, stage.client() as client:
        opened(client, upstream.at(TARGET))[0].read(Op.TEXT)
        heard.set()
        client.read_to_end()
        assert client.ended is End.RST
        recorded = stage.only(upstream)
    assert _outcome(recorded) == ("upstream_error", "upstream_failed")
    assert recorded.facts["status"] == 101


@pytest.mark.parametrize("how", ["client", "upstream"])
def test_a_reset_behind_half_an_end_is_still_one(stage: Stage, how: str) -> None:
    """One side has said all, and the other, which was still speaking, breaks off."""
    heard, ended = threading.Event(), threading.Event()
    ends: list[End | None] = []

    def origin(peer: Peer) -> None:
        websocket, _ = accepted(peer)
        if how == "client":
            websocket.send(Op.TEXT, b"that is all")
            peer.fin().read_exactly(1)
            heard.set()
            peer.read_to_end()
            ends.append(peer.ended)
            ended.set()
        else:
            peer.read_to_end()
            peer.send(b"x")
            assert heard.wait(DEADLINE)
            peer.rst()

    with stage.origin(origin) as upstream, stage.client() as client:
        opened(client, upstream.at(TARGET))
        if how == "client":
            client.read_to_end()
            client.send(b"x")
            assert heard.wait(DEADLINE)
            client.rst()
            assert ended.wait(SOON), "the upstream is still held"
        else:
            client.fin().read_exactly(1)
            heard.set()
            client.read_to_end()
            ends.append(client.ended)
        stage.only(upstream)
    assert ends == [End.RST]


# While one side holds the other back


def test_a_client_that_reads_nothing_and_leaves(stage: Stage) -> None:
    held_back, over = threading.Event(), threading.Event()

    def origin(peer: Peer) -> None:
        accepted(peer)
        peer.fill(BLOCK)
        held_back.set()
        peer.read_to_end()
        over.set()

    with stage.origin(origin) as upstream, stage.client(receive_buffer=4096) as client:
        opened(client, upstream.at(TARGET))
        assert held_back.wait(DEADLINE)
        client.rst()
        assert over.wait(SOON), "the upstream is still held"
        assert _outcome(stage.only(upstream)) == ("client_left", "client_left")


def test_a_client_that_is_held_back_and_leaves(stage: Stage) -> None:
    held_back, over = threading.Event(), threading.Event()

    def origin(peer: Peer) -> None:
        accepted(peer)
        assert held_back.wait(DEADLINE)
        peer.wait_hung_up()
        over.set()

    with stage.origin(origin, receive_buffer=4096) as upstream, stage.client() as client:
        opened(client, upstream.at(TARGET))
        client.fill(BLOCK)
        held_back.set()
        client.rst()
        assert over.wait(SOON), "the upstream is still held"
        assert _outcome(stage.only(upstream)) == ("client_left", "client_left")


@pytest.mark.parametrize("how", [Peer.close, Peer.rst], ids=["FIN", "RST"])
@pytest.mark.parametrize("early", [b"", b"early"], ids=["nothing said", "early bytes"])
def test_a_client_that_leaves_before_the_switch(stage: Stage, how: Callable[[Peer], None], early: bytes) -> None:
    asked, over = threading.Event(), threading.Event()

    def origin(peer: Peer) -> None:
        peer.read_message()
        asked.set()
        assert peer.read_to_end() == b""
        over.set()

    with stage.origin(origin) as upstream, stage.client() as client:
        client.send(handshake(upstream.at(TARGET)) + early)
        assert asked.wait(DEADLINE)
        how(client)
        assert over.wait(SOON), "the upstream is still held"
        recorded = stage.only(upstream)
    assert _outcome(recorded) == ("client_left", "client_left")
    assert recorded.facts["status"] is None


# All of it

TUNNELS = 120
AT_ONCE = 8
ENDING: list[Callable[[Peer], object]] = [Peer.close, Peer.fin, Peer.rst]


def _speak(websocket: WebSocket, chance: random.Random, waits: bool) -> None:
    """Say something, perhaps hear something, and end in one way or another, or wait for the other side to end."""
    peer = websocket.peer
    with suppress(Ended, OSError):
        for _ in range(chance.randrange(8)):
            websocket.send(Op.BINARY, bytes(chance.randrange(40_000)))
        if chance.random() < 0.5 and peer.has_arrived():
            peer.read_some()
        if not waits:
            chance.choice(ENDING)(peer)
        peer.read_to_end()


def _one(stage: Stage, upstream: Origin, number: int) -> None:
    chance = random.Random(number)
    with stage.client() as client:
        websocket, _ = opened(client, upstream.at(TARGET), b"X-Number: %d" % number)
        _speak(websocket, chance, waits=chance.random() < 0.3)


def test_any_end(stage: Stage) -> None:
    """Many at once, in any combination: each has one outcome, and nothing stays open."""

    def origin(peer: Peer) -> None:
        websocket, asked = accepted(peer)
        _speak(websocket, random.Random(TUNNELS + int(asked.one("x-number") or b"")), waits=False)

    before = _sockets(stage)
    with stage.origin(origin) as upstream, ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda number: _one(stage, upstream, number), range(TUNNELS)))
        upstream.wait_idle()
        outcomes = Counter(each.outcome for each in stage.recorded(upstream, TUNNELS))
    assert outcomes.keys() <= {"completed", "client_left", "upstream_failed"}
    assert sum(outcomes.values()) == TUNNELS
    wait_for(lambda: stage.wiretape.metrics()["wiretape_exchanges_active"] == 0, "the end of all")
    wait_for(lambda: _sockets(stage) <= before, "nothing to stay open")


def _sockets(stage: Stage) -> int:
    """How many the worker has open."""
    found = 0
    for each in Path(f"/proc/{stage.wiretape.pid('forward')}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += each.readlink().name.startswith("socket:")
    return found

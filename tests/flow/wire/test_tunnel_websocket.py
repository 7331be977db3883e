"""What is said over a WebSocket reaches the other side byte for byte, and byte for byte it is recorded."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.flow.wire.differential import Both, Run
from tests.flow.wire.stage import Recorded, Stage
from tests.flow.wire.tunnels import TARGET, answered_and_told, asked_and_carried, assert_same_bytes, tunnelled
from tests.support.rawhttp import End, Peer
from tests.support.websocket import Op, WebSocket, accepted, deflated, inflated, opened

TEXT = 'data: {"n": 1, "text": "grüße"}'.encode()
LARGE = random.Random(3).randbytes(4 << 20)
MANY = b'{"type": "response.audio.delta", "delta": "AAAA"}' * 400


class Said(NamedTuple):
    """A frame as it is handed to WebSocket.send."""

    op: Op
    data: bytes
    last: bool = True
    packed: bool = False


CONVERSATIONS: dict[str, list[Said]] = {
    "text": [Said(Op.TEXT, TEXT), Said(Op.TEXT, b""), Said(Op.TEXT, TEXT * 3)],
    "binary": [Said(Op.BINARY, bytes(range(256))), Said(Op.BINARY, b"")],
    "each form of a length": [Said(Op.BINARY, bytes(size)) for size in (1, 125, 126, 127, 65535, 65536)],
    "fragments": [
        Said(Op.TEXT, b"one ", last=False),
        Said(Op.CONTINUED, b"", last=False),
        Said(Op.CONTINUED, b"two ", last=False),
        Said(Op.CONTINUED, b"three"),
    ],
    "a ping between fragments": [
        Said(Op.BINARY, b"\0\1", last=False),
        Said(Op.PING, b"still there?"),
        Said(Op.CONTINUED, b"\2\3"),
    ],
    "pings and pongs": [Said(Op.PING, b""), Said(Op.PING, b"x" * 125), Said(Op.PONG, b"nobody asked")],
    "4 MB": [Said(Op.BINARY, LARGE)],
    "4 MB in fragments": [
        Said(Op.CONTINUED if at else Op.BINARY, LARGE[at : at + 100_003], last=at + 100_003 >= len(LARGE))
        for at in range(0, len(LARGE), 100_003)
    ],
    "packed": [Said(Op.TEXT, deflated(MANY), packed=True), Said(Op.TEXT, deflated(b"bye"), packed=True)],
    "packed in fragments": [
        Said(Op.TEXT, deflated(MANY)[:9], last=False, packed=True),
        Said(Op.CONTINUED, deflated(MANY)[9:]),
    ],
    "text that is no UTF-8": [Said(Op.TEXT, b"\xff\xfe"), Said(Op.TEXT, "ü".encode()[:1])],
}
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"


def _echo(peer: Peer, run: Run) -> None:
    """An origin that says everything again, until the close."""
    websocket, _ = accepted(peer, DEFLATE)
    while True:
        frame = websocket.read()
        websocket.send(frame.op, frame.data, last=frame.last, packed=frame.packed)
        if frame.op is Op.CLOSE:
            return


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_frames_pass_as_they_are(stage: Stage, name: str) -> None:
    def client(peer: Peer, run: Run) -> None:
        websocket, _ = opened(peer, run.at(TARGET), DEFLATE)
        for said in CONVERSATIONS[name]:
            frame = websocket.send(*said[:2], last=said.last, packed=said.packed).read()
            assert (frame.op, frame.last, frame.packed) == (said.op, said.last, said.packed)
            assert_same_bytes(frame.data, said.data)
        websocket.close(1000, "that is all").read(Op.CLOSE)
        assert peer.read_to_end() == b""

    both = tunnelled(stage, client, _echo)
    assert both.proxied.client.ended is End.FIN
    _assert_recorded(both, stage.only(both.origin))


def _assert_recorded(both: Both, recorded: Recorded) -> None:
    """That all is there that crossed, and no more."""
    facts = recorded.facts
    assert (facts["status"], facts["wire_end"], recorded.outcome) == (101, "upstream_end", "completed")
    sides = asked_and_carried(both.proxied)[1], answered_and_told(both.proxied)[1]
    for side, (name, crossed) in enumerate(zip(("request", "response"), sides, strict=True)):
        assert_same_bytes(recorded.body(side), crossed)
        assert facts[f"{name}_bytes"] == len(crossed)
        assert facts[f"{name}_hash"] == hashlib.sha256(crossed).hexdigest()
        assert facts[f"{name}_out_hash"] is None
    assert (recorded.gaps, facts["lost_records"]) == (0, 0)


def test_what_was_packed_can_be_unpacked(stage: Stage) -> None:
    """The peer of these tests, not the proxy: else the packed conversations would show little."""
    assert inflated(deflated(MANY)) == MANY


@pytest.mark.parametrize("closes", ["client", "origin"])
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4001, "grüße und küsse"), (1011, "x" * 123)])
def test_a_close_has_its_code_and_reason(stage: Stage, closes: str, code: int, reason: str) -> None:
    def part(websocket: WebSocket, first: bool) -> None:
        if first:
            websocket.close(code, reason)
        frame = websocket.read(Op.CLOSE)
        assert frame.data == code.to_bytes(2, "big") + reason.encode()
        if not first:
            websocket.send(Op.CLOSE, frame.data)

    def client(peer: Peer, run: Run) -> None:
        part(opened(peer, run.at(TARGET))[0], closes == "client")
        assert peer.read_to_end() == b""

    def origin(peer: Peer, run: Run) -> None:
        part(accepted(peer)[0], closes == "origin")

    both = tunnelled(stage, client, origin)
    assert both.proxied.client.ended is End.FIN
    _assert_recorded(both, stage.only(both.origin))


def test_a_close_without_a_code(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        opened(peer, run.at(TARGET))[0].send(Op.CLOSE).read(Op.CLOSE)
        peer.read_to_end()

    tunnelled(stage, client, _echo)


def test_the_origin_speaks_first_and_often(stage: Stage) -> None:
    """As realtime APIs do: many messages to one, and pings that the client answers."""
    rounds = 50

    def client(peer: Peer, run: Run) -> None:
        websocket, _ = opened(peer, run.at(TARGET))
        for number in range(rounds):
            assert websocket.read(Op.TEXT).data == b"event %d" % number
            websocket.send(Op.PONG, websocket.read(Op.PING).data)
        websocket.send(Op.CLOSE, websocket.read(Op.CLOSE).data)
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        websocket, _ = accepted(peer)
        for number in range(rounds):
            websocket.send(Op.TEXT, b"event %d" % number).send(Op.PING, b"%d" % number)
            assert websocket.read(Op.PONG).data == b"%d" % number
        websocket.close().read(Op.CLOSE)

    _assert_recorded(both := tunnelled(stage, client, origin), stage.only(both.origin))


@pytest.mark.parametrize("send", [Peer.send, Peer.send_bytewise], ids=["at once", "byte by byte"])
def test_what_is_no_websocket_passes_too(stage: Stage, send: Callable[[Peer, bytes], Peer]) -> None:
    """Behind the 101 nothing is looked at, not even what looks like HTTP, or breaks the protocol that was agreed on."""
    said = b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n\x00\xffHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"
    unmasked = b"\x81\x02hi\xf3\x7f"

    def client(peer: Peer, run: Run) -> None:
        opened(peer, run.at(TARGET))
        send(peer, said + unmasked)
        assert peer.read_exactly(len(unmasked + said)) == unmasked + said
        peer.send(b"over")
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        accepted(peer)
        assert peer.read_exactly(len(said + unmasked)) == said + unmasked
        send(peer, unmasked + said)
        assert peer.read_exactly(4) == b"over"

    both = tunnelled(stage, client, origin)
    _assert_recorded(both, stage.only(both.origin))

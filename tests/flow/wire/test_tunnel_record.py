"""What is kept of a switched connection: each piece with its side and time, on disk before the other side has it."""

from __future__ import annotations

import re
import secrets
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.flow.wire.differential import Run
from tests.flow.wire.stage import Answering, Stage, request
from tests.flow.wire.tunnels import TARGET, pieces, tunnelled
from tests.support.here import run_here
from tests.support.rawhttp import DEADLINE, Peer, RawUpstream, connect
from tests.support.running import files_of, serving
from tests.support.websocket import Frame, Op, accepted, opened

ROUNDS = 20


def test_pieces_have_their_side_order_and_time(stage: Stage) -> None:
    """Each is sent when the one before has arrived, so there is one order only."""
    said: list[tuple[int, bytes]] = []

    def client(peer: Peer, run: Run) -> None:
        websocket, _ = opened(peer, run.at(TARGET))
        for number in range(ROUNDS):
            websocket.read(Op.TEXT)
            frame = websocket.frame(Op.BINARY, bytes([number]) * (number + 1))
            if run.proxied:
                said.append((0, frame))
            websocket.send_raw(frame)
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        websocket, _ = accepted(peer)
        for number in range(ROUNDS):
            frame = websocket.frame(Op.TEXT, b"event %d" % number)
            if run.proxied:
                said.append((1, frame))
            websocket.send_raw(frame)
            websocket.read(Op.BINARY)

    both = tunnelled(stage, client, origin)
    recorded = stage.only(both.origin)
    found = pieces(stage, recorded)
    assert [(piece.side, piece.data) for piece in found] == said
    times = [piece.at_us for piece in found]
    assert times == sorted(times)
    facts = recorded.facts
    assert 0 < facts["head_us"] <= times[0] <= times[-1] <= facts["end_us"]
    assert (facts["request_chunks"], facts["response_chunks"]) == (ROUNDS, ROUNDS)


def test_it_is_shown_and_replayed(stage: Stage, tmp_path: Path) -> None:
    home = {"WIRETAPE_HOME": str(stage.wiretape.home)}
    with stage.origin(_echo_once) as upstream:
        _talk(stage, upstream.at(TARGET))
        recorded = stage.only(upstream)
    shown = run_here(tmp_path, "show", recorded.id, variables=home)
    assert shown.code == 0
    text = shown.out.decode()
    for said in (r"response +101 Switching Protocols", r"tunnel +after the switch", r"outcome +completed"):
        assert re.search(said, text), said
    assert [line.split()[0] for line in text.partition("\nchunks\n")[2].splitlines()] == ["request", "response"]
    for side, option in ((1, ()), (0, ("--request",))):
        replayed = run_here(tmp_path, "replay", recorded.id, "--speed", "instant", *option, variables=home)
        assert (replayed.code, replayed.err, replayed.out) == (0, "", recorded.body(side))


@pytest.mark.parametrize("side", ["client", "origin"])
def test_what_arrives_is_on_disk_already(stage: Stage, side: str) -> None:
    mark = secrets.token_hex(16).encode()

    def origin(peer: Peer) -> None:
        accepted(peer)
        if side == "origin":
            peer.send(mark)
        else:
            assert peer.read_exactly(len(mark)) == mark
            assert _kept(stage, mark)
        peer.read_to_end()

    with stage.origin(origin) as upstream, stage.client() as client:
        opened(client, upstream.at(TARGET))
        if side == "origin":
            assert client.read_exactly(len(mark)) == mark
            assert _kept(stage, mark)
        else:
            client.send(mark)
        client.fin().read_to_end()


def _kept(stage: Stage, mark: bytes) -> bool:
    """Whether a journal holds it; the one that is being written stays until it is full."""
    return any(mark in data for data in files_of(stage.wiretape.home / "journal").values())


@pytest.mark.parametrize(
    ("kind", "header"),
    [("meta", b"A: b"), ("plain", b"x-wiretape-record: meta")],
    ids=["upstream", "request"],
)
def test_meta_keeps_all_but_what_was_said(stage: Stage, kind: str, header: bytes) -> None:
    with stage.origin(_echo_once, kind=kind) as upstream:
        _talk(stage, upstream.at(TARGET), header)
        recorded = stage.only(upstream)
    facts = recorded.facts
    assert recorded.chunks == []
    assert (recorded.outcome, facts["status"], facts["record"]) == ("completed", 101, "meta")
    assert (facts["request_bytes"], facts["response_bytes"]) == (11, 7)
    assert [side for side, _ in recorded.heads] == [0, 1]


def test_none_relays_and_keeps_nothing(stage: Stage) -> None:
    with stage.origin(_echo_once) as upstream:
        _talk(stage, upstream.at(TARGET), b"x-wiretape-record: none")
        with stage.origin(Answering()) as other:
            stage.exchange(request(other.at(), b"{}"))
            stage.only(other)  # it is stored, so what came before it would be too
        assert stage.recorded(upstream, 0) == []


def _echo_once(peer: Peer) -> None:
    websocket, asked = accepted(peer)
    assert asked.all("x-wiretape-record") == []
    websocket.send(Op.TEXT, websocket.read(Op.TEXT).data)


def _talk(stage: Stage, target: bytes, *headers: bytes) -> None:
    with stage.client() as client:
        websocket, _ = opened(client, target, *headers)
        assert websocket.send(Op.TEXT, b"hello").read(Op.TEXT).data == b"hello"
        assert client.read_to_end() == b""


# Credentials


@pytest.mark.parametrize("echoes", [False, True], ids=["chosen: realtime", "chosen: the key"])
def test_a_key_in_the_subprotocol_reaches_the_origin_and_no_disk(stage: Stage, echoes: bool) -> None:
    """Browsers can send no header; OpenAI takes the key as a subprotocol instead."""
    key = b"sk-proj-" + secrets.token_hex(24).encode()
    offered = b"realtime, openai-insecure-api-key." + key + b", openai-beta.realtime-v1"
    chosen = b"openai-insecure-api-key." + key if echoes else b"realtime"
    seen: list[bytes] = []

    def origin(peer: Peer) -> None:
        _, asked = accepted(peer, b"Sec-WebSocket-Protocol: " + chosen)
        seen.extend(asked.all("sec-websocket-protocol"))

    with stage.origin(origin) as upstream, stage.client() as client:
        _, answer = opened(client, upstream.at(TARGET), b"Sec-WebSocket-Protocol: " + offered)
        client.read_to_end()
        client.close()  # till then it could go on speaking
        recorded = stage.only(upstream)
    assert seen == [offered]
    assert answer.all("sec-websocket-protocol") == [chosen]
    for side in (0, 1):
        (value,) = [value for name, value in recorded.headers(side) if name.lower() == "sec-websocket-protocol"]
        assert ("redacted:" in value) is (side == 0 or echoes)
    assert [path for path, data in files_of(stage.wiretape.home).items() if key in data] == []
    assert key.decode() not in stage.wiretape.log + stage.wiretape.output


# When wiretape stops


def test_a_tunnel_does_not_hold_up_the_end_and_is_interrupted_by_it(tmp_path: Path) -> None:
    over = threading.Event()

    def origin(peer: Peer) -> None:
        accepted(peer)[0].send(Op.TEXT, b"hello")
        peer.read_to_end()
        over.set()

    config = "forward.shutdown_grace = '300ms'"
    with (
        RawUpstream(origin) as upstream,
        serving(tmp_path, f"--upstream=mine={upstream.url}", config=config) as wiretape,
    ):
        with connect(int(wiretape.url.rpartition(":")[2])) as client:
            opened(client, b"/mine" + TARGET)[0].read(Op.TEXT)
            assert wiretape.stop() == 0
            client.read_to_end()
        assert over.wait(DEADLINE)
        with closing(sqlite3.connect(wiretape.home / "wiretape.db")) as database:
            rows = database.execute("SELECT status, outcome, response_bytes FROM exchange_list").fetchall()
    assert rows == [(101, "interrupted", len(Frame(Op.TEXT, b"hello").encode()))]

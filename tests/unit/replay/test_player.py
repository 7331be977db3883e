"""The player: what a client is told, in which order and when; breaks, pauses, tunnels."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from proxy.replay.answer import Answer, Head
from proxy.replay.player import Player
from tests.support.websocket import Frame, Op
from tests.unit.replay.clients import Client


def answer(**fields: Any) -> Answer:
    usual: dict[str, Any] = {
        "heads": (Head(10_000, 200, "Fine", [("A", "b")]),),
        "chunks": ((20_000, b"one"), (30_000, b"two")),
        "trailers": (),
        "broken": False,
        "end_us": 30_500,
    }
    return Answer(**(usual | fields))


def played(client: Client, found: Answer, speed: float | None = None) -> list[tuple[str, Any]]:
    async def play() -> None:
        over = asyncio.Event()
        Player(client, found, speed, asyncio.get_running_loop().time(), over.set).play()
        await asyncio.wait_for(over.wait(), 30)

    asyncio.run(play())
    assert client.flushed >= len(client.told) - 1
    return client.told


def test_a_whole_answer() -> None:
    told = played(Client(), answer(trailers=[("T", "1")]))
    assert told == [
        ("start", (200, b"Fine", False, True)),
        ("write", b"one"),
        ("write", b"two"),
        ("end", [(b"T", b"1")]),
    ]


def test_interim_heads_come_first() -> None:
    heads = (Head(1, 103, "Early Hints", []), Head(2, 200, "OK", []))
    assert [what for what, _ in played(Client(), answer(heads=heads, chunks=()))] == ["interim", "start", "end"]


def test_a_client_that_was_told_to_go_on_is_not_told_so_again() -> None:
    client = Client()
    client.request.awaits_continue = True
    heads = (Head(1, 100, "Continue", []), Head(2, 200, "OK", []))
    assert [what for what, _ in played(client, answer(heads=heads, chunks=()))] == ["start", "end"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"broken": True}, ["start", "write", "write", "abort"]),
        ({"broken": True, "reset": True}, ["start", "write", "write", "reset"]),
        ({"broken": True, "heads": (), "chunks": ()}, ["abort"]),
        ({"heads": (Head(1, 100, "", []),), "chunks": (), "broken": True}, ["interim", "abort"]),
    ],
)
def test_breaks(fields: dict[str, Any], expected: list[str]) -> None:
    assert [what for what, _ in played(Client(), answer(**fields))] == expected


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_what_has_no_body(method: bytes, status: int) -> None:
    told = played(Client(method), answer(heads=(Head(1, status, "", []),), chunks=()))
    assert told[0] == ("start", (status, b"", True, False))


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_each_chunk_is_told_when_it_is_due(speed: float) -> None:
    client = Client()
    times: list[float] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        began, over = loop.time(), asyncio.Event()
        client.on_write = lambda: times.append(loop.time() - began)
        Player(client, answer(), speed, began, over.set).play()
        await asyncio.wait_for(over.wait(), 30)
        times.append(loop.time() - began)

    asyncio.run(play())
    assert all(at >= due / speed for at, due in zip(times, (0.02, 0.03, 0.0305), strict=True))


@pytest.mark.parametrize(("speed", "due"), [(None, (0.04, 0.04, 0.06)), (1.0, (0.06, 0.07, 0.0905))])
def test_what_is_to_be_waited_for_is_waited_for_at_any_speed(speed: float | None, due: tuple[float, ...]) -> None:
    client = Client()
    times: list[float] = []
    flushed: list[int] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        began, over = loop.time(), asyncio.Event()

        def note() -> None:
            times.append(loop.time() - began)
            flushed.append(client.flushed)

        client.on_write = note
        Player(client, answer(waits=(0.04, 0, 0.02)), speed, began, over.set).play()
        await asyncio.wait_for(over.wait(), 30)
        times.append(loop.time() - began)

    asyncio.run(play())
    assert all(at >= soonest for at, soonest in zip(times, due, strict=True))
    assert flushed[0] == 1, "what is there goes out before it is waited"
    assert [what for what, _ in client.told] == ["start", "write", "write", "end"]


def test_a_client_that_pauses_does_not_shorten_a_wait() -> None:
    client = Client()

    async def play() -> None:
        loop = asyncio.get_running_loop()
        began, over = loop.time(), asyncio.Event()
        player = Player(client, answer(waits=(0.05, 0, 0)), None, began, over.set)
        player.play()
        player.pause()
        player.resume()
        assert [what for what, _ in client.told] == ["start"]
        await asyncio.wait_for(over.wait(), 30)
        assert loop.time() - began >= 0.05

    asyncio.run(play())


def test_for_ever_is_until_the_client_leaves() -> None:
    client = Client()

    async def play() -> None:
        player = Player(client, answer(waits=(0, math.inf, 0)), None, 0.0)
        player.play()
        player.resume()
        player.stop()
        await asyncio.sleep(0)

    asyncio.run(play())
    assert [what for what, _ in client.told] == ["start", "write"]
    assert client.flushed == 2


def test_a_slow_client_is_waited_for() -> None:
    client = Client()

    async def play() -> None:
        player = Player(client, answer(), None, 0.0)
        client.on_write = player.pause
        player.play()
        assert [what for what, _ in client.told] == ["start", "write"]
        client.on_write = lambda: None
        player.resume()
        assert [what for what, _ in client.told] == ["start", "write", "write", "end"]

    asyncio.run(play())


def test_nothing_is_told_to_a_client_that_left() -> None:
    client = Client()

    async def play() -> None:
        player = Player(client, answer(), 1.0, asyncio.get_running_loop().time())
        player.play()
        player.stop()
        player.resume()

    asyncio.run(play())
    assert client.told == []


def message(data: bytes, *, masked: bool = False) -> bytes:
    return Frame(Op.TEXT, data, masked=masked).encode(b"mask" if masked else b"")


def test_messages_follow_those_that_they_answered() -> None:
    switched = Head(1, 101, "Switching Protocols", [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "old")])
    sent = ((10, message(b"hi", masked=True)), (30, message(b"more", masked=True)))
    found = answer(heads=(switched,), sent=sent, chunks=((5, b"greets"), (20, b"1"), (40, b"2")))
    client = Client(b"GET", [(b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")])

    async def play() -> None:
        player = Player(client, found, None, 0.0)
        player.play()
        assert client.told == [
            ("tunnel", [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]),
            ("write", b"greets"),
        ]
        assert client.flushed == 2
        other = message(b"anything else", masked=True)
        player.said(other[:3])
        assert len(client.told) == 2
        player.said(other[3:])
        assert client.told[2:] == [("write", b"1")]
        player.said(message(b"", masked=True))
        assert [what for what, _ in client.told[3:]] == ["write", "end"]

    asyncio.run(play())

"""A tunnel on the upstream's side: bytes pass as they are, and each direction ends for itself."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.support.rawhttp import DEADLINE, End, Peer, RawUpstream, Script
from tests.unit.wire.listening import Ear, Run, begin, eventually, pool, request
from tests.unit.wire.parsing import SWITCHING

HEADERS = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]


def asking(chunked: bool = False) -> Any:
    return request(b"GET", *HEADERS, chunked=chunked, upgrade=True)


def switching(said: bytes = b"") -> Script:
    """Switches, and sends back in upper case what comes, line by line, until the other side ends."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING + said)
        while (line := peer.read_until(b"\n")) != b"bye\n":
            peer.send(line.upper())

    return script


def test_bytes_pass_both_ways_as_they_are(run: Run[Any]) -> None:
    async def main() -> None:
        own, ear = pool(upstream.port), Ear()
        exchange = await begin(own, ear, asking())
        await ear.has(b"first\r\n\r\n")
        assert ear.words == ["upgraded", "chunk"]
        assert ear.head is not None
        assert (ear.head.status, ear.head.reason, ear.head.headers) == (101, b"Switching", HEADERS_BACK)
        exchange.write(b"one\n")
        await ear.has(b"first\r\n\r\nONE\n")
        exchange.write(b"x" * 100_000 + b"\n")
        await ear.has(b"first\r\n\r\nONE\n" + b"X" * 100_000 + b"\n")
        exchange.write(b"bye\n")
        assert await ear.finish() == ["upgraded", "chunk", "end"]
        exchange.end([])
        own.close()

    with RawUpstream(switching(b"first\r\n\r\n")) as upstream:
        run(main())
        received = bytes(upstream.peers[0].received)
    assert received.partition(b"\r\n\r\n")[2] == b"one\n" + b"x" * 100_000 + b"\nbye\n"


HEADERS_BACK = [(b"Connection", b"upgrade"), (b"Upgrade", b"websocket")]


def test_the_upstream_ends_first(run: Run[Any]) -> None:
    """Then the other direction goes on until it ends too."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING, b"last words").fin()
        assert peer.read_to_end() == b"still here"
        assert peer.ended is End.FIN

    async def main() -> None:
        own, ear = pool(upstream.port), Ear()
        exchange = await begin(own, ear, asking())
        assert await ear.finish() == ["upgraded", "chunk", "end"]
        exchange.write(b"still ")
        exchange.write(b"here")
        exchange.end([])
        await asyncio.to_thread(upstream.wait_idle)
        assert own._idle == []
        own.close()

    with RawUpstream(script) as upstream:
        run(main())


def test_the_client_ends_first(run: Run[Any]) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING)
        assert peer.read_to_end() == b"bye"
        assert peer.ended is End.FIN
        peer.send(b"good", b"bye")

    async def main() -> None:
        own, ear = pool(upstream.port), Ear()
        exchange = await begin(own, ear, asking())
        await ear.hears("upgraded")
        exchange.write(b"bye")
        exchange.end([])
        assert await ear.finish() == ["upgraded", "chunk", "end"]
        assert ear.body == b"goodbye"
        assert own._idle == []
        own.close()

    with RawUpstream(script) as upstream:
        run(main())


def test_a_reset_is_no_end(run: Run[Any]) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING, b"abc")
        peer.read_until(b"go")
        peer.rst()

    async def main() -> Ear:
        own, ear = pool(upstream.port), Ear()
        exchange = await begin(own, ear, asking())
        await ear.hears("chunk")
        exchange.write(b"go")
        await ear.finish()
        own.close()
        return ear

    with RawUpstream(script) as upstream:
        ear = run(main())
    assert ear.words == ["upgraded", "chunk", "reset"]
    assert str(ear.error) == "the upstream reset the tunnel"


def test_giving_up_shows_as_a_reset(run: Run[Any]) -> None:
    """An end would look as if the client had said all."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING, b"abc")
        assert peer.read_to_end() == b"some, but not all"
        assert peer.ended is End.RST

    async def main() -> None:
        own, ear = pool(upstream.port), Ear()
        exchange = await begin(own, ear, asking())
        await ear.hears("chunk")
        exchange.write(b"some, but not all")
        exchange.abort()
        await asyncio.to_thread(upstream.wait_idle)
        assert ear.words == ["upgraded", "chunk"]
        await eventually(lambda: exchange._lost, "the connection is given up")  # type: ignore[attr-defined] # its state
        own.close()

    with RawUpstream(script) as upstream:
        run(main())


def test_a_pause_holds_a_tunnel_back(run: Run[Any]) -> None:
    stalled = threading.Event()
    size = 16 * 1024 * 1024

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING)
        sent = peer.fill(b"x" * 65536)
        assert sent < size
        stalled.set()
        peer.send(b"x" * (size - sent))

    async def main() -> None:
        own = pool(upstream.port)
        pausing = True
        ear = Ear(lambda word: exchange.pause() if word == "chunk" and pausing else None)
        exchange = await begin(own, ear, asking())
        assert await asyncio.to_thread(stalled.wait, DEADLINE)
        assert ear.log == ["upgraded", "chunk"]
        pausing = False
        exchange.resume()
        assert await ear.finish() == ["upgraded", "chunk", "end"]
        assert len(ear.body) == size
        exchange.end([])
        own.close()

    with RawUpstream(script) as upstream:
        run(main())


def test_a_switch_amid_the_upload_is_malformed(run: Run[Any]) -> None:
    """The rest of the request would be taken for the new protocol (RFC 9110, 7.8)."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING + b"abc")
        peer.wait_hung_up()

    async def main() -> Ear:
        own, ear = pool(upstream.port), Ear()
        await begin(own, ear, asking(chunked=True), b"", complete=False)
        await ear.finish()
        await asyncio.to_thread(upstream.wait_idle)
        own.close()
        return ear

    with RawUpstream(script) as upstream:
        assert run(main()).words == ["malformed"]


@pytest.mark.parametrize("status", [b"200 OK", b"426 Upgrade Required"])
def test_an_upgrade_that_is_refused_is_an_exchange_like_any_other(run: Run[Any], status: bytes) -> None:
    def script(peer: Peer) -> None:
        for _ in range(2):
            peer.read_head()
            peer.send(
                b"HTTP/1.1 " + status + b"\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno"
            )
        peer.read_to_end()

    async def main() -> None:
        own = pool(upstream.port)
        for _ in range(2):
            ear = Ear()
            await begin(own, ear, asking())
            assert await ear.finish() == [f"head {status[:3].decode()}", "chunk", "end"]
            assert ear.body == b"no"
        own.close()

    with RawUpstream(script) as upstream:
        run(main())
        assert len(upstream.peers) == 1

"""Back-pressure, both ways: whoever does not take what comes holds back who sends it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tests.support.rawhttp import DEADLINE, Ended, Peer, RawUpstream
from tests.unit.wire.listening import Ear, Run, begin, eventually, pool, request

MEGABYTE = 1 << 20


def test_a_pause_holds_the_upstream_back(run: Run[Any]) -> None:
    """Far less than it wants to send goes into the kernel's buffers, nothing comes to us, and all of it later."""
    size = 64 * MEGABYTE
    stalled, go_on = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent = peer.fill(b"x" * 65536)
        assert sent < size // 2
        stalled.set()
        assert go_on.wait(DEADLINE)
        peer.send(b"x" * (size - sent))
        peer.read_to_end()

    async def main() -> None:
        own = pool(upstream.port)
        pausing = True
        ear = Ear(lambda word: exchange.pause() if word == "chunk" and pausing else None)
        exchange = await begin(own, ear)
        await asyncio.to_thread(stalled.wait, DEADLINE)
        assert ear.log == ["head 200", "chunk"]
        pausing = False
        go_on.set()
        exchange.resume()
        exchange.resume()
        assert await ear.finish() == ["head 200", "chunk", "end"]
        assert len(ear.body) == size
        own.close()

    with RawUpstream(script) as upstream:
        run(main())


def test_a_pause_on_every_chunk_loses_nothing(run: Run[Any]) -> None:
    size = 4 * MEGABYTE
    data = bytes(range(256)) * (size // 256)

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + data)

    async def main() -> None:
        own = pool(upstream.port)
        loop = asyncio.get_running_loop()

        def blink(word: str) -> None:
            if word == "chunk":
                exchange.pause()
                exchange.pause()
                loop.call_soon(exchange.resume)

        ear = Ear(blink)
        exchange = await begin(own, ear)
        assert await ear.finish() == ["head 200", "chunk", "end"]
        assert ear.body == data
        own.close()

    with RawUpstream(script) as upstream:
        run(main())


def test_what_arrived_before_a_reset_is_heard_after_a_pause(run: Run[Any]) -> None:
    """The upstream is gone while we do not read; what it sent before is not."""
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        peer.read_until(b"go")
        peer.send(b"defghi")
        gone.set()

    async def main() -> None:
        own = pool(upstream.port)
        ear = Ear(lambda word: exchange.pause() if word == "chunk" else None)
        asked = request(b"POST", (b"Transfer-Encoding", b"chunked"), chunked=True)
        exchange = await begin(own, ear, asked, b"", complete=True)
        await ear.hears("chunk")
        assert ear.body == b"abc"
        exchange._transport.write(b"go")  # type: ignore[attr-defined] # past the framing, to tell the script
        assert await asyncio.to_thread(gone.wait, DEADLINE)
        exchange.resume()
        assert await ear.finish() == ["head 200", "chunk", "end"]
        assert ear.body == b"abcdefghi"
        own.close()

    with RawUpstream(script) as upstream:
        run(main())


def test_an_upstream_that_does_not_read_pauses_the_upload(run: Run[Any]) -> None:
    size, piece = 32 * MEGABYTE, b"x" * MEGABYTE
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        assert go_on.wait(DEADLINE)
        left = size
        while left:
            left -= len(peer.read_exactly(min(left, 65536)))
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        try:
            peer.read_message()
        except Ended:
            return

    async def main() -> None:
        own, ear = pool(upstream.port), Ear()
        asked = request(b"POST", (b"Content-Length", b"%d" % size))
        exchange = await begin(own, ear, asked, b"", complete=False)
        written = 0
        while not ear.log:
            exchange.write(piece)
            written += len(piece)
            await asyncio.sleep(0)
        assert ear.log == ["pause"]
        assert written < size
        go_on.set()
        await ear.hears("resume")
        while written < size:
            if ear.log.count("pause") == ear.log.count("resume"):
                exchange.write(piece)
                written += len(piece)
            await asyncio.sleep(0)
        exchange.end([])
        assert await ear.finish() == ["head 200", "end"]
        assert ear.log.count("pause") == ear.log.count("resume")
        await eventually(lambda: len(own._idle) == 1, "the connection waits for the next request")
        own.close()

    with RawUpstream(script, receive_buffer=65536) as upstream:
        run(main())
        assert len(upstream.peers) == 1

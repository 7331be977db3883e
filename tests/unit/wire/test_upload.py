"""A request's body on its way up: as it comes, with its trailers, and while the upstream answers or dies already."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from proxy.wire.interface import Upload
from tests.support.rawhttp import DEADLINE, Peer, RawUpstream
from tests.unit.wire.listening import Ear, Run, begin, eventually, pool, request
from tests.unit.wire.scripts import LENGTH_2, OK, answering, twice


@pytest.mark.parametrize("first", [b"", b"abc"])
def test_an_upload_in_chunks(run: Run[Any], first: bytes) -> None:
    async def main() -> None:
        ear, own = Ear(), pool(upstream.port)
        asked = request(b"POST", (b"Transfer-Encoding", b"chunked"), chunked=True)
        exchange = await begin(own, ear, asked, first, complete=False)
        exchange.write(b"0123456789abcdef")
        exchange.write(b"x")
        exchange.end([])
        await ear.finish()
        own.close()

    with RawUpstream(answering(LENGTH_2)) as upstream:
        run(main())
        body = bytes(upstream.peers[0].received).partition(b"\r\n\r\n")[2]
        assert body == (b"3\r\nabc\r\n" if first else b"") + b"10\r\n0123456789abcdef\r\n1\r\nx\r\n0\r\n\r\n"


def test_a_whole_body_in_chunks(run: Run[Any]) -> None:
    async def main() -> None:
        ear, own = Ear(), pool(upstream.port)
        asked = request(b"POST", (b"Transfer-Encoding", b"chunked"), chunked=True)
        await begin(own, ear, asked, b"abc")
        assert await ear.finish() == ["head 200", "chunk", "end"]
        own.close()

    with RawUpstream(answering(LENGTH_2)) as upstream:
        run(main())
        assert upstream.peers[0].received.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


def test_trailers_of_an_upload(run: Run[Any]) -> None:
    async def main() -> None:
        own = pool(upstream.port)
        asked = request(b"POST", (b"Transfer-Encoding", b"chunked"), chunked=True)
        for late in (False, True):
            ear = Ear()
            upload = Upload(b"abc", not late, None if late else [(b"T", b"v"), (b"t", b"")])
            exchange = own.start(asked, ear, upload) or await own.connect(asked, ear, upload)
            if late:
                exchange.end([(b"L", b"\xe9")])
            await ear.finish()
        own.close()

    with RawUpstream(twice(LENGTH_2)) as upstream:
        run(main())
        first, second = bytes(upstream.peers[0].received).split(b"POST")[1:]
    assert first.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\nt: \r\n\r\n")
    assert second.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nL: \xe9\r\n\r\n")


def test_an_upload_may_grow_until_there_is_a_connection(run: Run[Any]) -> None:
    async def main() -> None:
        ear, own, upload = Ear(), pool(upstream.port), Upload(b"ab", complete=False)
        connecting = asyncio.create_task(own.connect(request(b"POST", (b"Content-Length", b"3")), ear, upload))
        await asyncio.sleep(0)
        upload.body += b"c"
        upload.complete = True
        await connecting
        assert await ear.finish() == ["head 200", "chunk", "end"]
        own.close()

    with RawUpstream(answering(LENGTH_2)) as upstream:
        run(main())
        assert upstream.peers[0].received.endswith(b"\r\n\r\nabc")


def test_an_upload_with_a_length(run: Run[Any]) -> None:
    async def main() -> None:
        ear, own = Ear(), pool(upstream.port)
        exchange = await begin(own, ear, request(b"POST", (b"Content-Length", b"6")), b"ab", complete=False)
        exchange.write(b"cd")
        exchange.write(b"ef")
        exchange.end([])
        await ear.finish()
        own.close()

    with RawUpstream(answering(LENGTH_2)) as upstream:
        run(main())
        assert upstream.peers[0].received.endswith(b"\r\n\r\nabcdef")


# While the upload goes on


@pytest.mark.parametrize("chunked_upload", [False, True])
def test_an_early_answer_is_heard_although_the_upstream_closes(run: Run[Any], chunked_upload: bool) -> None:
    """It closes with most of the upload unread, so a reset follows the answer and writing fails."""
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    rounds = 25

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(answer)

    async def once() -> list[str]:
        ear, own = Ear(), pool(upstream.port)
        asked = request(b"POST", (b"Content-Length", b"99999999"), chunked=chunked_upload)
        exchange = await begin(own, ear, asked, b"x" * 300_000, complete=False)
        for _ in range(40):
            exchange.write(b"x" * 100_000)
            await asyncio.sleep(0)
        words = await ear.finish()
        own.close()
        return words

    async def main() -> None:
        for _ in range(rounds):
            assert await once() == ["head 413", "chunk", "end"]

    with RawUpstream(script) as upstream:
        run(main())


@pytest.mark.parametrize("complete", [False, True], ids=["still uploading", "all written, not all sent"])
def test_an_early_answer_ends_the_connection_although_the_upstream_reads_no_more(run: Run[Any], complete: bool) -> None:
    """Closing politely would wait for the upstream to take the rest, and so would a request behind this one."""
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(LENGTH_2)
        assert go_on.wait(DEADLINE)

    async def main() -> None:
        ear, own = Ear(), pool(upstream.port)
        asked = request(b"POST", (b"Content-Length", b"8000000"))
        exchange = await begin(own, ear, asked, b"x" * (8_000_000 - (not complete)), complete)
        assert await ear.finish() == ["head 200", "chunk", "end"]
        assert own.start(request(), Ear(), Upload()) is None
        exchange.write(b"x")
        exchange.end([])
        await eventually(lambda: exchange._lost, "the connection is given up")  # type: ignore[attr-defined] # its state
        go_on.set()
        own.close()

    with RawUpstream(script, receive_buffer=4096) as upstream:
        run(main())


def test_full_duplex(run: Run[Any]) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            size = int(peer.read_until(b"\r\n"), 16)
            data = peer.read_exactly(size + 2)[:-2]
            peer.send(b"%x\r\n%b\r\n" % (size, data.upper()))
        peer.read_until(b"0\r\n\r\n")
        peer.send(b"0\r\n\r\n")

    async def main() -> Ear:
        ear, own = Ear(), pool(upstream.port)
        exchange = await begin(own, ear, request(chunked=True), complete=False)
        await ear.hears("head 200")
        for number in range(50):
            exchange.write(b"piece %d" % number)
            await ear.has(b"".join(b"PIECE %d" % each for each in range(number + 1)))
        exchange.end([])
        assert await ear.finish() == ["head 200", "chunk", "end"]
        own.close()
        return ear

    with RawUpstream(script) as upstream:
        run(main())


def test_an_upstream_that_dies_during_the_upload(run: Run[Any]) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.rst()

    async def main() -> Ear:
        ear, own = Ear(), pool(upstream.port)
        exchange = await begin(own, ear, request(b"POST", (b"Content-Length", b"99999999")), b"x" * 300_000, False)
        while not ear.over.is_set():
            exchange.write(b"x" * 10_000)
            await asyncio.sleep(0)
        exchange.write(b"late")
        exchange.end([])
        exchange.pause()
        exchange.resume()
        exchange.abort()
        own.close()
        return ear

    with RawUpstream(script) as upstream:
        assert run(main()).words == ["closed"]

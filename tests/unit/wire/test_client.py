"""One exchange on a real connection, on both event loops: what goes out, what is heard, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from proxy.wire.interface import Timeouts, Upload
from tests.support.rawhttp import DEADLINE, Ended, Peer, RawUpstream, Script, chunked
from tests.unit.wire.listening import Ear, Run, begin, pool, request
from tests.unit.wire.scripts import LENGTH_2, OK, answering, closing, resetting


async def ask(upstream: RawUpstream, method: bytes = b"GET", timeouts: Timeouts | None = None) -> Ear:
    """A whole exchange without a body, on a pool of its own."""
    ear, own = Ear(), pool(upstream.port, timeouts)
    await begin(own, ear, request(method))
    await ear.finish()
    own.close()
    return ear


# What goes out


def test_a_request_goes_out_as_it_is(run: Run[Any]) -> None:
    headers = [(b"X-b", b""), (b"Content-Length", b"5"), (b"x-B", b"\xe9\xff"), (b"a", b"1"), (b"a", b"1")]

    async def main() -> None:
        ear, own = Ear(), pool(upstream.port)
        await begin(own, ear, request(b"PaTCH", *headers), b"hello")
        await ear.finish()
        own.close()

    with RawUpstream(answering(LENGTH_2)) as upstream:
        run(main())
        assert upstream.peers[0].received == (
            b"PaTCH /x? HTTP/1.1\r\nHost: h\r\nX-b: \r\nContent-Length: 5\r\nx-B: \xe9\xff\r\na: 1\r\na: 1\r\n\r\nhello"
        )


# What is heard


def test_a_response_is_heard_as_it_came(run: Run[Any]) -> None:
    data = b"HTTP/1.1 299 \xe9 odd\r\nX-b: 1\r\nSet-Cookie: a\r\nx-B:\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"
    with RawUpstream(answering(data)) as upstream:
        ear = run(ask(upstream))
    assert ear.words == ["head 299", "chunk", "end"]
    assert ear.head is not None
    assert (ear.head.reason, ear.head.bodiless) == (b"\xe9 odd", False)
    assert ear.head.headers == [
        (b"X-b", b"1"),
        (b"Set-Cookie", b"a"),
        (b"x-B", b""),
        (b"Set-Cookie", b"b"),
        (b"Content-Length", b"2"),
    ]
    assert (ear.chunks, ear.trailers) == ([b"ok"], [])


def test_each_event_is_heard_before_the_next_is_sent(run: Run[Any]) -> None:
    heard = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for data in (b"data: 1\n\n", b"x", b"data: 2\n\n"):
            assert heard.acquire(timeout=DEADLINE)
            peer.send(b"%x\r\n%b\r\n" % (len(data), data))
        assert heard.acquire(timeout=DEADLINE)
        peer.send(b"0\r\nT: v\r\n\r\n")

    async def main() -> Ear:
        ear, own = Ear(lambda _: heard.release()), pool(upstream.port)
        await begin(own, ear)
        await ear.finish()
        own.close()
        return ear

    with RawUpstream(script) as upstream:
        ear = run(main())
    assert ear.log == ["head 200", "chunk", "chunk", "chunk", "end"]
    assert ear.chunks == [b"data: 1\n\n", b"x", b"data: 2\n\n"]
    assert ear.trailers == [(b"T", b"v")]


def test_chunks_of_one_read_are_joined(run: Run[Any]) -> None:
    with RawUpstream(answering(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"a", b"bc", b"d"))) as upstream:
        ear = run(ask(upstream))
    assert ear.chunks == [b"abcd"]


ENDINGS = {
    "a length": (closing(LENGTH_2), ["head 200", "chunk", "end"]),
    "chunks": (
        closing(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"a")),
        ["head 200", "chunk", "end"],
    ),
    "until close": (closing(OK + b"\r\nabc"), ["head 200", "chunk", "end"]),
    "nothing until close": (closing(OK + b"\r\n"), ["head 200", "end"]),
    "204": (answering(b"HTTP/1.1 204 No Content\r\n\r\n"), ["head 204", "end"]),
    "304": (answering(b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n"), ["head 304", "end"]),
    "interim first": (
        answering(b"HTTP/1.1 103 E\r\nA: b\r\n\r\n" + LENGTH_2),
        ["interim 103", "head 200", "chunk", "end"],
    ),
    "two interims, one in pieces": (
        answering(b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA", b": b\r\n\r\n", LENGTH_2),
        ["interim 100", "interim 103", "head 200", "chunk", "end"],
    ),
    "closed at once": (closing(), ["closed"]),
    "reset at once": (resetting(), ["closed"]),
    "closed in the head": (closing(OK), ["closed"]),
    "closed behind an interim": (closing(b"HTTP/1.1 100 C\r\n\r\n"), ["interim 100", "closed"]),
    "a short length": (closing(OK + b"Content-Length: 5\r\n\r\nabc"), ["head 200", "chunk", "incomplete"]),
    "closed in a chunk": (
        closing(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"),
        ["head 200", "chunk", "incomplete"],
    ),
    "no last chunk": (
        closing(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ["head 200", "chunk", "incomplete"],
    ),
    "no end of the trailers": (
        closing(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n"),
        ["head 200", "incomplete"],
    ),
    "reset with a length": (resetting(OK + b"Content-Length: 5\r\n\r\nabc"), ["head 200", "chunk", "incomplete"]),
    "reset until close": (resetting(OK + b"\r\nabc"), ["head 200", "chunk", "incomplete"]),
    "malformed": (answering(b"HTTP/1.1 abc\r\n\r\n"), ["malformed"]),
    "malformed in the body": (
        answering(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"),
        ["head 200", "chunk", "malformed"],
    ),
    "malformed behind an interim": (
        answering(b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 abc\r\n\r\n"),
        ["interim 103", "malformed"],
    ),
    "a response behind what was malformed": (answering(b"HTTP/1.1 abc\r\n\r\n", LENGTH_2), ["malformed"]),
    "malformed in the trailers": (
        answering(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA : b\r\n\r\n"),
        ["head 200", "chunk", "malformed"],
    ),
    "101 unasked": (
        answering(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ["malformed"],
    ),
    "another response behind": (answering(LENGTH_2 + LENGTH_2), ["head 200", "chunk", "end"]),
}


@pytest.mark.parametrize(("script", "words"), ENDINGS.values(), ids=ENDINGS)
def test_endings(run: Run[Any], script: Script, words: list[str]) -> None:
    with RawUpstream(script) as upstream:
        ear = run(ask(upstream))
        upstream.wait_idle()  # whatever was heard, the connection is closed for the upstream too
    assert ear.words == words
    if ear.error is not None:
        assert "upstream" in str(ear.error)


def test_a_response_to_head(run: Run[Any]) -> None:
    with RawUpstream(answering(OK + b"Content-Length: 5\r\n\r\n")) as upstream:
        ear = run(ask(upstream, b"HEAD"))
    assert ear.words == ["head 200", "end"]
    assert ear.head is not None
    assert ear.head.bodiless


# Giving up


@pytest.mark.parametrize("after", ["nothing", "head 200", "chunk"])
def test_abort_silences_and_the_upstream_sees_it(run: Run[Any], after: str) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        if after != "nothing":
            peer.send(OK + b"Content-Length: 100\r\n\r\n" + (b"abc" if after == "chunk" else b""))
        peer.wait_hung_up()
        go_on.set()
        try:
            peer.send(LENGTH_2)
        except Ended:
            pass  # it may find the connection gone, or not yet

    async def main() -> list[str]:
        ear, own = Ear(), pool(upstream.port)
        exchange = await begin(own, ear, request(b"GET"))
        if after != "nothing":
            await ear.hears(after)
        before = ear.words
        exchange.abort()
        exchange.abort()
        exchange.pause()
        exchange.resume()
        exchange.write(b"late")
        exchange.end([])
        assert await asyncio.to_thread(go_on.wait, DEADLINE)
        await asyncio.to_thread(upstream.wait_idle)
        assert ear.words == before
        assert own.start(request(), Ear(), Upload()) is None
        own.close()
        return before

    with RawUpstream(script) as upstream:
        run(main())

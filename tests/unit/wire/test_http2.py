"""Upstreams over HTTP/2: exchanges pass as far as the protocol allows, and whatever breaks is told."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.wire.http2 import Http2Upstream
from proxy.wire.interface import Timeouts, Upload, UpstreamError, UpstreamExchange, UpstreamRequest
from proxy.wire.pool import PooledUpstream
from proxy.wire.tls import tls_context
from tests.support import http2
from tests.support.http2 import Stream
from tests.support.rawhttp import DEADLINE, Peer, RawUpstream
from tests.unit.wire.listening import Ear, Run, request
from tests.unit.wire.parsing import SWITCHING

Main = Callable[[Http2Upstream], Awaitable[Any]]


def asked(own: Http2Upstream, ear: Ear, of: UpstreamRequest, upload: Upload | None = None) -> UpstreamExchange:
    exchange = own.start(of, ear, upload or Upload())
    assert exchange is not None
    return exchange


def go(run: Run[Any], port: int, certificate: Path | None, main: Main, **limits: Any) -> Any:
    async def whole() -> Any:
        timeouts = Timeouts(**limits)
        other = PooledUpstream("localhost", port, tls_context(certificate), timeouts)
        own = Http2Upstream("localhost", port, tls_context(certificate), timeouts, other)
        try:
            return await main(own)
        finally:
            own.close()
            await asyncio.sleep(0)
            while own.closing:
                await asyncio.wait(own.closing)

    return run(whole())


def failure(run: Run[Any], port: int, certificate: Path | None, **limits: Any) -> UpstreamError:
    async def main(own: Http2Upstream) -> UpstreamError | None:
        ear = Ear()
        asked(own, ear, request())
        await ear.finish()
        return ear.error

    error = go(run, port, certificate, main, **limits)
    assert isinstance(error, UpstreamError)
    return error


def echo(stream: Stream) -> None:
    stream.head(("x-one", "1"), ("x-one", "2"), ("content-length", str(len(stream.body))))
    stream.data(stream.body, end=True)


def test_a_new_connection_where_that_is_asked_for(run: Run[Any], certificate: Path) -> None:
    async def main(own: Http2Upstream) -> None:
        for begin in (own.start, own.connect):
            ear = Ear()
            begun = begin(request(b"POST", (b"Content-Length", b"5")), ear, Upload(b"hello"))
            assert (begun if begin == own.start else await cast("Awaitable[Any]", begun)) is not None
            assert await ear.finish() == ["head 200", "chunk", "end"]

    with http2.Http2Upstream(echo, certificate) as upstream:
        go(run, upstream.port, certificate, main)
        assert len(upstream.peers) == 2
        assert [stream.body for stream in upstream.requests] == [b"hello"] * 2


def test_an_exchange_and_the_next_on_the_same_connection(run: Run[Any], certificate: Path) -> None:
    async def main(own: Http2Upstream) -> None:
        for body in (b"hello", b"x" * 3_000_000):
            ear = Ear()
            of = request(b"POST", (b"Content-Length", b"%d" % len(body)), (b"X-Two", b"a"), (b"Connection", b"close"))
            asked(own, ear, of, Upload(body))
            assert await ear.finish() == ["head 200", "chunk", "end"]
            assert ear.body == body
            assert ear.head is not None
            assert ear.head.headers[:2] == [(b"x-one", b"1"), (b"x-one", b"2")]

    with http2.Http2Upstream(echo, certificate) as upstream:
        go(run, upstream.port, certificate, main)
        assert len(upstream.peers) == 1
        assert upstream.requests[0].headers == [
            (b":method", b"POST"),
            (b":authority", b"h"),
            (b":scheme", b"https"),
            (b":path", b"/x?"),
            (b"content-length", b"5"),
            (b"x-two", b"a"),
        ]


def test_a_body_that_comes_by_and_by_and_an_answer_that_does(run: Run[Any], certificate: Path) -> None:
    heard = threading.Semaphore(0)

    def script(stream: Stream) -> None:
        stream.head()
        for _ in range(20):
            stream.data(b"event")
            assert heard.acquire(timeout=DEADLINE)
        stream.data(b"", end=True)

    async def main(own: Http2Upstream) -> None:
        ear = Ear(lambda word: heard.release() if word == "chunk" else None)
        exchange = asked(
            own, ear, request(b"POST", (b"Transfer-Encoding", b"chunked"), chunked=True), Upload(b"a", False)
        )
        for _ in range(10):
            exchange.write(b"x" * 1000)
            await asyncio.sleep(0)
        exchange.end([])
        await ear.finish()
        assert (ear.error, ear.chunks) == (None, [b"event"] * 20)

    with http2.Http2Upstream(script, certificate) as upstream:
        go(run, upstream.port, certificate, main)
        assert upstream.requests[0].body == b"a" + b"x" * 10_000


def test_who_gives_up_lets_the_upstream_go(run: Run[Any], certificate: Path) -> None:
    async def main(own: Http2Upstream) -> None:
        ear = Ear()
        exchange = asked(own, ear, request())
        await ear.hears("chunk")
        exchange.abort()
        await asyncio.to_thread(upstream.wait_idle)

    def script(stream: Stream) -> None:
        stream.head()
        stream.data(b"begin")

    with http2.Http2Upstream(script, certificate) as upstream:
        go(run, upstream.port, certificate, main)


def test_who_reads_slowly_holds_the_upstream_back(run: Run[Any], certificate: Path) -> None:
    total = 40 << 20

    async def main(own: Http2Upstream) -> None:
        ear = Ear()
        exchange = asked(own, ear, request())
        exchange.pause()
        await ear.hears("head 200")
        sent, before = 0, -1
        async with asyncio.timeout(DEADLINE):
            # That nothing goes on can only be seen by looking twice; too early a look would find less, never more.
            while sent != before or not sent:
                await asyncio.sleep(0.2)
                sent, before = upstream.requests[0].sent, sent
        assert (ear.body, sent < total) == (b"", True)
        exchange.resume()
        await ear.finish()
        assert len(ear.body) == total

    def script(stream: Stream) -> None:
        stream.head()
        stream.data(b"x" * total, end=True)

    with http2.Http2Upstream(script, certificate) as upstream:
        go(run, upstream.port, certificate, main)


@pytest.mark.parametrize("said", [False, True])
def test_an_upstream_that_breaks_off(run: Run[Any], certificate: Path, said: bool) -> None:
    def script(stream: Stream) -> None:
        if said:
            stream.head(("content-length", "9"))
            stream.data(b"abc")
        stream.reset()

    with http2.Http2Upstream(script, certificate) as upstream:
        error = failure(run, upstream.port, certificate)
    assert error.code == ("incomplete" if said else "closed")


def test_upgrades_go_over_http_1(run: Run[Any], certificate: Path, server_tls: ssl.SSLContext) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING + b"abc")
        peer.read_to_end()

    async def main(own: Http2Upstream) -> None:
        ear, of = Ear(), request(b"GET", (b"Upgrade", b"x"), upgrade=True)
        assert own.start(of, ear, Upload()) is None
        exchange = await own.connect(of, ear, Upload())
        await ear.has(b"abc")
        exchange.abort()
        await asyncio.to_thread(upstream.wait_idle)

    with RawUpstream(script, tls=server_tls) as upstream:
        go(run, upstream.port, certificate, main)


def test_whose_fault_it_is(run: Run[Any], certificate: Path, server_tls: ssl.SSLContext) -> None:
    def nothing(peer: Peer) -> None:
        peer.read_to_end()

    with RawUpstream(nothing, tls=server_tls) as upstream:
        error = failure(run, upstream.port, certificate)
        assert (error.code, str(error)) == ("malformed", "the upstream does not speak HTTP/2 (http2)")
        error = failure(run, upstream.port, None)
        assert error.code == "tls"
        assert str(error).startswith(f"the certificate of localhost:{upstream.port} is not valid: ")
        upstream.wait_idle()
        upstream._errors.clear()
    error = failure(run, upstream.port, certificate)
    assert (error.code, str(error)) == ("connect", f"cannot connect to localhost:{upstream.port}")
    with RawUpstream(nothing) as upstream:
        error = failure(run, upstream.port, certificate, connect=0.2)
    assert (error.code, str(error)) == ("connect_timeout", f"no connection to localhost:{upstream.port} within 0.2 s")


@pytest.mark.parametrize("limit", ["first_byte", "idle"])
def test_silence(run: Run[Any], certificate: Path, limit: str) -> None:
    def script(stream: Stream) -> None:
        if limit == "idle":
            stream.head()

    with http2.Http2Upstream(script, certificate) as upstream:
        error = failure(run, upstream.port, certificate, **{limit: 0.1})
    assert error.code == "timeout"

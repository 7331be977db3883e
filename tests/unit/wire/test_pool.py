"""Connections that wait for the next request: which is taken, which never is, and how new ones fail to come about."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import proxy.wire.pool as pool_module
from proxy.wire.interface import Timeouts, Upload, UpstreamError
from proxy.wire.pool import PooledUpstream
from tests.support.rawhttp import DEADLINE, Ended, Peer, RawUpstream, Script
from tests.unit.wire.listening import Ear, Run, begin, eventually, pool, request

OK = b"HTTP/1.1 200 OK\r\n"


def answer(body: bytes) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def naming(name: bytes) -> Script:
    """Answers every request with the connection's name."""

    def script(peer: Peer) -> None:
        try:
            while True:
                peer.read_message()
                peer.send(answer(name))
        except Ended:
            return

    return script


class Held:
    """A script that answers one request and then waits until it is told to do the rest."""

    def __init__(self, rest: bytes = b"", *, reset: bool = False) -> None:
        self._go_on = threading.Event()
        self._done = threading.Event()
        self._rest = rest
        self._reset = reset

    def __call__(self, peer: Peer) -> None:
        peer.read_message()
        peer.send(answer(b"ok"))
        assert self._go_on.wait(DEADLINE)
        if self._rest:
            peer.send(self._rest)
        elif self._reset:
            peer.rst()
        else:
            peer.close()
        self._done.set()

    def release(self) -> None:
        """Returns when it is done; called in the event loop's own thread, which hears nothing of it meanwhile."""
        self._go_on.set()
        assert self._done.wait(DEADLINE)


async def fetch(upstream: PooledUpstream) -> bytes:
    ear = Ear()
    await begin(upstream, ear)
    await ear.finish()
    return ear.body


def idle(upstream: PooledUpstream) -> int:
    return len(upstream._idle)


def test_a_connection_is_used_again(run: Run[Any]) -> None:
    async def main() -> None:
        own = pool(upstream.port)
        assert own.start(request(), Ear(), Upload()) is None
        for _ in range(20):
            assert await fetch(own) == b"a"
        own.close()

    with RawUpstream(naming(b"a"), naming(b"b")) as upstream:
        run(main())
        assert len(upstream.peers) == 1


def test_the_last_in_is_the_first_out(run: Run[Any]) -> None:
    async def main() -> None:
        own = pool(upstream.port)
        first = [Ear() for _ in range(3)]
        for number, ear in enumerate(first):
            await own.connect(request(), ear, Upload())
            await ear.finish()
            assert idle(own) == number + 1
        assert [ear.body for ear in first] == [b"a", b"b", b"c"]
        assert await fetch(own) == b"c"
        one, two = Ear(), Ear()
        assert own.start(request(), one, Upload()) is not None
        assert own.start(request(), two, Upload()) is not None
        await two.finish()
        await one.finish()
        assert (one.body, two.body) == (b"c", b"b")
        own.close()

    with RawUpstream(naming(b"a"), naming(b"b"), naming(b"c"), naming(b"d")) as upstream:
        run(main())


@pytest.mark.parametrize("reset", [False, True])
def test_a_peek_notices_what_the_event_loop_does_not_know_yet(run: Run[Any], reset: bool) -> None:
    held = Held(reset=reset)

    async def main() -> None:
        own = pool(upstream.port)
        assert await fetch(own) == b"ok"
        held.release()
        assert idle(own) == 1
        assert own.start(request(), Ear(), Upload()) is None
        assert await fetch(own) == b"b"
        own.close()

    with RawUpstream(held, naming(b"b")) as upstream:
        run(main())


@pytest.mark.parametrize("known", [False, True])
def test_bytes_that_answer_no_request_are_given_to_none(run: Run[Any], known: bool) -> None:
    held = Held(answer(b"somebody else's"))

    async def main() -> None:
        own = pool(upstream.port)
        assert await fetch(own) == b"ok"
        held.release()
        if known:  # the event loop has read them
            (_, connection), *_ = own._idle
            await eventually(lambda: connection._lost, "the connection is closed")
        assert await fetch(own) == b"b"
        own.close()

    with RawUpstream(held, naming(b"b")) as upstream:
        run(main())


@pytest.mark.parametrize(
    "last",
    [
        answer(b"x") + b"more",
        answer(b"x") + answer(b"y"),
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nmore",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nmore",
    ],
)
def test_what_is_never_used_again(run: Run[Any], last: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(last)
        peer.read_to_end()

    async def main() -> None:
        own = pool(upstream.port)
        assert await fetch(own) in {b"x", b""}
        assert own.start(request(), Ear(), Upload()) is None
        await asyncio.to_thread(upstream.wait_idle)
        own.close()

    with RawUpstream(script) as upstream:
        run(main())


NO_BODY = [
    (b"HEAD", OK + b"Content-Length: 5\r\n\r\n"),
    (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
    (b"HEAD", b"HTTP/1.1 103 E\r\n\r\nHTTP/1.0 404 No\r\nConnection: keep-alive\r\n\r\n"),
]


def test_responses_without_a_body_leave_a_connection_for_the_next(run: Run[Any]) -> None:
    def script(peer: Peer) -> None:
        for _, said in NO_BODY:
            peer.read_message()
            peer.send(said)
        naming(b"a")(peer)

    async def main() -> None:
        own = pool(upstream.port)
        for method, _ in NO_BODY:
            ear = Ear()
            await begin(own, ear, request(method))
            await ear.finish()
            assert (ear.error, ear.body, idle(own)) == (None, b"", 1)
        assert await fetch(own) == b"a"
        own.close()

    with RawUpstream(script) as upstream:
        run(main())
        assert len(upstream.peers) == 1


def test_bytes_behind_a_response_to_head_are_given_to_none(run: Run[Any]) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(OK + b"Content-Length: 5\r\n\r\nhello")
        peer.read_to_end()

    async def main() -> None:
        own, ear = pool(upstream.port), Ear()
        await begin(own, ear, request(b"HEAD"))
        assert await ear.finish() == ["head 200", "end"]
        assert await fetch(own) == b"b"
        own.close()

    with RawUpstream(script, naming(b"b")) as upstream:
        run(main())


def test_a_paused_exchange_leaves_a_connection_that_reads(run: Run[Any]) -> None:
    async def main() -> None:
        own = pool(upstream.port)
        holder: list[Any] = []
        ear = Ear(lambda word: holder[0].pause() if word == "chunk" else None)
        holder.append(await begin(own, ear))
        await ear.finish()
        assert await fetch(own) == b"a"
        own.close()

    with RawUpstream(naming(b"a"), naming(b"b")) as upstream:
        run(main())
        assert len(upstream.peers) == 1


def test_no_more_than_so_many_wait(run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_IDLE", 2)

    async def main() -> None:
        own = pool(upstream.port)
        ears = [Ear() for _ in range(4)]
        await asyncio.gather(*(own.connect(request(), ear, Upload()) for ear in ears))
        for ear in ears:
            await ear.finish()
        assert idle(own) == 2
        own.close()
        await asyncio.to_thread(upstream.wait_idle)

    with RawUpstream(naming(b"a")) as upstream:
        run(main())


def test_who_waits_too_long_is_closed(run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0.1)

    async def main() -> None:
        own = pool(upstream.port)
        await asyncio.gather(fetch(own), fetch(own))
        await asyncio.to_thread(upstream.wait_idle)
        await eventually(lambda: own._sweep is None, "the sweep ends with what it sweeps")
        assert idle(own) == 0
        assert await fetch(own) == b"c"
        own.close()
        assert own._sweep is None

    with RawUpstream(naming(b"a"), naming(b"b"), naming(b"c")) as upstream:
        run(main())


def test_closing_twice_and_without_anything(run: Run[Any]) -> None:
    async def main() -> None:
        own = pool(1)
        own.close()
        own.close()

    run(main())


# New connections that do not come about


async def failure(upstream: PooledUpstream) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        await upstream.connect(request(), Ear(), Upload())
    return raised.value


@contextmanager
def refusing_port() -> Iterator[int]:
    """Bound, so that nobody else takes it, but not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def silent_port() -> Iterator[int]:
    """A listener whose queue is full: the kernel answers no further connection."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_refused(run: Run[Any]) -> None:
    with refusing_port() as port:
        error = run(failure(pool(port)))
    assert (error.code, str(error)) == ("connect", f"cannot connect to 127.0.0.1:{port}: Connection refused")


def test_no_answer_in_time(run: Run[Any]) -> None:
    with silent_port() as port:
        error = run(failure(pool(port, Timeouts(connect=0.2))))
    assert (error.code, str(error)) == ("connect_timeout", f"no connection to 127.0.0.1:{port} within 0.2 s")


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", "\udc80", ""])
def test_what_can_be_no_host(run: Run[Any], host: str) -> None:
    error = run(failure(pool(80, host=host)))
    assert error.code == "connect"
    assert str(error).startswith(f"cannot find the address of {host}: ")


def test_an_address_that_does_not_answer_is_not_the_last(run: Run[Any]) -> None:
    """`localhost` is ::1 first where there is IPv6, and nobody listens there."""

    async def main() -> None:
        own = pool(upstream.port, host="localhost")
        assert await fetch(own) == b"a"
        own.close()

    with RawUpstream(naming(b"a")) as upstream:
        run(main())


def test_out_of_descriptors(run: Run[Any]) -> None:
    async def main() -> UpstreamError:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            return await failure(pool(9))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    error = run(main())
    assert (error.code, str(error)) == ("connect", "cannot connect to 127.0.0.1:9: Too many open files")


def test_who_gives_up_while_connecting_leaves_nothing_open(run: Run[Any]) -> None:
    async def main() -> None:
        connecting = asyncio.create_task(pool(port).connect(request(), Ear(), Upload()))
        for _ in range(50):
            await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting

    with silent_port() as port:
        run(main())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "2001:db8::1"])
def test_where_no_connection_may_leave_the_machine_none_is_made(host: str) -> None:
    async def ask() -> str:
        own = PooledUpstream(host, 80, None, Timeouts(), local=True)
        with pytest.raises(UpstreamError) as caught:
            await own.connect(request(), Ear(), Upload())
        return str(caught.value)

    assert "is not on this machine" in asyncio.run(ask())


def test_what_is_on_the_machine_may_be_asked() -> None:
    async def ask(port: int) -> None:
        own, ear = PooledUpstream("localhost", port, None, Timeouts(), local=True), Ear()
        await own.connect(request(), ear, Upload())
        await asyncio.wait_for(ear.over.wait(), DEADLINE)
        own.close()
        assert ear.error is None

    with RawUpstream(naming(b"here")) as upstream:
        asyncio.run(ask(upstream.port))

"""Exchanges through a proxy: as without it, once it lets them through; and whose fault it is where it does not."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.wire.interface import Timeouts, Upload, UpstreamError
from proxy.wire.pool import PooledUpstream
from proxy.wire.tls import tls_context
from proxy.wire.via import Via, parse_via
from tests.support.proxies import Asked, ConnectProxy, SocksProxy
from tests.support.rawhttp import DEADLINE, Ended, Peer, RawUpstream
from tests.unit.wire.listening import Ear, Run, begin, request
from tests.unit.wire.parsing import SWITCHING

OK = b"HTTP/1.1 200 OK\r\n"
WORD = "me:s%40cret"
Proxies = Callable[[str | None], ConnectProxy | SocksProxy]
PROXIES: dict[str, Proxies] = {"http": ConnectProxy, "socks5": SocksProxy, "socks5h": SocksProxy}


def serve(peer: Peer) -> None:
    try:
        while True:
            body = peer.read_message().body
            peer.send(OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    except Ended:
        return


def via(scheme: str, port: int, word: str | None = None) -> Via:
    return parse_via(f"{scheme}://{word + '@' if word else ''}127.0.0.1:{port}")


def own(port: int, through: Via, certificate: Path | None = None, **limits: Any) -> PooledUpstream:
    tls = None if certificate is None else tls_context(certificate)
    return PooledUpstream("localhost", port, tls, Timeouts(**limits), via=through)


def failure(run: Run[Any], upstream: PooledUpstream) -> UpstreamError:
    async def main() -> UpstreamError:
        with pytest.raises(UpstreamError) as raised:
            await upstream.connect(request(), Ear(), Upload())
        return raised.value

    error = run(main())
    assert isinstance(error, UpstreamError)
    assert "cret" not in str(error)
    return error


@pytest.mark.parametrize("word", [None, WORD], ids=["open", "with a password"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("scheme", PROXIES)
def test_exchanges(
    run: Run[Any], certificate: Path, server_tls: ssl.SSLContext, scheme: str, secure: bool, word: str | None
) -> None:
    async def main() -> None:
        pool = own(upstream.port, via(scheme, proxy.port, word), certificate if secure else None)
        for body in (b"hello", b"x" * 2_000_000):
            ear = Ear()
            await begin(pool, ear, request(b"POST", (b"Content-Length", b"%d" % len(body))), body)
            await ear.finish()
            assert (ear.error, ear.body) == (None, body)
        pool.close()

    credentials = None if word is None else "me:s@cret"
    with RawUpstream(serve, tls=server_tls if secure else None) as upstream, PROXIES[scheme](credentials) as proxy:
        run(main())
        assert len(upstream.peers) == 1, "the connection is kept like any other"
        assert b"cret" not in upstream.peers[0].received
        host = "127.0.0.1" if scheme == "socks5" else "localhost"
        assert proxy.asked == [Asked(host, upstream.port, credentials)]
        proxy.wait_idle()


def test_what_is_asked_with_connect(run: Run[Any]) -> None:
    with ConnectProxy() as proxy:
        failure(run, PooledUpstream("::1", 1, None, Timeouts(), via=via("http", proxy.port)))
        assert proxy.heads == [(b"CONNECT [::1]:1 HTTP/1.1", [(b"Host", b"[::1]:1")])]


def test_a_tunnel_through_it(run: Run[Any]) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING + b"abc")
        assert peer.read_until(b"\n") == b"hello\n"
        peer.send(b"def")

    async def main() -> None:
        pool, ear = own(upstream.port, via("http", proxy.port)), Ear()
        exchange = await begin(pool, ear, request(b"GET", (b"Upgrade", b"x"), upgrade=True))
        await ear.has(b"abc")
        exchange.write(b"hello\n")
        assert await ear.finish() == ["upgraded", "chunk", "end"]
        assert ear.body == b"abcdef"
        exchange.end([])
        await asyncio.to_thread(upstream.wait_idle)
        pool.close()

    with RawUpstream(script) as upstream, ConnectProxy() as proxy:
        run(main())


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("end", ["abc", "nothing"])
def test_an_upstream_that_breaks_off(run: Run[Any], scheme: str, end: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        if end == "abc":
            peer.send(OK + b"Content-Length: 5\r\n\r\nabc")

    async def main() -> list[str]:
        pool, ear = own(upstream.port, via(scheme, proxy.port)), Ear()
        await begin(pool, ear)
        heard = await ear.finish()
        pool.close()
        return heard

    with RawUpstream(script) as upstream, PROXIES[scheme](None) as proxy:
        assert run(main()) == (["head 200", "chunk", "incomplete"] if end == "abc" else ["closed"])


# Whose fault it is


@pytest.mark.parametrize("scheme", PROXIES)
@pytest.mark.parametrize(
    ("word", "says"),
    [
        (None, "asks for a user and password, and was given none"),
        ("me:s3cret", "does not take the user and password that it was given"),
    ],
)
def test_a_proxy_that_wants_other_credentials(run: Run[Any], scheme: str, word: str | None, says: str) -> None:
    with PROXIES[scheme]("you:secret") as proxy:
        error = failure(run, own(1, via(scheme, proxy.port, word)))
    assert error.code == "proxy"
    assert str(error).startswith(f"the proxy 127.0.0.1:{proxy.port} {says}")


@pytest.mark.parametrize("scheme", PROXIES)
def test_a_proxy_that_is_not_there(run: Run[Any], scheme: str) -> None:
    with RawUpstream(serve) as gone:
        pass
    error = failure(run, own(1, via(scheme, gone.port)))
    text = f"cannot connect to the proxy 127.0.0.1:{gone.port}: Connection refused"
    assert (error.code, str(error)) == ("proxy", text)
    error = failure(run, own(1, parse_via(f"{scheme}://nowhere.invalid:1")))
    assert error.code == "proxy"
    assert str(error).startswith("cannot connect to the proxy nowhere.invalid:1: ")


ANSWERS = {
    b"HTTP/1.1 403 Forbidden\r\n\r\n": ("proxy", "refused to connect to localhost:1 (403 Forbidden)"),
    b"HTTP/1.0 599 me:cret\r\n\r\n": ("proxy", "refused to connect to localhost:1 (599)"),
    b"HTTP/1.1 504 x\r\n\r\n": ("connect", "could not connect to localhost:1 (504 Gateway Timeout)"),
    b"HTTP/1.1 200 OK\r\n\r\nhello": ("proxy", "spoke where localhost:1 should have"),
    b"SSH-2.0\r\n": ("proxy", "answered is not valid HTTP/1.1"),
    b"": ("proxy", "closed the connection without an answer"),
}


@pytest.mark.parametrize("said", ANSWERS)
def test_what_a_proxy_may_answer(run: Run[Any], said: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(said)

    with RawUpstream(script) as proxy:
        error = failure(run, own(1, via("http", proxy.port)))
    code, words = ANSWERS[said]
    assert error.code == code
    assert str(error).endswith(words)
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("reply", "code", "says"),
    [
        (1, "proxy", "refused to connect to localhost:1: general socks server failure"),
        (2, "proxy", "refused to connect to localhost:1: connection not allowed by ruleset"),
        (4, "connect", "could not connect to localhost:1: it is unreachable"),
        (5, "connect", "could not connect to localhost:1: it refused the connection"),
        (99, "proxy", "refused to connect to localhost:1: invalid reply code: 0x63"),
    ],
)
def test_what_a_socks_proxy_may_answer(run: Run[Any], reply: int, code: str, says: str) -> None:
    with SocksProxy(reply=reply) as proxy:
        error = failure(run, own(1, via("socks5h", proxy.port)))
    assert (error.code, str(error)) == (code, f"the proxy 127.0.0.1:{proxy.port} {says}")


@pytest.mark.parametrize("said", [b"", b"\x05", b"\x04\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\x02"])
def test_a_proxy_that_speaks_no_socks(run: Run[Any], said: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_some()
        peer.send(said)

    with RawUpstream(script) as proxy:
        error = failure(run, own(1, via("socks5h", proxy.port)))
    assert error.code == "proxy"
    assert str(error).startswith(f"the proxy 127.0.0.1:{proxy.port} ")


def test_a_host_that_socks5_cannot_find_here(run: Run[Any]) -> None:
    with SocksProxy() as proxy:
        pool = PooledUpstream("nowhere.invalid", 1, None, Timeouts(), via=via("socks5", proxy.port))
        error = failure(run, pool)
        proxy.wait_idle()
        proxy._errors.clear()  # it was left, as it should be
    assert error.code == "connect"
    assert str(error).startswith("cannot find the address of nowhere.invalid: ")


@pytest.mark.parametrize("scheme", PROXIES)
def test_a_proxy_that_takes_too_long(run: Run[Any], scheme: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_to_end()

    with RawUpstream(script) as proxy:
        error = failure(run, own(1, via(scheme, proxy.port), connect=0.2))
        proxy.wait_idle()
    text = f"no connection to localhost:1 through the proxy 127.0.0.1:{proxy.port} within 0.2 s"
    assert (error.code, str(error)) == ("connect_timeout", text)


@pytest.mark.parametrize("scheme", PROXIES)
def test_who_gives_up_meanwhile_leaves_nothing_open(run: Run[Any], scheme: str) -> None:
    asked = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_some()
        asked.set()
        peer.read_to_end()

    async def main() -> None:
        connecting = asyncio.create_task(own(1, via(scheme, proxy.port)).connect(request(), Ear(), Upload()))
        assert await asyncio.to_thread(asked.wait, DEADLINE)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await asyncio.to_thread(proxy.wait_idle)

    with RawUpstream(script) as proxy:
        run(main())


def test_the_certificate_must_still_be_the_upstreams(
    run: Run[Any], certificate: Path, server_tls: ssl.SSLContext
) -> None:
    """Who stands on the way is nobody to be believed."""
    with RawUpstream(serve, tls=server_tls) as upstream, ConnectProxy() as proxy:
        through = via("http", proxy.port)
        pool = PooledUpstream("127.0.0.1", upstream.port, tls_context(certificate), Timeouts(), via=through)
        error = failure(run, pool)
        upstream.wait_idle()
        upstream._errors.clear()  # its handshake failed too, as it should
    assert error.code == "tls"
    assert str(error).startswith(f"the certificate of 127.0.0.1:{upstream.port} is not valid: ")

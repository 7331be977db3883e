"""TLS to the upstream: who is believed, what is said of who is not, and exchanges that pass like any other."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import UsageError
from proxy.wire.interface import Timeouts, Upload, UpstreamError
from proxy.wire.pool import PooledUpstream
from proxy.wire.tls import tls_context
from tests.support import certificates
from tests.support.rawhttp import DEADLINE, Ended, Peer, RawUpstream
from tests.unit.wire.listening import Ear, Run, begin, request
from tests.unit.wire.parsing import SWITCHING

OK = b"HTTP/1.1 200 OK\r\n"


def secure(port: int, certificate: Path | None, host: str = "localhost", connect: float = 10.0) -> PooledUpstream:
    """Trusts the certificate alone, or else whatever the system trusts."""
    context = tls_context() if certificate is None else ssl.create_default_context(cafile=certificate)
    return PooledUpstream(host, port, context, Timeouts(connect=connect))


def serve(peer: Peer) -> None:
    try:
        while True:
            body = peer.read_message().body
            peer.send(OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    except Ended:
        return


def ignore(peer: Peer) -> None:
    """For connections that never get as far."""


def forgive(upstream: RawUpstream) -> None:
    """The handshake failed on its side too, as it should."""
    upstream.wait_idle()
    upstream._errors.clear()


async def failure(upstream: PooledUpstream) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        await upstream.connect(request(), Ear(), Upload())
    return raised.value


def test_an_exchange_and_the_next_on_the_same_connection(
    run: Run[Any], certificate: Path, server_tls: ssl.SSLContext
) -> None:
    async def main() -> None:
        own = secure(upstream.port, certificate)
        for body in (b"hello", b"x" * 3_000_000, b""):
            ear = Ear()
            asked = request(b"POST", (b"Content-Length", b"%d" % len(body)))
            await begin(own, ear, asked, body)
            await ear.finish()
            assert (ear.error, ear.body) == (None, body)
        own.close()

    with RawUpstream(serve, tls=server_tls) as upstream:
        run(main())
        assert len(upstream.peers) == 1


def test_a_peek_below_tls(run: Run[Any], certificate: Path, server_tls: ssl.SSLContext) -> None:
    go_on, closed = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(OK + b"Content-Length: 0\r\n\r\n")
        assert go_on.wait(DEADLINE)
        peer.close()
        closed.set()

    async def main() -> None:
        own, ear = secure(upstream.port, certificate), Ear()
        await begin(own, ear)
        assert await ear.finish() == ["head 200", "end"]
        go_on.set()
        assert closed.wait(DEADLINE)  # in the loop's own thread, which hears nothing of it meanwhile
        assert own.start(request(), Ear(), Upload()) is None
        own.close()

    with RawUpstream(script, tls=server_tls) as upstream:
        run(main())


def test_a_certificate_that_nobody_signed(run: Run[Any], server_tls: ssl.SSLContext) -> None:
    with RawUpstream(ignore, tls=server_tls) as upstream:
        error = run(failure(secure(upstream.port, None)))
        forgive(upstream)
    assert error.code == "tls"
    where = f"localhost:{upstream.port}"
    assert str(error).startswith(f"the certificate of {where} is not valid: self")
    assert "None" not in str(error)


def test_a_certificate_of_another_host(run: Run[Any], certificate: Path, server_tls: ssl.SSLContext) -> None:
    with RawUpstream(ignore, tls=server_tls) as upstream:
        error = run(failure(secure(upstream.port, certificate, "127.0.0.1")))
        forgive(upstream)
    assert error.code == "tls"
    assert str(error).startswith(f"the certificate of 127.0.0.1:{upstream.port} is not valid: ")
    assert "127.0.0.1" in str(error).partition("not valid")[2]


def test_the_systems_trust_store_can_be_replaced(
    run: Run[Any], certificate: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def main() -> list[str]:
        own, ear = secure(upstream.port, None), Ear()
        await begin(own, ear)
        words = await ear.finish()
        own.close()
        return words

    with RawUpstream(serve, tls=server_tls) as upstream:
        assert run(main()) == ["head 200", "end"]


def test_a_file_of_certificates_is_believed_alone(
    run: Run[Any], certificate: Path, server_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    async def main() -> list[str]:
        own, ear = PooledUpstream("localhost", upstream.port, tls_context(certificate), Timeouts()), Ear()
        await begin(own, ear)
        words = await ear.finish()
        own.close()
        return words

    with RawUpstream(serve, tls=server_tls) as upstream:
        assert run(main()) == ["head 200", "end"]
    found = tls_context(certificates.authority(tmp_path)).get_ca_certs()
    assert [each["subject"] for each in found] == [((("commonName", "authority"),),)]


def test_a_file_that_holds_no_certificates(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(UsageError, match=r"ca_file .*ca\.pem cannot be read: No such file"):
        tls_context(path)
    path.write_text("-----BEGIN NOTHING-----")
    with pytest.raises(UsageError, match=r"ca_file .*ca\.pem holds no certificates in PEM form"):
        tls_context(path)


def test_an_upstream_that_speaks_no_tls(run: Run[Any], certificate: Path) -> None:
    def script(peer: Peer) -> None:
        peer.read_some()
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with RawUpstream(script) as upstream:
        error = run(failure(secure(upstream.port, certificate)))
    assert error.code == "tls"
    assert str(error).startswith(f"no TLS connection to localhost:{upstream.port}: ")
    assert "None" not in str(error)


def test_an_upstream_that_hangs_up_during_the_handshake(run: Run[Any], certificate: Path) -> None:
    def script(peer: Peer) -> None:
        peer.read_some()
        peer.rst()

    with RawUpstream(script) as upstream:
        error = run(failure(secure(upstream.port, certificate)))
    assert error.code in {"connect", "tls"}
    assert f"localhost:{upstream.port}: " in str(error)
    assert "None" not in str(error)


def test_a_handshake_that_takes_too_long(run: Run[Any], certificate: Path) -> None:
    def script(peer: Peer) -> None:
        peer.read_to_end()

    with RawUpstream(script) as upstream:
        error = run(failure(secure(upstream.port, certificate, connect=0.2)))
    assert (error.code, str(error)) == ("connect_timeout", f"no connection to localhost:{upstream.port} within 0.2 s")


def test_who_gives_up_during_the_handshake_leaves_nothing_open(run: Run[Any], certificate: Path) -> None:
    hello = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_some()
        hello.set()
        peer.read_to_end()

    async def main() -> None:
        connecting = asyncio.create_task(secure(upstream.port, certificate).connect(request(), Ear(), Upload()))
        assert await asyncio.to_thread(hello.wait, DEADLINE)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await asyncio.to_thread(upstream.wait_idle)

    with RawUpstream(script) as upstream:
        run(main())


@pytest.mark.parametrize("how", ["abort", "idle"])
def test_connections_are_closed_for_good(
    run: Run[Any], certificate: Path, server_tls: ssl.SSLContext, how: str
) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(OK + (b"Content-Length: 0\r\n\r\n" if how == "idle" else b"Content-Length: 9\r\n\r\nabc"))
        peer.read_to_end()

    async def main() -> None:
        own, ear = secure(upstream.port, certificate), Ear()
        exchange = await begin(own, ear)
        if how == "idle":
            await ear.finish()
            own.close()
        else:
            await ear.hears("chunk")
            exchange.abort()
        await asyncio.to_thread(upstream.wait_idle)

    with RawUpstream(script, tls=server_tls) as upstream:
        run(main())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", ["closed"]),
        (OK + b"Content-Length: 5\r\n\r\nabc", ["head 200", "chunk", "incomplete"]),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ["head 200", "chunk", "incomplete"]),
    ],
)
@pytest.mark.parametrize("cut", [False, True], ids=["with a close alert", "cut below TLS"])
def test_endings_before_the_end(
    run: Run[Any], certificate: Path, server_tls: ssl.SSLContext, said: bytes, words: list[str], cut: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        if said:
            peer.send(said)
        if cut:
            peer.fin()
            peer.read_to_end()
        else:
            end_tls(peer)

    async def main() -> list[str]:
        own, ear = secure(upstream.port, certificate), Ear()
        await begin(own, ear)
        heard = await ear.finish()
        own.close()
        return heard

    with RawUpstream(script, tls=server_tls) as upstream:
        assert run(main()) == words


def end_tls(peer: Peer) -> None:
    """Sends the close alert and waits for the other's."""
    sock = peer._sock
    assert isinstance(sock, ssl.SSLSocket)
    sock.settimeout(DEADLINE)
    try:
        sock.unwrap().close()
    except (OSError, ValueError):
        pass  # the other side may close without one


def test_a_tunnel_ends_with_a_close_alert(
    run: Run[Any], certificate: Path, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS knows no half: nothing that is written afterwards arrives."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING + b"abc")
        assert peer.read_until(b"\n") == b"hello\n"
        peer.send(b"def")
        end_tls(peer)

    async def main() -> list[str]:
        own, ear = secure(upstream.port, certificate), Ear()
        exchange = await begin(own, ear, request(b"GET", (b"Upgrade", b"x"), upgrade=True))
        await ear.has(b"abc")
        exchange.write(b"hello\n")
        words = await ear.finish()
        assert ear.body == b"abcdef"
        exchange.write(b"late")
        exchange.end([])
        await asyncio.to_thread(upstream.wait_idle)
        own.close()
        return words

    with RawUpstream(script, tls=server_tls) as upstream:
        assert run(main()) == ["upgraded", "chunk", "end"]
    assert caplog.messages == []


def test_until_close_ends_with_a_close_alert(run: Run[Any], certificate: Path, server_tls: ssl.SSLContext) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(OK + b"\r\nabc")
        end_tls(peer)

    async def main() -> list[str]:
        own, ear = secure(upstream.port, certificate), Ear()
        await begin(own, ear)
        heard = await ear.finish()
        own.close()
        return heard

    with RawUpstream(script, tls=server_tls) as upstream:
        assert run(main()) == ["head 200", "chunk", "end"]


# Client certificates


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that vouches for clients."""
    return certificates.authority(tmp_path_factory.mktemp("clients"))


ONLY_OLD, NEWEST = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def asked_by(
    run: Run[Any], certificate: Path, clients: Path, version: ssl.TLSVersion, shown: Path | None
) -> tuple[list[str], UpstreamError | None]:
    """What is heard from an upstream that asks for a certificate of an authority's, and how that failed."""
    theirs = certificates.serving(certificate, clients)
    theirs.maximum_version = version

    async def main() -> tuple[list[str], UpstreamError | None]:
        own, ear = PooledUpstream("localhost", upstream.port, context, Timeouts()), Ear()
        try:
            await begin(own, ear)
            return await ear.finish(), ear.error
        except UpstreamError as error:
            return [], error
        finally:
            own.close()

    context = tls_context(certificate, shown)
    with RawUpstream(serve, tls=theirs) as upstream:
        words, error = run(main())
        forgive(upstream)
    return words, error


@pytest.mark.parametrize("version", [ONLY_OLD, NEWEST])
def test_a_client_certificate(
    run: Run[Any], certificate: Path, clients: Path, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    shown = certificates.certificate(tmp_path, "us", issuer=clients)
    assert asked_by(run, certificate, clients, version, shown) == (["head 200", "end"], None)


@pytest.mark.parametrize("version", [ONLY_OLD, NEWEST])
@pytest.mark.parametrize(
    ("kind_of", "problem"),
    [
        ("none", "it asks for a client certificate .client_cert.|its alert was 'handshake failure'"),
        ("expired", "it does not take our client certificate .client_cert.: certificate expired"),
        ("of another authority", "it does not take our client certificate .client_cert.: unknown ca"),
    ],
)
def test_a_client_certificate_that_is_not_taken(
    run: Run[Any],
    certificate: Path,
    clients: Path,
    tmp_path: Path,
    version: ssl.TLSVersion,
    kind_of: str,
    problem: str,
) -> None:
    shown = None
    if kind_of == "expired":
        shown = certificates.certificate(tmp_path, "us", issuer=clients, expired=True)
    elif kind_of != "none":
        other = tmp_path / "other"
        other.mkdir()
        shown = certificates.certificate(tmp_path, "us", issuer=certificates.authority(other))
    words, error = asked_by(run, certificate, clients, version, shown)
    assert error is not None
    # TLS 1.3 says it after the handshake, and a write that has failed meanwhile takes its words away.
    assert (error.code == "tls" and re.search(problem, str(error))) or (version, words) == (NEWEST, ["closed"])

"""All of it holds where the upstream is reached over TLS, as every provider is."""

from __future__ import annotations

import hashlib
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.flow.wire.differential import error_type
from tests.flow.wire.stage import (
    LAST_CHUNK,
    STREAM,
    Answering,
    Body,
    Origin,
    Slot,
    Stage,
    chunk,
    request,
    response,
    staged,
)
from tests.support import certificates
from tests.support.rawhttp import DEADLINE, End, Ended, Peer, RawUpstream, Script
from tests.support.running import run_wiretape
from tests.support.websocket import Op, accepted, opened

EVENT = b'data: {"n": 1}\n\n'
BLOCK = b"x" * 65536
DATA = random.Random(5).randbytes(5_000_000)

Secure = Callable[..., Origin]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed one for `localhost`, with its key."""
    return certificates.certificate(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that signs certificates, with its key."""
    return certificates.authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory, certificate: Path, authority: Path) -> Iterator[Stage]:
    """A wiretape that trusts the certificate, and the authority."""
    trusted = certificate.parent / "trusted"
    trusted.write_bytes(certificate.read_bytes() + authority.read_bytes())
    variables = {"SSL_CERT_FILE": str(trusted)}
    with staged(tmp_path_factory.mktemp("trusting"), upstreams=8, variables=variables) as stage:
        yield stage


@pytest.fixture
def secure(trusting: Stage, certificate: Path) -> Secure:
    context = certificates.serving(certificate)

    def origin(*scripts: Script) -> Origin:
        return trusting.origin(*scripts, kind="tls", tls=context)

    return origin


def _alert(peer: Peer) -> None:
    """Say that this is all, as TLS has it, and wait for the other side to say so too."""
    assert isinstance(peer._sock, ssl.SSLSocket)
    try:
        peer._sock.unwrap().close()
    except (OSError, ValueError):
        pass  # who only wanted to be told closes without a word


def test_each_event_arrives_before_the_next_is_sent(trusting: Stage, secure: Secure) -> None:
    arrived = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM)
        for _ in range(100):
            peer.send(chunk(EVENT))
            assert arrived.acquire(timeout=DEADLINE)
        peer.send(LAST_CHUNK)

    with secure(script) as origin, trusting.client() as client:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        body = Body(client, headers)
        for count in range(1, 101):
            assert body.until(count * len(EVENT)) == EVENT * count
            arrived.release()
        assert body.rest() == EVENT * 100


def test_bytes_are_the_same_and_the_connection_is_used_again(trusting: Stage, secure: Secure) -> None:
    script = Answering(response(DATA))
    with secure(script) as origin:
        for _ in range(2):
            assert trusting.exchange(request(origin.at(), DATA)).body == DATA
        assert len(origin.peers) == 1
        for recorded in trusting.recorded(origin, 2):
            assert recorded.outcome == "completed"
            for side in ("request", "response"):
                assert recorded.facts[f"{side}_hash"] == hashlib.sha256(DATA).hexdigest()
                assert recorded.facts[f"{side}_out_hash"] is None
    assert [message.body for message in script.requests] == [DATA, DATA]


def test_a_client_that_does_not_read_holds_the_upstream_back(trusting: Stage, secure: Secure) -> None:
    held_back, over = threading.Event(), threading.Event()
    total = 100 << 20

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        assert peer.fill(BLOCK, patience=1.0) < total / 4
        held_back.set()
        peer.read_to_end()
        over.set()

    with secure(script) as origin, trusting.client(receive_buffer=4096) as client:
        client.send(request(origin.at(), b"{}"))
        assert held_back.wait(DEADLINE)
        client.fin()
        assert over.wait(DEADLINE)
        assert trusting.only(origin).outcome == "client_left"


@pytest.mark.parametrize("said", [(), (STREAM, chunk(EVENT))], ids=["before the head", "in the midst"])
def test_a_client_that_leaves_lets_the_upstream_go(trusting: Stage, secure: Secure, said: tuple[bytes, ...]) -> None:
    asked, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(*said)
        asked.set()
        peer.read_to_end()
        over.set()

    with secure(script) as origin, trusting.client() as client:
        client.send(request(origin.at(), b"{}"))
        assert asked.wait(DEADLINE)
        if said:
            client.read_head()
        client.close()
        assert over.wait(DEADLINE)
        assert trusting.only(origin).outcome == "client_left"


def test_a_client_that_leaves_during_its_upload(trusting: Stage, secure: Secure) -> None:
    asked = threading.Event()
    came: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.read_head()
        asked.set()
        peer.read_to_end()
        came.append(bytes(peer.received))

    with secure(script) as origin, trusting.client() as client:
        client.send(request(origin.at(), None, b"Transfer-Encoding: chunked"), chunk(EVENT))
        assert asked.wait(DEADLINE)
        client.close()
        origin.wait_idle()
        assert trusting.only(origin).outcome == "client_left"
    assert not came[0].endswith(LAST_CHUNK)


BROKEN = {
    "inside a chunk": STREAM + b"ff\r\n" + EVENT,
    "without the last chunk": STREAM + chunk(EVENT),
    "before the length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + EVENT,
}


@pytest.mark.parametrize("how", [_alert, Peer.fin, Peer.rst], ids=["alert", "FIN", "RST"])
@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_off_stays_broken(
    trusting: Stage, secure: Secure, name: str, how: Callable[[Peer], object]
) -> None:
    read = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(BROKEN[name])
        assert read.wait(DEADLINE)
        how(peer)
        if how is Peer.fin:
            peer.wait_hung_up()

    with secure(script) as origin, trusting.client() as client:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        body = Body(client, headers)
        assert body.until(len(EVENT)) == EVENT
        read.set()
        with pytest.raises(Ended):
            body.rest()
        recorded = trusting.only(origin)
    assert (recorded.outcome, recorded.response) == ("upstream_failed", EVENT)


@pytest.mark.parametrize("cut", [False, True], ids=["alert", "cut off"])
def test_a_body_until_close_is_complete_only_if_tls_says_so(trusting: Stage, secure: Secure, cut: bool) -> None:
    """A FIN alone can come from anyone on the way (RFC 9112, 9.8)."""

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + EVENT)
        if cut:
            peer.fin()
            peer.wait_hung_up()
        else:
            _alert(peer)

    with secure(script) as origin, trusting.client() as client:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        body = Body(client, headers)
        if cut:
            with pytest.raises(Ended):
                body.rest()
        else:
            assert body.rest() == EVENT
        assert trusting.only(origin).outcome == ("upstream_failed" if cut else "completed")


def test_a_request_that_was_not_answered_is_not_sent_twice(trusting: Stage, secure: Secure) -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        seen.append(peer.read_message().body)

    with secure(script) as origin:
        assert trusting.exchange(request(origin.at(), EVENT)).status == 502
    assert seen == [EVENT]


# Certificates

UNTRUSTED = {
    "for another name": "not valid for 'localhost'",
    "expired": "expired",
    "self-signed": "self-signed",
    "of an authority that is not trusted": "unable to get local issuer",
}


@pytest.mark.parametrize("name", UNTRUSTED)
def test_a_certificate_that_is_not_valid(trusting: Stage, authority: Path, tmp_path: Path, name: str) -> None:
    """The answer says so, and why; nothing of the request has gone to whoever that is."""
    issuer: Path | None = authority
    if name == "self-signed":
        issuer = None
    elif name == "of an authority that is not trusted":
        issuer = certificates.certificate(tmp_path / "other", "other.test")
    subject = "other.test" if name == "for another name" else "localhost"
    context = certificates.serving(
        certificates.certificate(tmp_path, subject, issuer=issuer, expired=name == "expired")
    )
    with trusting.origin(Answering(), kind="tls", tls=context) as origin:
        answer = trusting.exchange(request(origin.at(), b"{}"))
        recorded = trusting.only(origin)
        origin.wait_idle()
        origin._errors.clear()  # its handshake failed too, as it should
        assert [bytes(peer.received) for peer in origin.peers] == [b""]
    assert (answer.status, error_type(answer)) == (502, "wiretape_upstream_unreachable")
    assert recorded.facts["error"].startswith("tls: ")
    for said in (answer.body.decode(), recorded.facts["error"]):
        assert f"the certificate of localhost:{origin.port} is not valid" in said
        assert UNTRUSTED[name] in said


def test_a_ca_file_is_trusted_for_its_upstream_only(
    tmp_path: Path, certificate: Path, authority: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    context = certificates.serving(certificates.certificate(tmp_path, "localhost", issuer=authority))
    script = Answering(response(EVENT))
    with RawUpstream(script, tls=context) as origin:
        url = f"url = 'https://localhost:{origin.port}'"
        config = f"[upstreams.ours]\n{url}\nca_file = '{authority}'\n[upstreams.theirs]\n{url}\n"
        variables = {"SSL_CERT_FILE": str(certificate)}
        with staged(tmp_path_factory.mktemp("private"), config, upstreams=1, variables=variables) as stage:
            refused = stage.exchange(request(b"/theirs/v1/x", b"{}"))
            assert stage.exchange(request(b"/ours/v1/x", b"{}")).body == EVENT
            assert (refused.status, error_type(refused)) == (502, "wiretape_upstream_unreachable")
            assert b"certificate" in refused.body
            assert stage.only(Slot("ours", origin.port, 0)).outcome == "completed"
        origin.wait_idle()
        origin._errors.clear()  # one handshake failed, as it should
    assert len(script.requests) == 1


PORTS = {"WIRETAPE_FORWARD__PORT": "0", "WIRETAPE_CONSOLE__PORT": "0"}


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_named_at_once(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "authority.pem"
    if content is not None:
        path.write_text(content)
    (tmp_path / "wiretape.toml").write_text(f"[upstreams.ours]\nurl = 'https://localhost:1'\nca_file = '{path}'\n")
    failed = run_wiretape(tmp_path, "--home", "home", "serve", variables=PORTS)
    assert failed.returncode == 2
    (sentence,) = [line for line in failed.stderr.splitlines() if line.startswith("wiretape: ")]
    assert "upstreams.ours.ca_file" in sentence
    assert str(path) in sentence


# Switched connections


def test_a_websocket(trusting: Stage, secure: Secure) -> None:
    def script(peer: Peer) -> None:
        websocket, _ = accepted(peer)
        websocket.send(Op.BINARY, websocket.read(Op.BINARY).data)
        websocket.send(Op.CLOSE, websocket.read(Op.CLOSE).data)
        _alert(peer)

    with secure(script) as origin, trusting.client() as client:
        websocket, _ = opened(client, origin.at(b"/v1/realtime"))
        assert websocket.send(Op.BINARY, DATA).read(Op.BINARY).data == DATA
        assert websocket.close(4001, "bye").read(Op.CLOSE).data == (4001).to_bytes(2, "big") + b"bye"
        assert client.read_to_end() == b""
        assert client.ended is End.FIN
        client.close()
        recorded = trusting.only(origin)
    assert (recorded.outcome, recorded.facts["status"]) == ("completed", 101)
    assert recorded.request == websocket.sent


@pytest.mark.parametrize("how", [Peer.close, Peer.fin, Peer.rst], ids=["FIN", "half a FIN", "RST"])
def test_a_websocket_that_is_left_lets_the_upstream_go(
    trusting: Stage, secure: Secure, how: Callable[[Peer], object]
) -> None:
    """TLS knows no half an end: after a moment all of it is one."""
    over = threading.Event()

    def script(peer: Peer) -> None:
        accepted(peer)[0].send(Op.TEXT, b"hello")
        peer.read_to_end()
        over.set()

    with secure(script) as origin, trusting.client() as client:
        opened(client, origin.at(b"/v1/realtime"))[0].read(Op.TEXT)
        how(client)
        assert over.wait(DEADLINE), "the upstream is still held"
        assert trusting.only(origin).outcome in {"client_left", "completed"}

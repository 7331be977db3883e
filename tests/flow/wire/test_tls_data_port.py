"""The data port speaks TLS: what passes is the same, its certificate changes under running streams, and whatever asks
the data port itself finds it."""

from __future__ import annotations

import hashlib
import json
import random
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Body, Slot, Stage, chunk, request, response, staged
from tests.support import certificates
from tests.support.rawhttp import DEADLINE, Peer, RawUpstream, connect, until
from tests.support.running import run_wiretape
from tests.support.websocket import Op, accepted, opened

EVENT = b'data: {"n": 1}\n\n'
DATA = random.Random(5).randbytes(3_000_000)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two, with their keys."""
    return [certificates.authority(tmp_path_factory.mktemp("authority")) for _ in range(2)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authorities: list[Path]) -> Path:
    """The folder of `cert` and `key`, of the first authority."""
    return certificates.certificate(tmp_path_factory.mktemp("files"), "localhost", issuer=authorities[0]).parent


@pytest.fixture(scope="module")
def recorder() -> Iterator[RawUpstream]:
    with RawUpstream(Answering(response(EVENT))) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, files: Path, recorder: RawUpstream) -> Iterator[Stage]:
    config = f"forward.cert = '{files / 'cert'}'\nforward.key = '{files / 'key'}'\n"
    config += f"[upstreams.played]\nurl = '{recorder.url}'\nmode = 'playback_else_record'\n"
    folder = tmp_path_factory.mktemp("secured")
    with staged(folder, config, upstreams=3, variables={"WIRETAPE_PLAYBACK__PORT": "0"}) as stage:
        yield stage


@pytest.fixture
def client(stage: Stage, authorities: list[Path]) -> Iterator[Peer]:
    with connect(stage.port, tls=certificates.trusting(authorities[0])) as client:
        yield client


def test_bytes_are_the_same(stage: Stage, client: Peer) -> None:
    script = Answering(response(DATA))
    with stage.origin(script) as origin:
        for _ in range(2):
            assert client.send(request(origin.at(), DATA)).read_message().body == DATA
        for recorded in stage.recorded(origin, 2):
            assert recorded.outcome == "completed"
            assert {recorded.facts[f"{side}_hash"] for side in ("request", "response")} == {
                hashlib.sha256(DATA).hexdigest()
            }
            assert recorded.facts["request_out_hash"] is recorded.facts["response_out_hash"] is None
    assert [message.body for message in script.requests] == [DATA, DATA]


def test_a_websocket(stage: Stage, client: Peer) -> None:
    def script(peer: Peer) -> None:
        websocket, _ = accepted(peer)
        websocket.send(Op.BINARY, websocket.read(Op.BINARY).data)
        websocket.send(Op.CLOSE, websocket.read(Op.CLOSE).data)

    with stage.origin(script) as origin:
        websocket, _ = opened(client, origin.at(b"/v1/realtime"))
        assert websocket.send(Op.BINARY, DATA).read(Op.BINARY).data == DATA
        websocket.close(4001, "bye").read(Op.CLOSE)
        assert client.read_to_end() == b""
        assert stage.only(origin).outcome == "completed"


def test_a_client_that_leaves_lets_the_upstream_go(stage: Stage, client: Peer) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM, chunk(EVENT))
        peer.read_to_end()
        over.set()

    with stage.origin(script) as origin:
        client.send(request(origin.at(), b"{}")).read_until(EVENT)
        client.close()
        assert over.wait(DEADLINE)
        assert stage.only(origin).outcome == "client_left"


def test_what_asks_the_data_port_itself(stage: Stage, client: Peer) -> None:
    """A recorded request sent again, what playback has recorded, and the doctor."""
    folder = stage.wiretape.home.parent
    script = Answering(response(EVENT))
    with stage.origin(script) as origin:
        client.send(request(origin.at(), b"{}")).read_message()
        first = stage.only(origin)
        again = run_wiretape(folder, "--home", "home", "resend", first.id, "--format", "json")
        assert again.returncode == 0, again.stderr
        assert [each.facts["origin"] for each in stage.recorded(origin, 2)] == ["live", "resend"]
    played = client.send(request(b"/played/v1/x", b"{}")).read_message()
    assert (played.status, played.body) == (200, EVENT)
    doctor = run_wiretape(folder, "--home", "home", "doctor", "--format", "json")
    assert list(json.loads(doctor.stdout)["data port"].values()) == ["ready"]
    stage.recorded(Slot("played", 0, 0), 2)


def test_base_urls(stage: Stage) -> None:
    folder = stage.wiretape.home.parent
    own = f"https://127.0.0.1:{stage.port}/openai/v1"
    assert own in stage.wiretape.output
    listed = run_wiretape(folder, "--home", "home", "upstreams", "--format", "json", variables={PORT: str(stage.port)})
    assert own in {row["base_url"] for row in json.loads(listed.stdout)}
    told = run_wiretape(folder, "env", "openai", variables={PORT: str(stage.port), "WIRETAPE_FORWARD__HOST": "::1"})
    assert f"OPENAI_BASE_URL='https://[::1]:{stage.port}/openai/v1'" in told.stdout


PORT = "WIRETAPE_FORWARD__PORT"


def test_a_certificate_that_changes(stage: Stage, client: Peer, files: Path, authorities: list[Path]) -> None:
    """Who comes anew sees the new one; a stream that runs goes on; and one that is no good is told and not used."""
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM, chunk(EVENT))
        assert go_on.wait(DEADLINE)
        peer.send(chunk(EVENT), LAST_CHUNK)

    def believed(authority: Path) -> bool:
        try:
            connect(stage.port, tls=certificates.trusting(authority)).close()
        except ssl.SSLCertVerificationError:
            return False
        return True

    with stage.origin(script) as origin:
        client.send(request(origin.at(), b"{}"))
        _, headers = client.read_head()
        body = Body(client, headers)
        body.until(len(EVENT))
        renewed = certificates.certificate(files.parent / "renewed", "localhost", issuer=authorities[1]).parent
        (renewed / "cert").replace(files / "cert")
        until(lambda: "is not the key of" in stage.wiretape.log, "a pair that does not fit is told")
        assert believed(authorities[0])
        (renewed / "key").replace(files / "key")
        until(lambda: believed(authorities[1]), "the new certificate is shown")
        assert not believed(authorities[0])
        go_on.set()
        assert body.rest() == EVENT * 2
        assert stage.only(origin).outcome == "completed"
    told = [line for line in stage.wiretape.log.splitlines() if "certificate" in line]
    assert len(told) == 2
    assert "the certificate that was there before stays in use" in told[0]


def test_a_pair_that_does_not_fit_is_named_at_once(tmp_path: Path, files: Path, authorities: list[Path]) -> None:
    config = f"[forward]\ncert = '{files / 'cert'}'\nkey = '{authorities[0]}'\nport = 0\n[console]\nport = 0\n"
    (tmp_path / "wiretape.toml").write_text(config)
    failed = run_wiretape(tmp_path, "--home", "home", "serve")
    assert failed.returncode == 2
    (sentence,) = [line for line in failed.stderr.splitlines() if line.startswith("wiretape: ")]
    assert "forward.key" in sentence
    assert "is not the key of cert" in sentence

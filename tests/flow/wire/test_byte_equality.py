"""What the client got, what the upstream sent, what the database says and what is replayed are the same bytes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.__main__ import run
from tests.flow.wire.stage import LAST_CHUNK, Answering, Recorded, Stage, chunk, request, response
from tests.support.rawhttp import Message, Peer
from tests.support.running import environment

_random = random.Random(11)
BINARY = _random.randbytes(300_000)
TEXT = b"".join(b'data: {"n": %d, "text": "%b"}\n\n' % (n, b"word " * 20) for n in range(200))
EVENT = b"data: " + b"x" * (1 << 20) + b"\n\n"
PACKED = gzip.compress(TEXT)
LARGE = _random.randbytes(1 << 20) * 40

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """A request and a response on the wire (`answer`), and the bodies in them."""

    body: bytes | None
    answer: bytes
    answered: bytes
    method: bytes = b"POST"
    headers: tuple[bytes, ...] = ()
    chunks: int | None = None  # the request goes in chunks of so many bytes

    def request(self, target: bytes) -> bytes:
        if self.chunks is None:
            return request(target, self.body, *self.headers, method=self.method)
        head = request(target, None, *self.headers, b"Transfer-Encoding: chunked", method=self.method)
        return b"".join([head, *_cut(self.body or b"", self.chunks), LAST_CHUNK])


def _cut(body: bytes, size: int) -> Iterator[bytes]:
    return (chunk(body[at : at + size]) for at in range(0, len(body), size))


def _chunked(body: bytes, size: int, head: bytes = _CHUNKED) -> bytes:
    return b"".join([head, *_cut(body, size), LAST_CHUNK])


_PACKED = (b"Content-Type: application/json", b"Content-Encoding: gzip")
CASES: dict[str, Case] = {
    "chunks of one byte": Case(TEXT[:1500], _chunked(TEXT[:1500], 1), TEXT[:1500], chunks=1),
    "events of a megabyte": Case(EVENT, _chunked(EVENT * 8, len(EVENT)), EVENT * 8, chunks=len(EVENT)),
    "binary with a length": Case(BINARY, response(BINARY), BINARY),
    "binary in chunks": Case(BINARY, _chunked(BINARY, 4093), BINARY, chunks=8191),
    "gzip": Case(PACKED, response(PACKED, *_PACKED), PACKED, headers=_PACKED),
    "a lie about gzip": Case(TEXT, response(TEXT, *_PACKED), TEXT, headers=_PACKED),
    "an unknown coding": Case(BINARY, response(BINARY, b"Content-Encoding: x-own"), BINARY),
    "empty with a length": Case(b"", response(b""), b""),
    "empty in chunks": Case(b"", _CHUNKED + LAST_CHUNK, b"", chunks=1),
    "no body at all": Case(None, _HEAD + b"\r\n", b"", method=b"GET"),
    "a body to GET": Case(TEXT, response(TEXT), TEXT, method=b"GET"),
    "HEAD": Case(None, _HEAD + b"Content-Length: 5000\r\n\r\n", b"", method=b"HEAD"),
    "204": Case(TEXT, b"HTTP/1.1 204 No Content\r\n\r\n", b"", method=b"DELETE"),
    "304": Case(None, b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", b"", method=b"GET"),
    "until close": Case(TEXT, _HEAD + b"\r\n" + BINARY, BINARY),
    "HTTP/1.0": Case(TEXT, b"HTTP/1.0 200 OK\r\n\r\n" + TEXT, TEXT),
    "an upload of 40 MB": Case(LARGE, response(b"{}"), b"{}"),
    "a download of 40 MB": Case(b"{}", _chunked(LARGE, 100_003), LARGE),
}


@dataclass
class Carried:
    """One case as each side saw it."""

    received: bytes = b""
    response: Message | None = None
    recorded: Recorded | None = None


@pytest.fixture(scope="module")
def carried(shared: Stage) -> dict[str, Carried]:
    """All cases, carried one after the other."""
    return {name: _carry(shared, case) for name, case in CASES.items()}


def _carry(stage: Stage, case: Case) -> Carried:
    done = Carried()

    def script(peer: Peer) -> None:
        done.received = peer.read_message().body
        peer.send(case.answer)

    with stage.origin(script) as origin, stage.client() as client:
        # The upstream may answer before all is sent, and neither side may wait for the other then.
        sending = threading.Thread(target=client.send, args=(case.request(origin.at()),))
        sending.start()
        done.response = client.read_message(bodiless=case.method == b"HEAD")
        sending.join()
        done.recorded = stage.only(origin)
    return done


Command = Callable[..., bytes]
Replay = Callable[[str, str], bytes]


@pytest.fixture
def command(
    shared: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """Runs a command in this process, as starting one takes its time; what it prints."""
    for name in [name for name in os.environ if name.startswith("WIRETAPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def done(*words: str) -> bytes:
        capsysbinary.readouterr()
        assert run(["--home", str(shared.wiretape.home), *words]) == 0
        out, err = capsysbinary.readouterr()
        assert err == b""
        return out

    return done


@pytest.fixture
def replay(command: Command) -> Replay:
    """What `wiretape replay` prints of one side of an exchange."""
    return lambda exchange, side: command(*_words(exchange, side))


def _words(exchange: str, side: str) -> list[str]:
    return ["replay", exchange, "--speed", "instant", *(["--request"] if side == "request" else [])]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_the_response(carried: dict[str, Carried], replay: Replay, name: str) -> None:
    done, sent = carried[name], CASES[name].answered
    assert done.response is not None
    assert done.recorded is not None
    facts = done.recorded.facts
    assert _hash(done.response.body) == _hash(sent)
    assert facts["response_hash"] == _hash(sent)
    assert facts["response_out_hash"] is None
    assert facts["response_bytes"] == len(sent)
    assert _hash(done.recorded.response) == _hash(sent)
    assert _hash(replay(done.recorded.id, "response")) == _hash(sent)


@pytest.mark.parametrize("name", CASES)
def test_the_request(carried: dict[str, Carried], replay: Replay, name: str) -> None:
    done, sent = carried[name], CASES[name].body or b""
    assert done.recorded is not None
    facts = done.recorded.facts
    assert _hash(done.received) == _hash(sent)
    assert facts["request_hash"] == _hash(sent)
    assert facts["request_out_hash"] is None
    assert facts["request_bytes"] == len(sent)
    assert _hash(done.recorded.request) == _hash(sent)
    assert _hash(replay(done.recorded.id, "request")) == _hash(sent)


@pytest.mark.parametrize("name", CASES)
def test_the_end(carried: dict[str, Carried], name: str) -> None:
    done = carried[name]
    assert done.recorded is not None
    assert done.recorded.outcome == "completed"
    assert (done.recorded.gaps, done.recorded.facts["lost_records"]) == (0, 0)


@pytest.mark.parametrize("name", ["gzip", "chunks of one byte", "until close", "no body at all"])
def test_show_tells_the_same(carried: dict[str, Carried], command: Command, name: str) -> None:
    case, recorded = CASES[name], carried[name].recorded
    assert recorded is not None
    shown = json.loads(command("show", recorded.id, "--format", "json"))
    assert shown["identical"] is True
    assert (shown["request_hash"], shown["response_hash"]) == (_hash(case.body or b""), _hash(case.answered))
    for side, body in (("request", case.body or b""), ("response", case.answered)):
        chunks = [each for each in shown["chunks"] if each["side"] == side]
        data = b"".join(
            each["text"].encode() if "text" in each else base64.b64decode(each["base64"]) for each in chunks
        )
        assert data == body


def test_a_replay_in_a_process_of_its_own(shared: Stage, carried: dict[str, Carried]) -> None:
    done, home = carried["a download of 40 MB"], shared.wiretape.home
    assert done.recorded is not None
    command = [sys.executable, "-m", "proxy", *_words(done.recorded.id, "response")]
    variables = environment(home.parent, {"WIRETAPE_HOME": str(home)})
    replay = subprocess.run(command, env=variables, cwd=home.parent, capture_output=True, check=False)
    assert (replay.returncode, replay.stderr) == (0, b"")
    assert _hash(replay.stdout) == _hash(LARGE)


def test_a_key_is_masked_in_the_recorded_copy_and_nowhere_else(stage: Stage) -> None:
    key = b"sk-" + b"a1B2" * 10
    said = b'data: {"text": "%b"}\n\n' % key
    script = Answering(_chunked(said, 17))
    with stage.origin(script) as origin:
        assert stage.exchange(request(origin.at(), said)).body == said
        assert script.requests[0].body == said
        recorded = stage.only(origin)
    for name, body in (("request", recorded.request), ("response", recorded.response)):
        assert key not in body
        assert len(body) == len(said)
        assert recorded.facts[f"{name}_hash"] == _hash(said)
        assert recorded.facts[f"{name}_out_hash"] is None
    assert recorded.facts["masked"] == 1

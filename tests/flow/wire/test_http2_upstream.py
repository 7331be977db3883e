"""An upstream that is asked over HTTP/2, as it is configured: bodies are the same, events come as they are sent."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path

from tests.flow.wire.stage import Body, Slot, request, staged
from tests.support import certificates, http2
from tests.support.rawhttp import DEADLINE

EVENT = b'data: {"n": 1}\n\n'
DATA = random.Random(5).randbytes(1_000_000)


def test_exchanges_over_http_2(tmp_path: Path) -> None:
    arrived = threading.Semaphore(0)

    def script(stream: http2.Stream) -> None:
        if dict(stream.headers)[b":path"] == b"/v1/broken":
            stream.head()
            stream.data(EVENT)
            stream.reset()
            return
        stream.head(("content-type", "text/event-stream"))
        for _ in range(20):
            stream.data(EVENT)
            assert arrived.acquire(timeout=DEADLINE)
        stream.data(DATA, end=True)

    certificate = certificates.certificate(tmp_path / "tls", "localhost")
    folder = tmp_path / "place"
    folder.mkdir()
    with http2.Http2Upstream(script, certificate) as upstream:
        config = f"[upstreams.two]\nurl = 'https://localhost:{upstream.port}'\nca_file = '{certificate}'\n"
        config += "http2 = true\n"
        with staged(folder, config, upstreams=1) as stage:
            with stage.client() as client:
                client.send(request(b"/two/v1/x", DATA, b"Keep-Alive: 5"))
                start, headers = client.read_head()
                body = Body(client, headers)
                for count in range(1, 21):
                    body.until(count * len(EVENT))
                    arrived.release()
                assert (start[:12], body.rest()) == (b"HTTP/1.1 200", EVENT * 20 + DATA)
                client.send(request(b"/two/v1/broken", b"{}")).read_until(EVENT)
                client.read_to_end()
            whole, broken = stage.recorded(Slot("two", 0, 0), 2)
            assert upstream.requests[0].body == DATA
    assert whole.outcome == "completed"
    assert whole.facts["request_hash"] == hashlib.sha256(DATA).hexdigest()
    assert whole.facts["response_hash"] == hashlib.sha256(EVENT * 20 + DATA).hexdigest()
    assert (broken.outcome, broken.response) == ("upstream_failed", EVENT)
    assert broken.facts["error"].startswith("incomplete: ")


def test_one_that_refuses_to_be_asked_for_usage_is_asked_again_the_same_way(tmp_path: Path) -> None:
    body = b'{"model": "m", "stream": true, "messages": []}'

    def script(stream: http2.Stream) -> None:
        if b"include_usage" in stream.body:
            stream.head(status=400)
            stream.data(b'{"error": "unknown field: stream_options"}', end=True)
            return
        stream.head(("content-type", "text/event-stream"))
        stream.data(EVENT, end=True)

    certificate = certificates.certificate(tmp_path / "tls", "localhost")
    folder = tmp_path / "place"
    folder.mkdir()
    with http2.Http2Upstream(script, certificate) as upstream:
        config = f"[upstreams.two]\nurl = 'https://localhost:{upstream.port}'\nca_file = '{certificate}'\n"
        config += "http2 = true\nstream_usage = 'ask'\n"
        with staged(folder, config, upstreams=1) as stage:
            asked = request(b"/two/v1/chat/completions", body, b"Content-Type: application/json")
            answer = stage.exchange(asked)
            assert (answer.status, answer.body) == (200, EVENT)
            assert stage.only(Slot("two", 0, 0)).outcome == "completed"
    assert [bytes(stream.body) for stream in upstream.requests][1:] == [body]

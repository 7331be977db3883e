"""What an application under another server cannot have, and does not pretend to; and what such a server lets pass."""

from __future__ import annotations

import json

import pytest

from proxy.exchange import RequestHead, ResponseHead, WireEnd
from proxy.journal import record
from tests.support.rawhttp import Ended, Peer, RawUpstream, connect
from tests.unit.forward.serving import HOST, STOCK, application, serving
from tests.unit.forward.tape import Stage, decoded

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


pytestmark = pytest.mark.usefixtures("calm")


@pytest.fixture(params=STOCK)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_interim_responses_and_trailers_are_recorded_and_not_passed_on(stage: Stage, server: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: v\r\n\r\n")

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        message = client.send(b"GET /o/x HTTP/1.1\r\n", HOST, b"TE: trailers\r\n\r\n").read_message()
        assert (message.status, message.body, message.trailers) == (200, b"ok", [])
        assert message.one("trailer") is None
        assert served.wire_end() == WireEnd.UPSTREAM_END
    heads = decoded(stage.records(), record.RESPONSE_HEAD, ResponseHead)
    assert [head.status for head in heads] == [103, 200]
    assert [item.kind for item in stage.records()].count(record.TRAILERS) == 1


def test_no_upgrade_is_asked_for(stage: Stage, server: str) -> None:
    def script(peer: Peer) -> None:
        start, headers = peer.read_head()
        assert start == b"GET /x HTTP/1.1"
        assert not {name.lower() for name, _ in headers} & {b"upgrade", b"connection"}
        peer.send(OK)

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        client.send(b"GET /o/x HTTP/1.1\r\n", HOST, b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.read_message().body == b"ok"
        upstream.wait_idle()


def test_http_1_0_is_told_apart(stage: Stage, server: str) -> None:
    def script(peer: Peer) -> None:
        try:
            while True:
                start, _ = peer.read_head()
                assert start == b"GET /x HTTP/1.1"
                peer.send(OK)
        except Ended:
            return

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        assert client.send(b"GET /o/x HTTP/1.0\r\n\r\n").read_to_end().endswith(b"\r\n\r\nok")
        served.ends()
    (head,) = decoded(stage.records(), record.REQUEST_HEAD, RequestHead)
    assert head.http_version == "1.0"


@pytest.mark.parametrize(
    "lines",
    [b"", HOST + b"Transfer-Encoding: gzip, chunked\r\n", HOST + HOST],
    ids=["no host", "another coding", "two hosts"],
)
def test_what_cannot_be_framed_is_refused_by_them_or_by_us(stage: Stage, server: str, lines: bytes) -> None:
    app = application(stage)
    with serving(app, stage, server) as served, connect(served.port) as client:
        message = client.send(b"POST /o/x HTTP/1.1\r\n", lines, b"\r\n").read_message()
        assert message.status in {400, 501}
        if app.turned_away:
            assert json.loads(message.body)["error"]["type"] == "wiretape_bad_request"
    assert stage.records() == []

"""A request to switch protocols goes to the upstream as it came, and the answer, whatever it is, comes back."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import ID, Actor, Run, answering, assert_same_responses, error_type, twice
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Stage, chunk, request, response
from tests.flow.wire.tunnels import TARGET, answered_and_told, tunnelled
from tests.support.rawhttp import End, Peer
from tests.support.websocket import KEY, Op, WebSocket, accepted, handshake, switching

HELD_BACK = 0.3
"""Seconds for which something must not arrive."""

_KEY = [b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Version: 13"]
_UPGRADE = [b"Connection: Upgrade", b"Upgrade: websocket", *_KEY]
ASKED: dict[str, list[bytes]] = {
    "nothing more": _UPGRADE,
    "another case and order": [b"sec-websocket-version: 13", b"UPGRADE: WebSocket", _KEY[0], b"connection: upgrade"],
    "a browser's": [
        b"Connection: keep-alive, Upgrade",
        b"Pragma: no-cache",
        b"Upgrade: websocket",
        b"User-Agent: Mozilla/5.0",
        b"Accept-Encoding: gzip, deflate, br, zstd",
        b"Origin: http://localhost:3000",
        b"Cookie: a=1; b=2",
        b"Sec-Fetch-Mode: websocket",
        *_KEY,
    ],
    "subprotocols": [*_UPGRADE, b"Sec-WebSocket-Protocol: realtime, openai-beta.x", b"sec-websocket-protocol: z"],
    "extensions": [*_UPGRADE, b'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x;a="b,c"'],
    "an SDK's": [
        b"Authorization: Bearer sk-test",
        b"OpenAI-Beta: realtime=v1",
        *_UPGRADE,
        b"X-EMPTY:",
        b"x-Name: J\xfcrgen",
    ],
}
ANSWERED: dict[str, list[bytes]] = {
    "nothing more": [],
    "a subprotocol": [b"Sec-WebSocket-Protocol: realtime"],
    "extensions": [b"sec-websocket-extensions: permessage-deflate; server_no_context_takeover"],
    "cookies and more": [b"Set-Cookie: a=1", b"Date: Mon, 23 Nov 2026 00:00:00 GMT", b"Set-Cookie: b=2", b"X-Empty:"],
}


def _asking(*lines: bytes, body: bytes | None = None, method: bytes = b"GET") -> Actor:
    """A client that asks to switch, hears the answer, and waits for the end."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(TARGET), body, *lines, method=method))
        assert peer.read_message().status == 101
        peer.read_to_end()

    return client


def _switching(answer: bytes) -> Actor:
    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(answer, b"said at once")

    return origin


@pytest.mark.parametrize("name", ASKED)
def test_it_goes_up_as_it_came(stage: Stage, name: str) -> None:
    tunnelled(stage, _asking(*ASKED[name]), _switching(switching()))


@pytest.mark.parametrize("name", ANSWERED)
def test_the_answer_comes_down_as_it_came(stage: Stage, name: str) -> None:
    both = tunnelled(stage, _asking(*_UPGRADE), _switching(switching(*ANSWERED[name])))
    head, _ = answered_and_told(both.proxied)
    recorded = stage.only(both.origin)
    assert head[-1] == (ID, recorded.id.encode())
    assert [each for each, _ in recorded.headers(1)] == [each.decode() for each, _ in head[1:-1]]
    assert recorded.changes == [{"kind": "response_header_added", "headers": [["x-wiretape-exchange", recorded.id]]}]


@pytest.mark.parametrize("protocol", [b"x-own", b"tcp", b"SPDY/3.1", b"opcua+uacp", b"IRC/6.9"], ids=bytes.decode)
@pytest.mark.parametrize("body", [None, b"", b"a body first"], ids=["no body", "empty body", "body"])
def test_any_protocol_can_be_switched_to(stage: Stage, protocol: bytes, body: bytes | None) -> None:
    lines = [b"Connection: Upgrade", b"Upgrade: " + protocol]
    client = _asking(*lines, body=body, method=b"GET" if body is None else b"POST")
    tunnelled(stage, client, _switching(switching(protocol=protocol, key=None)))


# Before the answer


@pytest.mark.parametrize("when", ["with the handshake", "behind it"])
@pytest.mark.parametrize("early", [b"\x81\x80\0\0\0\0", bytes(300_000)], ids=["a frame", "300 kB"])
def test_early_bytes_wait_for_the_switch(stage: Stage, when: str, early: bytes) -> None:
    """And what stands behind the switch arrives before anything that answers them."""

    def client(peer: Peer, run: Run) -> None:
        asked = handshake(run.at(TARGET))
        if when == "with the handshake":
            peer.send(asked + early)
        else:
            peer.send(asked)
            run.wait("asked")
            peer.send(early)
        run.tell("early")
        assert peer.read_message().status == 101
        websocket = WebSocket(peer, client=True)
        assert [websocket.read(Op.TEXT).data for _ in range(2)] == [b"behind the switch", b"in answer"]
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        run.tell("asked")
        run.wait("early")
        if run.proxied:
            assert not peer.has_arrived(HELD_BACK)
        websocket = WebSocket(peer, client=False)
        peer.send(switching() + websocket.frame(Op.TEXT, b"behind the switch"))
        assert peer.read_exactly(len(early)) == early
        websocket.send(Op.TEXT, b"in answer")

    both = tunnelled(stage, client, origin)
    assert stage.only(both.origin).request == early


def test_hints_come_before_the_switch(stage: Stage) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    def client(peer: Peer, run: Run) -> None:
        peer.send(handshake(run.at(TARGET)))
        assert peer.read_message().headers == [(b"Link", b"</a>")]
        run.tell("hinted")
        assert peer.read_message().status == 101
        assert peer.read_to_end() == b"said at once"

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(hint)
        run.wait("hinted")
        peer.send(switching(), b"said at once")

    twice(stage, client, origin)


# Refused

_WHY = b'{"error": {"message": "theirs"}}'
REFUSALS: dict[str, bytes] = {
    "200": response(b"plain"),
    "302": response(b"", b"Location: /elsewhere", status=b"302 Found"),
    "401": response(_WHY, b"WWW-Authenticate: Bearer", b"Set-Cookie: a=1", status=b"401 Unauthorized"),
    "403 in chunks": STREAM.replace(b"200 OK", b"403 Forbidden") + chunk(_WHY) + LAST_CHUNK,
    "404 without a body": response(b"", status=b"404 Not Found"),
    "426": response(b"another version", b"Sec-WebSocket-Version: 8, 13", status=b"426 Upgrade Required"),
    "429": response(_WHY, b"retry-after: 3", status=b"429 Slow Down"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_passes_and_the_connection_goes_on(stage: Stage, name: str) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(handshake(run.at(TARGET)))
        peer.read_message()
        assert not peer.has_arrived()
        assert peer.send(request(run.at(), b"{}")).read_message().body == b"next"

    def origin(peer: Peer, run: Run) -> None:
        if peer.read_message().all("upgrade"):
            peer.send(REFUSALS[name])
            peer.read_message()
        peer.send(response(b"next"))

    both = twice(stage, client, origin)
    assert_same_responses(both)
    recorded = stage.recorded(both.origin, 2)
    status = both.direct.responses[0].status
    assert [(each.facts["status"], each.outcome) for each in recorded] == [(status, "completed"), (200, "completed")]
    assert recorded[0].response == both.direct.responses[0].body


def test_early_bytes_of_a_refused_client_are_nobodys(stage: Stage) -> None:
    """The origin would take them for another request."""
    came: list[bytes] = []

    def origin(peer: Peer) -> None:
        peer.read_message()
        assert not peer.has_arrived(HELD_BACK)
        peer.send(REFUSALS["401"])
        came.append(peer.read_to_end())

    with stage.origin(origin) as upstream:
        with stage.client() as client:
            client.send(handshake(upstream.at(TARGET)) + request(upstream.at(), b"{}").replace(b"POST", b"\x81\x80"))
            answer = client.read_message()
            assert (answer.status, answer.body) == (401, _WHY)
        # What waits in the pool stays open; the next may be the one to find it so.
        assert stage.only(upstream).outcome == "completed"
    assert came == [b""]


@pytest.mark.parametrize("how", ["FIN", "RST", "garbage"])
def test_a_handshake_that_breaks_off_is_a_502(stage: Stage, how: str) -> None:
    def origin(peer: Peer) -> None:
        peer.read_message()
        if how == "RST":
            peer.rst()
        elif how == "garbage":
            peer.send(b"\x81\x02hi\r\n\r\n").read_to_end()

    with stage.origin(origin) as upstream:
        answer = stage.exchange(handshake(upstream.at(TARGET)))
        assert (answer.status, error_type(answer)) == (502, "wiretape_upstream_broken")
        assert stage.only(upstream).outcome == "upstream_failed"
        assert len(upstream.peers) == 1


# Not passed on

IGNORED: dict[str, list[bytes]] = {
    "h2c": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"],
    "h2": [b"Connection: Upgrade", b"Upgrade: h2"],
    "HTTP/2.0": [b"Connection: Upgrade", b"Upgrade: HTTP/2.0"],
    "http/3": [b"connection: upgrade", b"upgrade: http/3"],
    "TLS/1.0": [b"Connection: Upgrade", b"Upgrade: TLS/1.0"],
    "without Connection": [b"Upgrade: websocket", *_KEY],
}


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("body", [None, b"body"], ids=["no body", "body"])
def test_another_http_is_not_switched_to(stage: Stage, name: str, body: bytes | None) -> None:
    """It would be spoken with us, not with the upstream."""

    def client(peer: Peer, run: Run) -> None:
        for _ in range(2):
            peer.send(request(run.at(), body, *IGNORED[name])).read_message()

    both = twice(stage, client, answering(response(b"plain")))
    assert_same_responses(both)
    assert [each.body for each in both.proxied.requests] == [body or b""] * 2
    assert both.proxied.requests[0].all("upgrade") == both.proxied.requests[0].all("connection") == []
    assert len(both.proxied.connections) == 1


@pytest.mark.parametrize("name", IGNORED)
def test_a_switch_to_what_was_not_passed_on_is_a_502(stage: Stage, name: str) -> None:
    def origin(peer: Peer) -> None:
        peer.read_message()
        peer.send(switching(protocol=b"h2c", key=None), b"PRI * HTTP/2.0\r\n\r\n").read_to_end()

    with stage.origin(origin) as upstream, stage.client() as client:
        client.send(request(upstream.at(), None, *IGNORED[name], method=b"GET"))
        answer = client.read_message()
        assert (answer.status, error_type(answer)) == (502, "wiretape_upstream_broken")
        assert stage.only(upstream).outcome == "upstream_failed"


def test_a_switched_connection_is_not_used_again(stage: Stage) -> None:
    def other(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(b"its own"))

    def origin(peer: Peer) -> None:
        accepted(peer)[0].read(Op.CLOSE)

    with stage.origin(origin, other) as upstream:
        with stage.client() as client:
            client.send(handshake(upstream.at(TARGET))).read_message()
            WebSocket(client, client=True).close()
            assert client.read_to_end() == b""
            assert client.ended is End.FIN
        assert stage.exchange(request(upstream.at(), b"{}")).body == b"its own"
        assert len(upstream.peers) == 2

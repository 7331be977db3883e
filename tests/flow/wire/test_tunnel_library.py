"""A library that many SDKs speak WebSocket with notices no difference: as client and as server, packed or not."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.flow.wire.stage import Slot, Stage
from tests.support.rawhttp import DEADLINE
from tests.support.running import files_of, wait_for

LARGE = random.Random(4).randbytes(4 << 20)
TEXT = "grüße und 雪 " * 100
PROTOCOLS = [Subprotocol("realtime"), Subprotocol("openai-beta.realtime-v1")]
COMPRESSION = pytest.mark.parametrize("compression", ["deflate", None], ids=["permessage-deflate", "not packed"])


@dataclass
class Heard:
    """What a server's handler saw."""

    requests: list[Request] = field(default_factory=list)
    messages: list[str | bytes] = field(default_factory=list)
    closed: list[tuple[int | None, str | None]] = field(default_factory=list)


@contextmanager
def _listening(slot: Slot, handler: Callable[[ServerConnection], None], **options: Any) -> Iterator[None]:
    chosen: dict[str, Any] = {"subprotocols": PROTOCOLS, "max_size": None, "ping_interval": None, **options}
    with serve(handler, "127.0.0.1", slot.port, **chosen) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(DEADLINE)


def _connect(port: int, path: str, **options: Any) -> ClientConnection:
    chosen: dict[str, Any] = {"subprotocols": PROTOCOLS, "max_size": None, "proxy": None, "ping_interval": None}
    chosen["open_timeout"] = DEADLINE
    connection: ClientConnection = connect(f"ws://127.0.0.1:{port}{path}", **{**chosen, **options})
    return connection


def _echo(heard: Heard) -> Callable[[ServerConnection], None]:
    def handler(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        heard.requests.append(websocket.request)
        try:
            while True:
                message = websocket.recv(DEADLINE)
                heard.messages.append(message)
                websocket.send(message)
        except ConnectionClosed:
            heard.closed.append((websocket.close_code, websocket.close_reason))

    return handler


def _ports(stage: Stage, slot: Slot) -> list[tuple[int, str]]:
    """Directly, and by wiretape: a port and what stands before the path."""
    return [(slot.port, ""), (stage.port, f"/{slot.name}")]


@COMPRESSION
def test_it_says_and_hears_the_same(stage: Stage, compression: str | None) -> None:
    slot, heard, negotiated = stage.take(), Heard(), []
    messages: list[str | bytes] = [TEXT, "", b"", bytes(range(256)), LARGE, TEXT * 1000]
    with _listening(slot, _echo(heard), compression=compression):
        for port, before in _ports(stage, slot):
            with _connect(port, f"{before}/v1/realtime", compression=compression) as websocket:
                assert websocket.response is not None
                negotiated.append((websocket.subprotocol, websocket.response.headers.get("Sec-WebSocket-Extensions")))
                for message in messages:
                    websocket.send(message)
                    assert websocket.recv(DEADLINE) == message
                websocket.send(iter(["in ", "", "fragments"]))
                assert websocket.recv(DEADLINE) == "in fragments"
                assert websocket.ping(b"there?").wait(DEADLINE)
                websocket.close(4001, "grüße")
        recorded = stage.only(slot)
    assert negotiated[0] == negotiated[1]
    assert negotiated[0][0] == PROTOCOLS[0]
    assert ("permessage-deflate" in (negotiated[0][1] or "")) is (compression is not None)
    assert heard.messages == [*messages, "in fragments"] * 2
    wait_for(lambda: len(heard.closed) >= 2, "the handlers' ends")  # they run on threads that nobody joins
    assert heard.closed == [(4001, "grüße")] * 2
    assert (recorded.outcome, recorded.facts["status"]) == ("completed", 101)


@COMPRESSION
def test_the_servers_close_has_its_code_and_reason(stage: Stage, compression: str | None) -> None:
    def handler(websocket: ServerConnection) -> None:
        assert websocket.recv(DEADLINE) == "hello"
        assert websocket.ping().wait(DEADLINE)
        websocket.close(4001, "session expired")

    slot = stage.take()
    with _listening(slot, handler, compression=compression):
        for port, before in _ports(stage, slot):
            with _connect(port, f"{before}/v1/realtime", compression=compression) as websocket:
                websocket.send("hello")
                with pytest.raises(ConnectionClosed):
                    websocket.recv(DEADLINE)
                assert (websocket.close_code, websocket.close_reason) == (4001, "session expired")
        assert stage.only(slot).outcome == "completed"


def test_a_refusal_has_its_status_headers_and_body(stage: Stage) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        answer = connection.respond(401, '{"error": {"message": "theirs"}}')
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    slot, refused = stage.take(), []
    with _listening(slot, _echo(Heard()), process_request=refuse):
        for port, before in _ports(stage, slot):
            with pytest.raises(InvalidStatus) as raised, _connect(port, f"{before}/v1/realtime"):
                pass
            answer = raised.value.response
            refused.append((answer.status_code, answer.headers["WWW-Authenticate"], answer.body))
        recorded = stage.only(slot)
    assert refused == [(401, "Bearer", b'{"error": {"message": "theirs"}}')] * 2
    assert (recorded.outcome, recorded.facts["status"]) == ("completed", 401)


def test_a_key_as_a_subprotocol_reaches_the_server(stage: Stage) -> None:
    key = f"openai-insecure-api-key.sk-{secrets.token_hex(24)}"
    slot, heard = stage.take(), Heard()
    with _listening(slot, _echo(heard)):
        port, before = _ports(stage, slot)[1]
        subprotocols = [PROTOCOLS[0], Subprotocol(key)]
        with _connect(port, f"{before}/v1/realtime", subprotocols=subprotocols) as websocket:
            assert websocket.subprotocol == "realtime"
        stage.only(slot)
        wait_for(lambda: heard.requests, "the handler")
    assert key in heard.requests[0].headers["Sec-WebSocket-Protocol"]
    secret = key.partition(".")[2].encode()
    assert [path for path, data in files_of(stage.wiretape.home).items() if secret in data] == []


def test_a_connection_that_breaks_off_is_no_close(stage: Stage) -> None:
    """A library tells it from a closing handshake by the code that it makes up itself."""

    def handler(websocket: ServerConnection) -> None:
        websocket.recv(DEADLINE)
        websocket.socket.close()

    slot, codes = stage.take(), []
    with _listening(slot, handler):
        for port, before in _ports(stage, slot):
            with _connect(port, f"{before}/v1/realtime") as websocket:
                websocket.send("hello")
                with pytest.raises(ConnectionClosed):
                    websocket.recv(DEADLINE)
                codes.append(websocket.close_code)
    assert codes == [1006, 1006]

"""What is too much is refused clearly before any upstream sees it; just less than that passes as it does without us."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.flow.wire.differential import (
    Run,
    assert_same_requests,
    assert_same_responses,
    error_type,
    refused,
    taken_apart,
    twice,
)
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Origin, Stage, chunk, request, staged
from tests.support.rawhttp import DEADLINE, End, Ended, Peer
from tests.support.running import wait_for

MAX_HEAD = 16 * 1024
MAX_HEADERS = 50
MAX_BODY = 1 << 20
MAX_CONNECTIONS = 8
CHUNKED = b"Transfer-Encoding: chunked"
CONFIG = f"""
forward.max_head = '16KiB'
forward.max_headers = {MAX_HEADERS}
forward.max_request_body = '1MiB'
forward.max_connections = {MAX_CONNECTIONS}
"""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("limited"), CONFIG, upstreams=16) as stage:
        yield stage


def _heads(run: Run, size: int) -> dict[str, bytes]:
    """Heads of about so many bytes, each large in another way."""
    field = b"X-Field: " + b"v" * 1000
    return {
        "one field": request(run.at(), None, b"X-Long: " + b"v" * size, method=b"GET"),
        "many fields": request(run.at(), None, *[field] * (size // len(field)), b"X: " + b"v" * 1000, method=b"GET"),
        "a name": request(run.at(), None, b"X-" + b"n" * size + b": 1", method=b"GET"),
        "a path": request(run.at(b"/" + b"p" * size), method=b"GET"),
        "a query": request(run.at(b"/?" + b"q" * size), method=b"GET"),
    }


SHAPES = ["one field", "many fields", "a name", "a path", "a query"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_head_below_the_limit_passes(limited: Stage, shape: str) -> None:
    """Again and again: each head is counted for itself, and no body as part of one."""

    def client(peer: Peer, run: Run) -> None:
        head = _heads(run, MAX_HEAD - 2000)[shape]
        peer.send(*[head, request(run.at(), b"x" * MAX_HEAD)] * 3)
        assert [peer.read_message().status for _ in range(6)] == [200] * 6

    both = twice(limited, client)
    assert_same_requests(both)
    assert_same_responses(both)


@pytest.mark.parametrize("size", [MAX_HEAD + 100, 20 * MAX_HEAD], ids=["a little above", "far above"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_head_above_the_limit(limited: Stage, shape: str, size: int) -> None:
    refused(limited, lambda run: _heads(run, size)[shape], 431, "wiretape_head_too_large")


def test_a_head_that_does_not_end_is_not_waited_for(limited: Stage) -> None:
    """Only its limit ends it."""
    with limited.origin(Answering()) as origin, limited.client() as client:
        client.send(request(origin.at(), None, b"X-Long: " + b"v" * (MAX_HEAD + 1000))[:-4])
        _assert_refusal(client, 431, "wiretape_head_too_large")
        assert origin.peers == []


def test_fewer_headers_than_the_limit_pass(limited: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(*[request(run.at(), b"{}", *[b"X-%d: 1" % number for number in range(MAX_HEADERS - 5)])] * 3)
        assert [peer.read_message().status for _ in range(3)] == [200] * 3

    both = twice(limited, client)
    assert_same_requests(both)
    assert_same_responses(both)


@pytest.mark.parametrize("line", [b"X-%d: 1", b"X:", b"Cookie: a"], ids=["different", "empty", "of one name"])
def test_more_headers_than_the_limit(limited: Stage, line: bytes) -> None:
    lines = [line.replace(b"%d", b"%d" % number) for number in range(MAX_HEADERS + 5)]
    refused(limited, lambda run: request(run.at(), b"{}", *lines), 431, "wiretape_head_too_large")


def test_a_head_too_large_behind_an_answer(limited: Stage) -> None:
    with limited.origin(Answering()) as origin, limited.client() as client:
        small = request(origin.at(), b"{}")
        client.send(small, request(origin.at(), b"{}", b"X-Long: " + b"v" * (MAX_HEAD + 100)), small)
        assert client.read_message().status == 200
        _assert_refusal(client, 431, "wiretape_head_too_large")
        assert len(limited.recorded(origin)) == 1


@pytest.mark.parametrize("name", ["a head", "headers"])
def test_the_limits_without_configuration(stage: Stage, name: str) -> None:
    lines = [b"X-Long: " + b"v" * (300 << 10)] if name == "a head" else [b"X: %d" % number for number in range(1100)]
    refused(stage, lambda run: request(run.at(), b"{}", *lines), 431, "wiretape_head_too_large")


ENDLESS: dict[str, bytes] = {
    "a chunk's size": b"0" * (4 * MAX_HEAD),
    "a chunk's extension": b"5;a=" + b"x" * (4 * MAX_HEAD),
    "a trailer": b"0\r\nX-Long: " + b"v" * (4 * MAX_HEAD),
    "trailers": b"0\r\n" + b"X-Long: v\r\n" * (4 * MAX_HEAD // 11),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_stands_between_bodies_has_a_limit_too(limited: Stage, name: str) -> None:
    """Nobody fills the memory with what is no body."""

    begun = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_until(chunk(b"hello"))
        begun.set()
        peer.read_to_end()

    with limited.origin(script) as origin, limited.client() as client:
        client.send(request(origin.at(), None, CHUNKED), chunk(b"hello"))
        assert begun.wait(DEADLINE)
        _send(client, ENDLESS[name])
        answer = client.read_message()
        assert answer.status in (400, 431)
        client.read_to_end()
        assert client.ended is End.FIN
        origin.wait_idle()
        assert taken_apart(origin.peers[0]).messages == []
        assert limited.only(origin).outcome != "completed"


# Bodies


@pytest.mark.parametrize("line", [b"Expect: 100-continue", b"A: 1"], ids=["with Expect", "without"])
def test_a_body_too_large_is_refused_before_it_is_sent(limited: Stage, line: bytes) -> None:
    with limited.origin(Answering()) as origin, limited.client() as client:
        client.send(request(origin.at(), None, line, b"Content-Length: %d" % (MAX_BODY + 1)))
        _assert_refusal(client, 413, "wiretape_request_too_large")
        assert origin.peers == []


def test_who_sends_it_all_before_it_reads_gets_the_refusal(limited: Stage) -> None:
    refused(limited, lambda run: request(run.at(), b"x" * (4 * MAX_BODY)), 413, "wiretape_request_too_large")


def test_who_sends_too_many_chunks_before_it_reads_gets_the_refusal(limited: Stage) -> None:
    def script(peer: Peer) -> None:
        try:
            peer.read_message()
        except Ended:
            return
        pytest.fail("it was made to look complete")

    with limited.origin(script) as origin, limited.client() as client:
        _send(client, request(origin.at(), None, CHUNKED) + chunk(b"x" * 65_536) * 64 + LAST_CHUNK)
        _assert_refusal(client, 413, "wiretape_request_too_large")
        origin.wait_idle()
        assert limited.only(origin).outcome == "refused"


# Connections


def test_more_connections_than_the_limit(limited: Stage) -> None:
    """Those that are there go on, and when one has gone there is room for another."""

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM)
        peer.read_to_end()

    with limited.origin(script) as origin, ExitStack() as stack:
        # What tests before left behind may be on its way out.
        clients = [_wait_let_in(stack, limited, origin) for _ in range(MAX_CONNECTIONS)]
        for _ in range(3):
            with limited.client() as client:
                client.send(request(origin.at(), b"{}"))
                _assert_refusal(client, 503, "wiretape_too_many_connections")
        assert len(origin.peers) == MAX_CONNECTIONS
        assert not any(client.has_arrived() for client in clients)
        clients[0].close()
        _wait_let_in(stack, limited, origin)


def _wait_let_in(stack: ExitStack, limited: Stage, origin: Origin) -> Peer:
    """A client whose stream has begun, as soon as there is room for it."""

    def asking() -> Peer | None:
        client = stack.enter_context(limited.client())
        start, _ = client.send(request(origin.at(), b"{}")).read_head()
        if start == b"HTTP/1.1 200 OK":
            return client
        assert start.startswith(b"HTTP/1.1 503 ")
        client.close()
        return None

    found = wait_for(asking, "room for a connection")
    assert found is not None
    return found


def _send(client: Peer, data: bytes) -> None:
    """Send what may be answered before it is all sent."""
    try:
        client.send(data)
    except Ended:
        pass


def _assert_refusal(client: Peer, status: int, kind: str) -> None:
    """That this is what comes next, and the last."""
    answer = client.read_message()
    assert (answer.status, error_type(answer)) == (status, kind)
    assert client.read_to_end() == b""
    assert client.ended is End.FIN

"""The client's side on a real socket: what an application is told of a request, one after the other on a connection."""

from __future__ import annotations

import time

import pytest

from tests.support.rawhttp import End, Ended, Peer, connect
from tests.unit.wire.serving import App, Hearing, Serve, Wired, WiredInATask, answer

HOST = b"Host: a\r\n"
LAST = b"Connection: close\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST


def ask(port: int, *data: bytes) -> tuple[bytes, Peer]:
    """All that comes back until the server ends, and the connection it came by."""
    with connect(port) as client:
        client.send(*data)
        return client.read_to_end(), client


@pytest.mark.parametrize(
    "target",
    [
        b"/x?",
        b"/x",
        b"//a//b/../.%2e/%zz%4",
        b'/[{|}]^`\\"<>',
        b"/a?b?c=d",
        b"/\xc3\xa9\xff\x80?\xfe",
        b"http://other.example/x?y",
        b"*",
        b"/" + b"a" * 20_000,
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"get", b"FROBNICATE"])
def test_a_target_is_told_octet_by_octet(serve: Serve, method: bytes, target: bytes) -> None:
    app = App()
    with serve(app) as served:
        answer, _ = ask(served.port, method + b" " + target + b" HTTP/1.1\r\n", HOST, LAST, b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    request = app.sides[0].request
    assert (request.method, request.target, request.version) == (method, target, "1.1")
    path, _, query = target.partition(b"?")
    scope = app.scopes[0]
    assert (scope["raw_path"], scope["query_string"], scope["method"]) == (path, query, method.decode())


def test_headers_are_told_as_they_came(serve: Serve) -> None:
    app = App()
    with serve(app) as served:
        lines = b"X-b: 1\r\nhOsT: a\r\na:\r\nX-B:  2 \t\r\nL: \xe9\xff\r\nConnection: close\r\n"
        ask(served.port, b"GET / HTTP/1.1\r\n", lines, b"\r\n")
    assert app.sides[0].request.headers == [
        (b"X-b", b"1"),
        (b"hOsT", b"a"),
        (b"a", b""),
        (b"X-B", b"2"),
        (b"L", b"\xe9\xff"),
        (b"Connection", b"close"),
    ]


def test_who_asks(serve: Serve) -> None:
    app = App()
    with serve(app) as served:
        ask(served.port, GET, LAST, b"\r\n")
        assert served.state.total_requests == 1
    assert app.sides[0].address == "127.0.0.1"
    assert (app.scopes[0]["client"][0], app.scopes[0]["state"]) == ("127.0.0.1", {"key": "value"})


BODIES: dict[str, tuple[bytes, bytes, bytes]] = {
    "a length": (b"Content-Length: 3\r\n", b"abc", b"abc"),
    "length zero": (b"Content-Length: 0\r\n", b"", b""),
    "chunks": (
        b"Transfer-Encoding: chunked\r\n",
        b"1\r\na\r\n2;x=y\r\nbc\r\n0\r\nT: v\r\nHost: evil\r\n\r\n",
        b"abc",
    ),
    "no chunks": (b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b""),
    "much": (b"Content-Length: 300000\r\n", b"x" * 300_000, b"x" * 300_000),
    "much in chunks": (
        b"Transfer-Encoding: chunked\r\n",
        b"493e0\r\n" + b"x" * 300_000 + b"\r\n0\r\n\r\n",
        b"x" * 300_000,
    ),
    "none": (b"", b"", b""),
}


@pytest.mark.parametrize(("headers", "sent", "body"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(
    "upgrade",
    [b"", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n", b"Upgrade: websocket\r\n"],
    ids=["plain", "h2c", "an upgrade without a connection"],
)
@pytest.mark.parametrize("cut", [False, True], ids=["at once", "cut"])
def test_bodies_arrive_also_with_an_upgrade_nobody_takes_up(
    serve: Serve, headers: bytes, sent: bytes, body: bytes, upgrade: bytes, cut: bool
) -> None:
    app = App()
    with serve(app) as served, connect(served.port) as client:
        for number in range(2):
            data = b"POST /%d HTTP/1.1\r\n" % number + HOST + upgrade + headers + b"\r\n" + sent
            if cut and len(data) < 1000:
                client.send_bytewise(data)
            else:
                client.send(data)
            assert client.read_message().body == body
    assert app.bodies == [body, body]
    assert [side.request.target for side in app.sides] == [b"/0", b"/1"]
    assert not any(name in (b"T", b"t") for side in app.sides for name, _ in side.request.headers)
    assert all(side.request.headers[0] == (b"Host", b"a") for side in app.sides)


def test_trailers_are_told_for_themselves(serve: Serve) -> None:
    app = Wired()
    with serve(app) as served, connect(served.port) as client:
        for late in (False, True):
            client.send(b"POST / HTTP/1.1\r\n", HOST, b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            if late:
                app.wait(2)
            client.send(b"0\r\nT: v\r\nHost: evil\r\n\r\n")
            assert client.read_message().body == b"a"
    assert [heard.trailers for heard in app.heard] == [[(b"T", b"v"), (b"Host", b"evil")]] * 2


def test_what_came_of_a_body_is_there_at_once_and_the_rest_as_it_comes(serve: Serve) -> None:
    app = Wired()
    with serve(app) as served, connect(served.port) as client:
        client.send(b"POST / HTTP/1.1\r\n", HOST, b"Content-Length: 9\r\n\r\nabc")
        heard = app.wait()
        assert heard.log[0] == "attached"
        for number, part in enumerate((b"def", b"ghi"), 1):
            client.send(part)
            if number == 1:
                heard.waits_for("body")
                assert heard.body in {b"abcdef", b"def"}
        assert client.read_message().body == b"abcdefghi"
        client.send(b"POST / HTTP/1.1\r\n", HOST, b"Content-Length: 3\r\n\r\nabc")
        assert client.read_message().body == b"abc"
        assert app.heard[1].log == ["attached", "end"], "a whole request takes one step"


# One connection, many requests


def test_a_connection_is_kept(serve: Serve) -> None:
    app = App()
    with serve(app) as served, connect(served.port) as client:
        for number in range(50):
            client.send(b"POST / HTTP/1.1\r\n", HOST, b"Content-Length: 2\r\n\r\n%02d" % number)
            assert client.read_message().body == b"%02d" % number
        client.send(b"POST / HTTP/1.1\r\n", HOST, LAST, b"Content-Length: 1\r\n\r\nx")
        message = client.read_message()
        assert (message.one("connection"), message.body) == (b"close", b"x")
        assert (client.read_to_end(), client.ended) == (b"", End.FIN)


def test_pipelined_requests_are_told_apart(serve: Serve) -> None:
    app = App()
    with serve(app) as served:
        one = b"POST /%d HTTP/1.1\r\n" + HOST + b"N: %d\r\nContent-Length: 1\r\n%b\r\n%d"
        answer, _ = ask(served.port, one % (1, 1, b"", 1), one % (2, 2, b"", 2), one % (3, 3, LAST, 3))
    assert [side.request.target for side in app.sides] == [b"/1", b"/2", b"/3"]
    told = [(b"N", b"%d" % number) in side.request.headers for number, side in enumerate(app.sides, 1)]
    assert told == [True] * 3
    assert app.bodies == [b"1", b"2", b"3"]
    assert answer.count(b"HTTP/1.1 200 ") == 3


@pytest.mark.parametrize("in_a_task", [False, True])
@pytest.mark.parametrize("body", [b"", b"abc"])
def test_pipelined_requests_that_are_answered_at_once(serve: Serve, body: bytes, in_a_task: bool) -> None:
    count = 20
    app = WiredInATask() if in_a_task else Wired()
    with serve(app) as served, connect(served.port) as client:
        one = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
        client.send(one * count)
        for _ in range(count):
            assert client.read_message().body == body


def test_pipelined_requests_wait_for_the_one_before(serve: Serve) -> None:
    count = 300
    waiting: list[Hearing] = []

    def hold(heard: Hearing, word: str) -> None:
        if word == "end" and not waiting:
            waiting.append(heard)
        elif word == "end":
            answer(heard, word)

    app = Wired(hold)
    with serve(app) as served, connect(served.port) as client:
        chunks = HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n"
        client.send(b"".join(b"POST /%d HTTP/1.1\r\n" % number + chunks for number in range(count)))
        app.wait().waits_for("end")
        assert len(app.heard) == 1
        app.do(lambda: answer(waiting[0], "end"))
        for _ in range(count):
            assert client.read_message().body == b"abc"
    assert [heard.side.request.target for heard in app.heard] == [b"/%d" % number for number in range(count)]
    assert all(heard.trailers == [(b"T", b"v")] for heard in app.heard)


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n\r\n"])
def test_empty_lines_before_a_request_are_none(serve: Serve, lines: bytes) -> None:
    """RFC 9112, 2.2."""
    app = App()
    with serve(app) as served, connect(served.port) as client:
        for _ in range(2):
            client.send(lines, GET, b"\r\n").read_message()
            client.send_bytewise(lines + GET + b"\r\n").read_message()
    assert len(app.scopes) == 4


def test_many_empty_lines_cost_no_more_than_other_bytes(serve: Serve) -> None:
    """They may be refused, or passed over; but everybody else waits meanwhile."""
    began = time.process_time()
    with serve(App()) as served, connect(served.port) as client, connect(served.port) as other:
        try:
            for _ in range(8):
                client.send(b"\r\n" * 262_144)
        except Ended:
            pass  # refused
        assert other.send(GET, b"\r\n").read_message().status == 200
    assert time.process_time() - began < 1.5, "CPU seconds for 4 MB"

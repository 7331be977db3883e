"""What becomes of an answer on the client's side: its head as it is, in a framing that the client knows, to its end."""

from __future__ import annotations

import pytest

from proxy.wire.interface import UpstreamResponse
from tests.support.rawhttp import End, Message, Peer, connect
from tests.unit.wire.serving import Hearing, Serve, Wired

HOST = b"Host: a\r\n"
LAST = b"Connection: close\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
OLD = b"GET / HTTP/1.0\r\n"


def ask(port: int, *data: bytes) -> tuple[bytes, Peer]:
    """All that comes back until the server ends, and the connection it came by."""
    with connect(port) as client:
        client.send(*data)
        return client.read_to_end(), client


class Saying(Wired):
    """Answers each complete request with a response and the pieces of its body."""

    def __init__(
        self, response: UpstreamResponse, *pieces: bytes, flushed: bool = False, trailers: tuple[bytes, ...] = ()
    ) -> None:
        super().__init__(self._say)
        self._response = response
        self._pieces = pieces
        self._flushed = flushed
        self._trailers = [(name, b"v") for name in trailers]

    def _say(self, heard: Hearing, word: str) -> None:
        if word != "end":
            return
        side, told = heard.side, self._response
        bodiless = told.bodiless or side.request.method == b"HEAD"
        side.start(
            UpstreamResponse(told.status, told.reason, list(told.headers), bodiless), side.request.takes_trailers
        )
        for piece in self._pieces if not bodiless else ():
            if self._flushed:
                side.flush()
            side.write(piece)
        heard.end(self._trailers)


def ok(
    *headers: tuple[bytes, bytes], status: int = 200, reason: bytes = b"OK", bodiless: bool = False
) -> UpstreamResponse:
    return UpstreamResponse(status, reason, list(headers), bodiless)


LENGTH_3 = (b"Content-Length", b"3")
CODING = (b"tRANSFER-encoding", b"Chunked")


def test_a_head_goes_out_as_it_is(serve: Serve) -> None:
    headers = [(b"X-b", b"1"), (b"Set-Cookie", b"a"), (b"e", b""), (b"x-B", b"\xe9"), (b"Set-Cookie", b"b"), LENGTH_3]
    with serve(Saying(ok(*headers, status=299, reason=b"\xe9 odd  so"), b"abc")) as served:
        answer, _ = ask(served.port, GET, LAST, b"\r\n")
    assert answer == (
        b"HTTP/1.1 299 \xe9 odd  so\r\nX-b: 1\r\nSet-Cookie: a\r\ne: \r\nx-B: \xe9\r\nSet-Cookie: b\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\nabc"
    )


@pytest.mark.parametrize("reason", [b"OK", b""])
@pytest.mark.parametrize("status", [200, 299, 429, 529, 599, 600, 999])
def test_any_status(serve: Serve, status: int, reason: bytes) -> None:
    with serve(Saying(ok(LENGTH_3, status=status, reason=reason), b"abc")) as served, connect(served.port) as client:
        message = client.send(GET, b"\r\n").read_message()
    assert (message.start, message.body) == (b"HTTP/1.1 %d %b" % (status, reason), b"abc")


@pytest.mark.parametrize("headers", [[], [CODING], [(b"A", b"b"), CODING, (b"C", b"d")]])
@pytest.mark.parametrize("flushed", [False, True])
def test_chunks(serve: Serve, headers: list[tuple[bytes, bytes]], flushed: bool) -> None:
    """Where the upstream's coding stood ours stands, else behind the rest."""
    app = Saying(ok(*headers), b"abc", b"x" * 20_000, b"d", flushed=flushed)
    with serve(app) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(GET, b"\r\n").read_message()
            assert message.chunks == [b"abc", b"x" * 20_000, b"d"]
            expected = headers or [(b"Transfer-Encoding", b"chunked")]
            told = [(name, b"chunked" if name == CODING[0] else value) for name, value in expected]
            assert message.headers == told
        answer, _ = ask(served.port, GET, LAST, b"\r\n")
    assert answer.endswith(
        b"Connection: close\r\n\r\n3\r\nabc\r\n4e20\r\n" + b"x" * 20_000 + b"\r\n1\r\nd\r\n0\r\n\r\n"
    )


def test_a_length_stays_without_chunks(serve: Serve) -> None:
    with serve(Saying(ok(LENGTH_3), b"a", b"bc")) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(GET, b"\r\n").read_message()
            assert (message.headers, message.body, message.chunks) == ([LENGTH_3], b"abc", None)


@pytest.mark.parametrize(
    "response",
    [
        ok(status=204, bodiless=True),
        ok(status=304, bodiless=True),
        ok(LENGTH_3, status=304, bodiless=True),
        ok((b"ETag", b'"x"'), LENGTH_3, status=304, bodiless=True),
    ],
)
def test_no_body_no_framing_but_what_it_says_of_itself(serve: Serve, response: UpstreamResponse) -> None:
    with serve(Saying(response)) as served, connect(served.port) as client:
        for _ in range(2):
            client.send(GET, b"\r\n")
            assert client.read_message().headers == response.headers
        answer, _ = ask(served.port, GET, LAST, b"\r\n")
    assert answer.endswith(b"\r\nConnection: close\r\n\r\n")
    assert b"ransfer-" not in answer


@pytest.mark.parametrize("framing", [LENGTH_3, CODING, (b"A", b"b")])
def test_an_answer_to_head(serve: Serve, framing: tuple[bytes, bytes]) -> None:
    with serve(Saying(ok(framing), b"abc")) as served, connect(served.port) as client:
        for _ in range(2):
            client.send(b"HEAD / HTTP/1.1\r\n", HOST, b"\r\n")
            message = client.read_message(bodiless=True)
            assert message.one("content-length") == (b"3" if framing is LENGTH_3 else None)
        message = client.send(GET, b"\r\n").read_message()
        assert message.body == b"abc", "nothing stood between"


# HTTP/1.0


@pytest.mark.parametrize("headers", [[], [CODING]])
@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
def test_http_1_0_gets_no_chunks(serve: Serve, connection: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    with serve(Saying(ok(*headers), b"abc", b"def")) as served:
        answer, client = ask(served.port, b"POST / HTTP/1.0\r\nContent-Length: 3\r\n", connection, b"\r\nabc")
    assert answer == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcdef"
    assert client.ended is End.FIN


def test_http_1_0_is_kept_where_it_asks_for_it_and_the_length_is_known(serve: Serve) -> None:
    with serve(Saying(ok(LENGTH_3), b"abc")) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(OLD, b"Connection: Keep-Alive\r\n\r\n").read_message()
            assert message.headers == [LENGTH_3, (b"Connection", b"keep-alive")]
            assert message.body == b"abc"
        message = client.send(OLD, b"\r\n").read_message()
        assert message.one("connection") == b"close"
        assert (client.read_to_end(), client.ended) == (b"", End.FIN)


def test_http_1_0_hears_no_interim_responses_and_no_trailers(serve: Serve) -> None:
    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.side.interim(ok(status=103, bodiless=True))
            heard.start()
            heard.side.write(b"abc")
            heard.end([(b"T", b"v")])

    with serve(Wired(say)) as served:
        assert ask(served.port, OLD, b"TE: trailers\r\n\r\n")[0] == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"


# Interim responses and trailers


def test_interim_responses(serve: Serve) -> None:
    def say(heard: Hearing, word: str) -> None:
        if word == "attached":
            heard.side.interim(ok(status=100, reason=b"Continue", bodiless=True))
            heard.side.flush()
            assert not heard.side.started
        elif word == "end":
            heard.side.interim(ok((b"Link", b"a"), (b"Link", b"b"), status=103, reason=b"", bodiless=True))
            heard.start(LENGTH_3)
            heard.side.write(b"abc")
            heard.end()

    with serve(Wired(say)) as served, connect(served.port) as client:
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\n", HOST, b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert client.read_message() == Message(b"HTTP/1.1 100 Continue", [], b"")
            client.send(b"hi")
            assert client.read_message() == Message(b"HTTP/1.1 103 ", [(b"Link", b"a"), (b"Link", b"b")], b"")
            assert client.read_message() == Message(b"HTTP/1.1 200 OK", [LENGTH_3], b"abc")


@pytest.mark.parametrize(("te", "trailers"), [(b"TE: trailers\r\n", [(b"T", b"v"), (b"t", b"v")]), (b"", [])])
def test_trailers_go_to_those_who_take_them(serve: Serve, te: bytes, trailers: list[tuple[bytes, bytes]]) -> None:
    with serve(Saying(ok(), b"abc", trailers=(b"T", b"t"))) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(GET, te, b"\r\n").read_message()
            assert (message.body, message.trailers) == (b"abc", trailers)


def test_trailers_behind_a_length_are_none(serve: Serve) -> None:
    with serve(Saying(ok(LENGTH_3), b"abc", trailers=(b"T",))) as served, connect(served.port) as client:
        for _ in range(2):
            assert client.send(GET, b"TE: trailers\r\n\r\n").read_message().body == b"abc"


# What is not on its way yet


def test_what_was_not_flushed_can_be_taken_back(serve: Serve) -> None:
    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.side.interim(ok(status=103, bodiless=True))
            heard.start((b"A", b"b"))
            heard.side.write(b"abc")
            heard.side.end([])
            heard.side.discard()
            assert not heard.side.started
            heard.start(LENGTH_3, status=503)
            heard.side.write(b"def")
            heard.end()

    with serve(Wired(say)) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(GET, b"\r\n").read_message()
            assert (message.status, message.headers, message.body) == (503, [LENGTH_3], b"def")


def test_what_was_flushed_cannot(serve: Serve) -> None:
    started: list[bool] = []

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start()
            heard.side.write(b"abc")
            started.append(heard.side.started)
            heard.side.flush()
            started.append(heard.side.started)
            heard.side.write(b"def")
            heard.side.end([])
            heard.side.discard()
            started.append(heard.side.started)
            heard.side.write(b"ghi")
            heard.end()

    with serve(Wired(say)) as served, connect(served.port) as client:
        for _ in range(2):
            assert client.send(GET, b"\r\n").read_message().chunks == [b"abc", b"ghi"]
    assert started == [False, True, True] * 2


# Breaking off


ENDS = {
    "1.0 until close": (OLD, [], End.RST),
    "1.0 with a length": (OLD, [(b"Content-Length", b"9")], End.FIN),
    "1.1 in chunks": (GET, [], End.FIN),
    "1.1 with a length": (GET, [(b"Content-Length", b"9")], End.FIN),
}


@pytest.mark.parametrize("size", [3, 3_000_000])
@pytest.mark.parametrize(("request_head", "headers", "end"), ENDS.values(), ids=ENDS)
def test_a_broken_answer_cannot_be_taken_for_a_whole_one(
    serve: Serve, request_head: bytes, headers: list[tuple[bytes, bytes]], end: End, size: int
) -> None:
    """What was on its way arrives all the same."""
    if headers:
        headers = [(b"Content-Length", b"%d" % (size + 1))]

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start(*headers)
            heard.side.write(b"x" * size)
            heard.side.flush()
            heard.side.write(b"never to be seen")
            heard.abort()

    app = Wired(say)
    with serve(app) as served:
        answer, client = ask(served.port, request_head, b"\r\n")
    assert answer.count(b"x") == size
    assert not answer.endswith(b"0\r\n\r\n")
    assert b"seen" not in answer
    assert client.ended is end


@pytest.mark.parametrize("request_head", [GET, OLD])
def test_breaking_off_before_anything_was_said(serve: Serve, request_head: bytes) -> None:
    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start()
            heard.side.write(b"abc")
            heard.abort()

    with serve(Wired(say)) as served:
        assert ask(served.port, request_head, b"\r\n")[0] == b""


def test_breaking_an_answer_with_another_request_behind_it(serve: Serve) -> None:
    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start()
            heard.side.write(b"abc")
            heard.side.flush()
            heard.abort()

    app = Wired(say)
    with serve(app) as served:
        answer, client = ask(served.port, b"GET /1 HTTP/1.1\r\n", HOST, b"\r\nGET /2 HTTP/1.0\r\n\r\n")
    assert (answer.count(b"HTTP/1.1 200 OK"), client.ended) == (1, End.FIN)
    assert len(app.heard) == 1, "the other was never begun"


def test_an_answer_that_closes(serve: Serve) -> None:
    with serve(Saying(ok((b"connection", b"x, Close"), LENGTH_3), b"abc")) as served:
        answer, client = ask(served.port, GET, b"\r\n", GET, b"\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    assert client.ended is End.FIN

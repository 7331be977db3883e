"""How a client's connection ends: it leaves, has said all, is told to go, or still speaks when all is said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from proxy.wire.server import HALF_CLOSED_GRACE
from tests.support.rawhttp import End, connect, until
from tests.unit.wire.listening import eventually
from tests.unit.wire.serving import App, Hearing, Serve, Wired, WiredInATask, answer

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
MEGABYTE = 1 << 20


def begun(heard: Hearing, word: str) -> None:
    """Says a head and a piece, and no more."""
    if word == "attached":
        heard.start()
        heard.side.write(b"begin")
        heard.side.flush()


def silent(heard: Hearing, word: str) -> None:
    """Says nothing."""


# It leaves


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("react", [begun, silent])
@pytest.mark.parametrize(
    "sent", [GET, POST + b"Content-Length: 9\r\n\r\nabc", POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"]
)
def test_who_leaves_is_missed_at_once(
    serve: Serve, react: Callable[[Hearing, str], None], sent: bytes, reset: bool
) -> None:
    app = Wired(react)
    with serve(app) as served:
        client = connect(served.port)
        client.send(sent)
        heard = app.wait()
        if react is begun:
            client.read_until(b"begin\r\n")
        if reset:
            client.rst()
        else:
            client.close()
        until(lambda: heard.log[-1] in {"lost", "lost by a reset"}, "it is missed")
        if reset:
            assert heard.log[-1] == "lost by a reset"
        until(lambda: not served.state.connections, "the connection is closed")
        app.do(lambda: heard.side.write(b"late"), heard.side.flush, heard.side.pause_upload, heard.side.resume_upload)
        app.do(heard.end, heard.side.abort)
        assert heard.log.count("lost") + heard.log.count("lost by a reset") == 1


def test_who_leaves_before_anybody_listens_is_missed_too(serve: Serve) -> None:
    """The application may take a while before it attaches itself."""

    async def gone() -> None:
        client.rst()
        await eventually(lambda: not served.state.connections, "the connection is closed")

    app = WiredInATask(silent, gone)
    with serve(app) as served:
        client = connect(served.port)
        client.send(POST + b"Content-Length: 9\r\n\r\nabc")
        heard = app.wait()
        heard.waits_for("lost by a reset")
        assert (heard.log, heard.body) == (["attached", "lost by a reset"], b"abc")


@pytest.mark.parametrize("reset", [False, True])
def test_who_leaves_while_it_is_not_read_from_is_missed(serve: Serve, reset: bool) -> None:
    """The event loop does not look at a connection that it does not read."""

    def pause(heard: Hearing, word: str) -> None:
        if word == "attached":
            heard.side.pause_upload()

    app = Wired(pause)
    with serve(app) as served:
        client = connect(served.port)
        client.send(POST, b"Content-Length: 90000000\r\n\r\n")
        heard = app.wait()
        client.send(b"not read")
        if reset:
            client.rst()
        else:
            client.close()
        until(lambda: "lost" in heard.log[-1], "it is missed")


# It has said all


@pytest.mark.parametrize("late", [False, True], ids=["before the answer", "amid the answer"])
def test_who_has_said_all_still_hears_the_answer(serve: Serve, late: bool) -> None:
    def say(heard: Hearing, word: str) -> None:
        if word == "end" and late:
            begun(heard, "attached")
        if word == "end":
            go_on(heard)

    def go_on(heard: Hearing) -> None:
        if not served.connections[0]._half_closed:
            asyncio.get_running_loop().call_later(0.002, go_on, heard)
            return
        if not late:
            heard.start()
        heard.side.write(b"x" * MEGABYTE)
        heard.end()

    app = Wired(say)
    with serve(app) as served, connect(served.port) as client:
        client.send(POST, b"Content-Length: 3\r\n\r\nabc")
        if late:
            client.read_until(b"begin\r\n")
        client.fin()
        assert client.read_to_end().endswith(b"x" * MEGABYTE + b"\r\n0\r\n\r\n")
        assert client.ended is End.FIN
        assert "lost" not in app.heard[0].log


def test_who_has_said_all_is_not_missed_where_it_is_us_who_stood_still(serve: Serve) -> None:
    """What came meanwhile is looked at first: only silence while we could have heard counts."""

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            stand_still(heard)

    def stand_still(heard: Hearing) -> None:
        loop = asyncio.get_running_loop()
        if not served.connections[0]._half_closed:
            loop.call_later(0.002, stand_still, heard)
            return
        time.sleep(2 * HALF_CLOSED_GRACE)
        loop.call_later(HALF_CLOSED_GRACE / 4, go_on, heard)

    def go_on(heard: Hearing) -> None:
        if heard.log[-1] == "end":
            heard.start()
            heard.side.write(b"at last")
            heard.end()

    with serve(Wired(say)) as served, connect(served.port) as client:
        client.send(POST, b"Content-Length: 3\r\n\r\nabc").fin()
        assert client.read_message().body == b"at last"


def test_who_has_said_all_and_takes_what_comes_is_there(serve: Serve) -> None:
    """For longer than it takes to notice who is gone."""
    pieces = 100

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start()
            go_on(heard, pieces)

    def go_on(heard: Hearing, left: int) -> None:
        if not left:
            heard.end()
            return
        heard.side.write(b"more")
        heard.side.flush()
        asyncio.get_running_loop().call_later(0.02, go_on, heard, left - 1)

    app = Wired(say)
    with serve(app) as served, connect(served.port) as client:
        client.send(GET).fin()
        message = client.read_message()
        assert message.chunks == [b"more"] * pieces
        assert "lost" not in app.heard[0].log


def test_who_has_said_all_and_takes_nothing_is_gone(serve: Serve) -> None:
    app = Wired(begun)
    with serve(app) as served, connect(served.port) as client:
        client.send(GET).read_until(b"begin\r\n")
        client.fin()
        app.heard[0].waits_for("lost")
        assert client.read_to_end() == b""


def test_an_end_within_a_request_is_the_client_leaving(serve: Serve) -> None:
    app = Wired(silent)
    with serve(app) as served, connect(served.port) as client:
        client.send(POST, b"Content-Length: 9\r\n\r\nabc").fin()
        assert client.read_to_end() == b""
        assert app.wait().log[-1] == "lost"
        assert "end" not in app.heard[0].log


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HT", GET[:-1]])
def test_an_end_where_no_request_is(serve: Serve, sent: bytes) -> None:
    app = App()
    with serve(app) as served, connect(served.port) as client:
        client.send(sent).fin()
        assert (client.read_to_end(), client.ended) == (b"", End.FIN)
    assert (app.scopes, served.refused) == ([], [])


# It still speaks when all is said


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n"]
)
def test_an_early_answer_is_not_taken_away_by_a_reset(serve: Serve, framing: bytes) -> None:
    """What still comes is swallowed: the kernel would answer unread bytes with a reset."""

    def refuse(heard: Hearing, word: str) -> None:
        if word == "attached":
            heard.start((b"Content-Length", b"2"), status=413)
            heard.side.write(b"no")
            heard.end()

    app = Wired(refuse)
    with serve(app) as served, connect(served.port) as client:
        client.send(POST, framing)
        app.wait()
        for _ in range(20):
            client.send(b"x" * 100_000)
        assert client.read_message().body == b"no"
        assert (client.read_to_end(), client.ended) == (b"", End.FIN)
        client.close()
        until(lambda: not served.state.connections, "the connection is closed")
        assert app.heard[0].body.count(b"x") < 2_000_000, "nothing is told after the answer"


def test_who_goes_on_speaking_is_not_listened_to_for_ever(serve: Serve) -> None:
    def refuse(heard: Hearing, word: str) -> None:
        if word == "attached":
            answer(heard, "end")

    with serve(Wired(refuse)) as served, connect(served.port) as client:
        client.send(POST, b"Content-Length: 100000000\r\n\r\n").read_message()
        until(lambda: not served.state.connections, "the connection is closed")


# It is told to go


def test_idle_connections_close_at_once(serve: Serve) -> None:
    app = App(headers=[(b"Content-Length", b"0")])
    with serve(app) as served, connect(served.port) as new, connect(served.port) as used, connect(served.port) as half:
        used.send(GET).read_message()
        half.send(b"GET / HT")
        until(lambda: len(served.state.connections) == 3, "all are there")
        until(lambda: any(each._held for each in served.connections), "the half of a head was read")
        served.shut_down()
        for client in (new, used, half):
            assert (client.read_to_end(), client.ended) == (b"", End.FIN)


@pytest.mark.parametrize("react", [begun, silent])
def test_what_is_under_way_comes_to_its_end(serve: Serve, react: Callable[[Hearing, str], None]) -> None:
    app = Wired(react)
    with serve(app) as served, connect(served.port) as client:
        client.send(GET, GET)
        heard = app.wait()
        if react is begun:
            client.read_until(b"begin\r\n")
        served.shut_down()
        if react is silent:
            app.do(heard.start)
        app.do(lambda: heard.side.write(b"the last"), heard.end)
        said = client.read_to_end()
        assert said.endswith(b"8\r\nthe last\r\n0\r\n\r\n")
        assert (b"Connection: close\r\n" in said) == (react is silent)
        assert client.ended is End.FIN
    assert len(app.heard) == 1


def test_an_upload_under_way_comes_to_its_end(serve: Serve) -> None:
    app = Wired()
    with serve(app) as served, connect(served.port) as client:
        client.send(POST, b"Content-Length: 6\r\n\r\nabc")
        app.wait()
        served.shut_down()
        client.send(b"def")
        message = client.read_message()
        assert (message.body, message.one("connection")) == (b"abcdef", b"close")
        assert client.read_to_end() == b""

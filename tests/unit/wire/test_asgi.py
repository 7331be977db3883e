"""Ordinary ASGI applications on the client's side: they stream both ways, hear who leaves, and fail for themselves."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.rawhttp import DEADLINE, End, TooLate, connect, until
from tests.unit.wire.serving import App, Serve

MEGABYTE = 1 << 20
HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
START = {"type": "http.response.start", "status": 200, "headers": []}


def piece(data: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What these applications do wrong is logged, and done on purpose."""
    logger = logging.getLogger("forward")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


# Streaming


def test_each_piece_arrives_before_the_next_is_sent(serve: Serve) -> None:
    taken = threading.Semaphore(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for number in range(10):
            await send(piece(b"event %d" % number))
            await asyncio.to_thread(taken.acquire, timeout=DEADLINE)
        await send(piece(b"", more=False))

    with serve(app) as served, connect(served.port) as client:
        client.send(GET).read_head()
        for number in range(10):
            assert client.read_until(b"\r\n%b\r\n" % b"event %d" % number)
            assert not client.has_arrived()
            taken.release()
        assert client.read_exactly(5) == b"0\r\n\r\n"


def test_a_head_goes_out_with_the_first_piece_even_of_nothing(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b""))
        await asyncio.to_thread(go_on.wait, DEADLINE)
        await send(piece(b"x", more=False))

    go_on = threading.Event()
    with serve(app) as served, connect(served.port) as client:
        client.send(GET).read_head()
        assert not client.has_arrived()
        go_on.set()
        assert client.read_exactly(11) == b"1\r\nx\r\n0\r\n\r\n"


def test_full_duplex(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            if message["body"] or not more:
                await send(piece(message["body"].upper(), more))

    with serve(app) as served, connect(served.port) as client:
        client.send(POST, b"Transfer-Encoding: chunked\r\n\r\n")
        for number in range(10):
            client.send(b"7\r\npiece %d\r\n" % number).read_until(b"7\r\nPIECE %d\r\n" % number)
        client.send(b"0\r\n\r\n").read_until(b"0\r\n\r\n")
        client.send(POST, b"Content-Length: 1\r\n\r\nx")
        assert client.read_message().body == b"X"


def test_receiving_and_sending_in_two_tasks(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            heard.set()

        listening = asyncio.create_task(listen())
        await send(START)
        for _ in range(3):
            await asyncio.sleep(0)
            await send(piece(b"x"))
        await send(piece(b"", more=False))
        await listening

    heard = threading.Event()
    with serve(app) as served, connect(served.port) as client:
        assert client.send(GET).read_message().body == b"xxx"
        assert heard.wait(DEADLINE), "after the response `receive` tells that there is nobody any more"


# Back-pressure


@pytest.mark.parametrize("count", [1, 4])
def test_a_large_answer_lets_the_application_go(serve: Serve, count: int) -> None:
    """When all is written, whether it was taken already or not."""
    body = b"x" * (4 * MEGABYTE)
    app = App(body=body, headers=[(b"Content-Length", b"%d" % len(body))])
    with serve(app) as served, connect(served.port, receive_buffer=65536) as client:
        for _ in range(count):
            assert len(client.send(GET).read_message().body) == len(body)
        until(lambda: not served.state.tasks, "the application has returned")


def test_a_client_that_does_not_read_holds_the_application_back(serve: Serve) -> None:
    pieces = 64
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(pieces):
            await send(piece(b"x" * MEGABYTE))
            sent += 1
        await send(piece(b"", more=False))

    with serve(app) as served, connect(served.port, receive_buffer=65536) as client:
        client.send(GET)
        until(lambda: sent > 0, "it has begun")
        with pytest.raises(TooLate):
            until(lambda: sent >= pieces // 2, "most is sent to a client that does not read", 1.0)
        assert len(client.read_message().body) == pieces * MEGABYTE
        until(lambda: not served.state.tasks, "the application has returned")


def test_an_application_that_does_not_receive_holds_the_client_back(serve: Serve) -> None:
    size = 32 * MEGABYTE

    async def app(scope: Any, receive: Any, send: Any) -> None:
        taken = len((await receive())["body"])
        await asyncio.to_thread(go_on.wait, DEADLINE)
        while taken < size:
            taken += len((await receive())["body"])
        await send(START)
        await send(piece(b"%d" % taken, more=False))

    go_on = threading.Event()
    with serve(app) as served, connect(served.port) as client:
        client.send(POST, b"Content-Length: %d\r\n\r\n" % size)
        sent = client.fill(b"x" * 65536)
        assert sent < size
        go_on.set()
        client.send(b"x" * (size - sent))
        assert client.read_message().body == b"%d" % size


# Who leaves


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_who_leaves_is_told_by_receive_and_by_send(serve: Serve, begun: bool, reset: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if begun:
            await send(START)
            await send(piece(b"begin"))
        ready.set()
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        try:
            await send(piece(b"late") if begun else START)
        except OSError as error:
            seen.append(type(error).__name__)
            raise

    ready = threading.Event()
    seen: list[str] = []
    with serve(app) as served:
        client = connect(served.port)
        client.send(GET)
        assert ready.wait(DEADLINE)
        if begun:
            client.read_until(b"begin\r\n")
        if reset:
            client.rst()
        else:
            client.close()
        until(lambda: len(seen) == 3, "the application has heard of it")
        until(lambda: not served.state.tasks, "and has returned")
    assert seen == ["http.disconnect", "http.disconnect", "ConnectionResetError"]


def test_who_leaves_while_it_is_waited_for_lets_go(serve: Serve) -> None:
    """An application that waits to go on sending must not wait for ever."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while True:
            await send(piece(b"x" * MEGABYTE))
            await asyncio.sleep(0)

    with serve(app) as served:
        client = connect(served.port, receive_buffer=65536)
        client.send(GET).read_head()
        client.rst()
        until(lambda: not served.state.tasks, "the application has returned")


def test_send_tells_of_who_left_before_the_event_loop_does(serve: Serve) -> None:
    """Else an application that only ever sends would never let the loop know, and everybody would wait."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"begin"))
        assert left.wait(DEADLINE)  # and the event loop with it
        try:
            for _ in range(1000):
                await send(piece(b"late"))
        except OSError:
            raised.set()
            raise

    left, raised = threading.Event(), threading.Event()
    with serve(app) as served:
        client = connect(served.port)
        client.send(GET).read_until(b"begin\r\n")
        client.rst()
        left.set()
        until(lambda: not served.state.tasks, "the application has returned")
    assert raised.is_set()


@pytest.mark.parametrize("bad", [b"zz\r\n", b""], ids=["a bad chunk", "an end"])
def test_an_upload_that_fails_is_a_client_that_left(serve: Serve, bad: bytes) -> None:
    """Whoever wants to answer it uses the extension."""
    app = App()
    with serve(app) as served, connect(served.port) as client:
        client.send(POST, b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        until(lambda: bool(app.scopes), "it has begun")
        client.send(bad) if bad else client.fin()
        assert client.read_to_end() == b""
        until(lambda: not served.state.tasks, "the application has returned")
    assert app.bodies == []


# Applications that fail


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Returns without a word."""


async def raising(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("sk-Secret")


async def raising_behind_the_start(scope: Any, receive: Any, send: Any) -> None:
    await send({**START, "headers": [(b"content-length", b"3")]})
    raise ValueError


async def confused(scope: Any, receive: Any, send: Any) -> None:
    await send(piece(b"a body before its head"))


@pytest.mark.parametrize("app", [silent, raising, raising_behind_the_start, confused])
def test_without_a_word_it_is_a_500(serve: Serve, app: Any) -> None:
    with serve(app) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(GET).read_message()
            assert (message.status, message.body) == (500, b"Internal Server Error")
            client.send(b"HEAD / HTTP/1.1\r\n", HOST, b"\r\n")
            assert client.read_message(bodiless=True).status == 500


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("length", [b"", b"content-length"])
@pytest.mark.parametrize(("version", "end"), [(b"1.1", End.FIN), (b"1.0", End.RST)])
def test_what_was_begun_is_broken_off(serve: Serve, version: bytes, end: End, length: bytes, raises: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(length, b"9")] if length else []})
        await send(piece(b"abc"))
        if raises:
            raise ValueError

    with serve(app) as served, connect(served.port) as client:
        said = client.send(b"GET / HTTP/" + version + b"\r\n" + HOST + b"\r\n").read_to_end()
        assert b"abc" in said
        assert not said.endswith(b"0\r\n\r\n")
        assert client.ended is (End.FIN if length else end)


def test_what_comes_behind_the_end_changes_nothing(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"all", more=False))
        await send(piece(b"and more", more=False))
        raise ValueError

    with serve(app) as served, connect(served.port) as client:
        for _ in range(2):
            assert client.send(GET).read_message().body == b"all"
            until(lambda: not served.state.tasks, "the application has returned")
            assert not client.has_arrived(0.05)


def test_failures_are_logged_by_place_and_quote_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "forward"), serve(raising) as served, connect(served.port) as client:
        client.send(GET).read_message()
        until(lambda: bool(caplog.messages), "it is logged")
    (message,) = caplog.messages
    assert message.startswith("the application failed (ValueError at test_asgi.py:")
    assert "Secret" not in caplog.text

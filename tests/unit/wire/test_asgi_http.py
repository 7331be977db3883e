"""What HTTP asks of an ordinary application's answer, and what a framework finds: Starlette runs as anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.rawhttp import DEADLINE, End, Ended, chunked, connect, until
from tests.unit.wire.serving import App, Serve

MEGABYTE = 1 << 20
HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
START = {"type": "http.response.start", "status": 200, "headers": []}


def piece(data: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_an_answer_to_head_has_no_body(serve: Serve) -> None:
    app = App(body=b"hello", headers=[(b"content-length", b"5")])
    with serve(app) as served, connect(served.port) as client:
        for _ in range(2):
            client.send(b"HEAD / HTTP/1.1\r\n", HOST, b"\r\n")
            assert client.read_message(bodiless=True).one("content-length") == b"5"
        assert client.send(GET).read_message().body == b"hello"


@pytest.mark.parametrize("status", [204, 304])
def test_no_body_where_none_may_be(serve: Serve, status: int) -> None:
    app = App(status, body=b"hello")
    with serve(app) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(GET).read_message()
            assert (message.status, message.headers) == (status, [])


def test_http_1_0(serve: Serve) -> None:
    app = App(body=b"hello")
    with serve(app) as served, connect(served.port) as client:
        said = client.send(b"GET / HTTP/1.0\r\n\r\n").read_to_end()
    assert said.endswith(b"\r\nConnection: close\r\n\r\nhello")
    assert app.scopes[0]["http_version"] == "1.0"


@pytest.mark.parametrize("takes", [False, True])
def test_trailers(serve: Serve, takes: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await send(piece(b"abc", more=False))
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False})

    with serve(app) as served, connect(served.port) as client:
        for _ in range(2):
            message = client.send(
                b"GET / HTTP/1.1\r\n", HOST, b"TE: trailers\r\n" if takes else b"", b"\r\n"
            ).read_message()
            assert (message.body, message.trailers) == (b"abc", [(b"x-sum", b"1")])


def test_a_client_that_waits_for_a_100_gets_one_from_who_reads(serve: Serve) -> None:
    """RFC 9110, 10.1.1: else both would wait."""
    with serve(App()) as served, connect(served.port, deadline=5.0) as client:
        client.send(POST, b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.read_message().status == 100
        client.send(b"hi")
        assert client.read_message().body == b"hi"


def test_a_client_that_waits_for_a_100_hears_a_refusal_instead(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "status": 413})
        await send(piece(b"no", more=False))

    with serve(app) as served, connect(served.port) as client:
        client.send(POST, b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        message = client.read_message()
        assert (message.status, message.body) == (413, b"no")
        assert client.read_to_end() == b""


def test_an_answer_without_reading_the_request(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"ok", more=False))

    with serve(app) as served, connect(served.port) as client:
        for _ in range(3):
            client.send(POST, b"Content-Length: 5\r\n\r\nhello")
            assert client.read_message().body == b"ok"
        client.send(POST, b"Content-Length: 90000000\r\n\r\n")
        try:
            client.send(b"x" * MEGABYTE)
        except Ended:
            pass  # nobody wants it
        assert client.read_message().body == b"ok"
        assert (client.read_to_end(), client.ended) == (b"", End.FIN)


def test_the_scope_is_as_the_specification_says(serve: Serve) -> None:
    app = App()
    with serve(app) as served, connect(served.port) as client:
        lines = b"Host: a\r\nContent-TYPE: text/Plain\r\nX-B: 1\r\nx-b: 2\r\n"
        client.send(b"POST /caf%C3%A9%2f%20x?a=%20b HTTP/1.1\r\n", lines, b"\r\n").read_message()
    scope = app.scopes[0]
    assert (scope["type"], scope["http_version"], scope["method"], scope["scheme"]) == ("http", "1.1", "POST", "http")
    assert scope["headers"] == [(b"host", b"a"), (b"content-type", b"text/Plain"), (b"x-b", b"1"), (b"x-b", b"2")]
    assert (scope["raw_path"], scope["query_string"]) == (b"/caf%C3%A9%2f%20x", b"a=%20b")
    assert scope["path"] == "/caf\u00e9/ x"


# Starlette


class Site:
    """A small site. `go_on` lets its stream go on; `left` are the streams whose clients left."""

    def __init__(self) -> None:
        self.go_on = threading.Semaphore(0)
        self.left = threading.Event()
        self.app = Starlette(
            routes=[
                Route("/", lambda _: PlainTextResponse("hello")),
                Route("/stream", self._stream),
                Route("/items/{item}", self._item, methods=["POST"]),
                Route("/upload", self._upload, methods=["POST"]),
                Route("/broken", self._broken),
            ]
        )

    async def _stream(self, request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            try:
                for number in range(3):
                    yield b"data: %d\n\n" % number
                    await asyncio.to_thread(self.go_on.acquire, timeout=DEADLINE)
            finally:
                if await request.is_disconnected():
                    self.left.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _item(self, request: Request) -> Response:
        if request.headers["content-type"] != "application/json":
            raise HTTPException(415)
        found = {"item": request.path_params["item"], "q": request.query_params["q"], "sent": await request.json()}
        return JSONResponse(found, 201, {"X-Seen": "yes"})

    async def _upload(self, request: Request) -> Response:
        size = 0
        try:
            async for data in request.stream():
                size += len(data)
        except ClientDisconnect:
            self.left.set()
            raise
        return PlainTextResponse(str(size))

    async def _broken(self, request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: 0\n\n"
            raise ConnectionResetError("as an upstream may do it")

        return StreamingResponse(events())


def test_plain_pages(serve: Serve) -> None:
    with serve(Site().app) as served, connect(served.port) as client:
        for _ in range(3):
            message = client.send(GET).read_message()
            assert (message.status, message.body, message.one("content-length")) == (200, b"hello", b"5")
            client.send(b"HEAD / HTTP/1.1\r\n", HOST, b"\r\n")
            assert client.read_message(bodiless=True).one("content-length") == b"5"
            assert client.send(b"GET /none HTTP/1.1\r\n", HOST, b"\r\n").read_message().status == 404
            assert client.send(POST, b"Content-Length: 0\r\n\r\n").read_message().status == 405


def test_a_page_that_looks_at_its_request(serve: Serve) -> None:
    with serve(Site().app) as served, connect(served.port) as client:
        head = b"POST /items/one?q=two%20three HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
        for framing in (b"Content-Length: 8\r\n\r\n" + b'{"a": 1}', b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS):
            message = client.send(head, framing).read_message()
            assert (message.status, message.one("x-seen")) == (201, b"yes")
            assert message.body == b'{"item":"one","q":"two three","sent":{"a":1}}'


CHUNKS = chunked(b'{"a"', b": 1}")


def test_a_streaming_response(serve: Serve) -> None:
    site = Site()
    with serve(site.app) as served, connect(served.port) as client:
        for _ in range(2):
            start, headers = client.send(b"GET /stream HTTP/1.1\r\n", HOST, b"\r\n").read_head()
            assert (b" 200 " in start, (b"Transfer-Encoding", b"chunked") in headers) == (True, True)
            for number in range(3):
                assert client.read_until(b"data: %d\n\n\r\n" % number) == b"9\r\ndata: %d\n\n\r\n" % number
                assert not client.has_arrived(), "the next waits for us"
                site.go_on.release()
            assert client.read_exactly(5) == b"0\r\n\r\n"


def test_a_streaming_response_whose_client_leaves(serve: Serve) -> None:
    site = Site()
    with serve(site.app) as served:
        client = connect(served.port)
        client.send(b"GET /stream HTTP/1.1\r\n", HOST, b"\r\n").read_until(b"data: 0\n\n\r\n")
        client.rst()
        until(lambda: not served.state.connections, "the connection is closed")
        site.go_on.release()
        until(lambda: not served.state.tasks, "the application has returned")
        assert site.left.wait(DEADLINE)


def test_a_streaming_response_that_breaks(serve: Serve) -> None:
    with serve(Site().app) as served, connect(served.port) as client:
        said = client.send(b"GET /broken HTTP/1.1\r\n", HOST, b"\r\n").read_to_end()
        assert said.endswith(b"data: 0\n\n\r\n"), "and no last chunk"


def test_an_upload(serve: Serve) -> None:
    site = Site()
    with serve(site.app) as served, connect(served.port) as client:
        head = b"POST /upload HTTP/1.1\r\n" + HOST
        client.send(head, b"Content-Length: %d\r\n\r\n" % (4 * MEGABYTE), b"x" * (4 * MEGABYTE))
        assert client.read_message().body == b"%d" % (4 * MEGABYTE)
        client.send(head, b"Content-Length: 10\r\n\r\nabc")
        client.rst()
        assert site.left.wait(DEADLINE)
        until(lambda: not served.state.tasks, "the application has returned")

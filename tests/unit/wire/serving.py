"""Applications on the client's side of the wire, and what serves them: the protocol alone, without uvicorn's server."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from proxy.wire.interface import RawHeaders, RequestError, Upload, UpstreamResponse
from proxy.wire.limits import Limits
from proxy.wire.server import ServerProtocol
from proxy.wire.server_exchange import EXTENSION, ServerExchange
from tests.support.rawhttp import DEADLINE, until
from tests.unit.wire.listening import eventually

Asgi = Callable[[Any, Any, Any], Any]


class App:
    """An ordinary application: reads every request, then answers it with `head` and its own body, or else `body`."""

    def __init__(self, status: int = 200, body: bytes | None = None, **head: Any) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self._start = {"type": "http.response.start", "status": status, "headers": [], **head}
        self._body = body

    @property
    def sides(self) -> list[ServerExchange]:
        return [scope["extensions"][EXTENSION] for scope in self.scopes]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        await self.answer(send, body)

    async def answer(self, send: Any, body: bytes) -> None:
        await send(self._start)
        await send({"type": "http.response.body", "body": body if self._body is None else self._body})


class Hearing:
    """A wire.interface.ClientListener; `log` holds words in the order in which they were heard, from `attached` on."""

    def __init__(self, side: ServerExchange, react: Callable[[Hearing, str], None]) -> None:
        self.side = side
        self.log: list[str] = []
        self.parts: list[bytes] = []
        self.trailers: RawHeaders = []
        self.error: RequestError | None = None
        self.over = asyncio.Event()
        self._react = react

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def attach(self) -> None:
        upload: Upload = self.side.attach(self)
        self.parts.append(upload.body)
        self.trailers = upload.trailers or []
        self._note("attached")
        if upload.complete:
            self._note("end")

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)
        self._note("body" if data else "an empty body")

    def on_request_end(self, trailers: RawHeaders) -> None:
        self.trailers = trailers
        self._note("end")

    def on_request_failed(self, error: RequestError) -> None:
        self.error = error
        self._note("failed")

    def on_lost(self, *, reset: bool) -> None:
        self._note("lost by a reset" if reset else "lost")
        self.over.set()

    def pause_response(self) -> None:
        self._note("pause")

    def resume_response(self) -> None:
        self._note("resume")

    def waits_for(self, word: str, count: int = 1) -> None:
        """In the test's own thread, until a word was heard so many times."""
        until(lambda: self.log.count(word) >= count, f"{word!r} after {self.log}")

    def start(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        bodiless = self.side.request.method == b"HEAD"
        self.side.start(UpstreamResponse(status, b"OK", list(headers), bodiless), self.side.request.takes_trailers)

    def end(self, trailers: RawHeaders | None = None) -> None:
        self.side.end(trailers or [])
        self.side.flush()
        self.over.set()

    def abort(self) -> None:
        self.side.abort()
        self.over.set()

    def _note(self, word: str) -> None:
        assert "lost" not in self.log, f"{word} after it was lost"
        self.log.append(word)
        self._react(self, word)


def answer(heard: Hearing, word: str) -> None:
    """Sends what came back when all of it is there."""
    if word == "end":
        heard.start((b"Content-Length", b"%d" % len(heard.body)))
        if heard.body:
            heard.side.write(heard.body)
        heard.end()


class Wired:
    """An application that uses the wire's extension, and is given requests without a task; `react` is called in the
    loop's thread with each word."""

    def __init__(self, react: Callable[[Hearing, str], None] = answer) -> None:
        self.heard: list[Hearing] = []
        self._react = react
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self, side: ServerExchange) -> Hearing:
        """A wire.server.Take."""
        self._loop = asyncio.get_running_loop()
        heard = Hearing(side, self._react)
        self.heard.append(heard)
        heard.attach()
        return heard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it is given requests without a task")

    def wait(self, count: int = 1) -> Hearing:
        """In the test's own thread, until there were so many requests: the last of them."""
        until(lambda: len(self.heard) >= count and bool(self.heard[-1].log), f"{count} requests")
        return self.heard[count - 1]

    def do(self, *steps: Callable[[], None]) -> None:
        """In the test's own thread: take steps in the loop's. Returns when they are taken."""
        assert self._loop is not None
        done = threading.Event()

        def take() -> None:
            for step in steps:
                step()
            done.set()

        self._loop.call_soon_threadsafe(take)
        assert done.wait(DEADLINE), "a step failed"


class WiredInATask(Wired):
    """The same where the server only knows ASGI. `before` is awaited first."""

    def __init__(
        self, react: Callable[[Hearing, str], None] = answer, before: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        super().__init__(react)
        self._before = before

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._before is not None:
            await self._before()
        await self.take(scope["extensions"][EXTENSION]).over.wait()


def refuse(error: RequestError) -> tuple[bytes, bytes]:
    """As forward's, but plain."""
    body = f"{error.kind}: {error}".encode()
    return b"HTTP/1.1 %d Refused\r\nContent-Length: %d\r\n" % (error.status, len(body)), body


class Served:
    """What serves an application; `refused` are the requests that never reached it."""

    def __init__(self, app: Asgi, limits: Limits, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.port = int(sock.getsockname()[1])
        self.state = ServerState()
        self.refused: list[RequestError] = []
        self._config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
        self._config.load()
        self._take = app.take if isinstance(app, Wired) and not isinstance(app, WiredInATask) else None
        self._limits = limits
        self._sock = sock
        self._tls = tls
        self._started = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop

    async def serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(self._protocol, sock=self._sock, ssl=self._tls)
        self._started.set()
        await self._stop.wait()
        server.close()
        self._shut_down()
        try:
            await eventually(lambda: not self.state.connections and not self.state.tasks, "all is served")
        finally:  # or the thread would not end either
            for task in self.state.tasks:
                task.cancel()
            for connection in self.connections:
                connection._transport.abort()

    def wait(self) -> None:
        assert self._started.wait(DEADLINE)

    @property
    def connections(self) -> list[ServerProtocol]:
        return list(cast("Any", self.state.connections))  # uvicorn names its own protocols only

    def shut_down(self) -> None:
        """In the test's own thread, as uvicorn does it when it is told to stop; returns when it is told."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._shut_down)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(DEADLINE)

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    def set(self, event: asyncio.Event) -> None:
        self._loop.call_soon_threadsafe(event.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    def _protocol(self) -> ServerProtocol:
        return ServerProtocol(self._limits, self._refuse, self._config, self.state, {"key": "value"}, take=self._take)

    def _refuse(self, error: RequestError) -> tuple[bytes, bytes]:
        self.refused.append(error)
        return refuse(error)

    def _shut_down(self) -> None:
        for connection in list(self.state.connections):
            connection.shutdown()


@contextmanager
def running(
    factory: Callable[[], asyncio.AbstractEventLoop],
    app: Asgi,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Served]:
    """Serves an application on a port, in a thread with a loop of its own; fails where a callback failed."""
    complaints: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, asyncio.Runner(loop_factory=factory) as runner:
        served = Served(app, limits or Limits(), listener, tls)
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(repr(context)))
        thread = threading.Thread(target=runner.run, args=(served.serve(),), daemon=True)
        thread.start()
        try:
            served.wait()
            yield served
        finally:
            served.stop()
            thread.join(2 * DEADLINE)
            assert not thread.is_alive()
    assert complaints == []


Serve = Callable[..., AbstractContextManager[Served]]

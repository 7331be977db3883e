"""The data port's application behind a server: the wire's own, or one of uvicorn's that know nothing of it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import uvicorn
import uvloop

from proxy.exchange import End, Origin, WireEnd
from proxy.forward.access import Access
from proxy.forward.app import App
from proxy.forward.held import HeldKey
from proxy.forward.policy import Policy, Rules
from proxy.forward.redact import Redactor
from proxy.forward.routes import Destination
from proxy.forward.uploads import Home
from proxy.journal import record
from proxy.wire.interface import Timeouts
from proxy.wire.limits import Limits
from proxy.wire.pool import PooledUpstream
from proxy.wire.server import ServerProtocol
from tests.support.rawhttp import DEADLINE, until
from tests.unit.forward.tape import Stage, decoded

OURS = "ours"
STOCK = ("h11", "httptools")
HOST = b"Host: wiretape.test\r\n"


def destination(port: int, *, drain: bool = False, record: str = "all") -> Destination:
    host = b"127.0.0.1:%d" % port
    upstream = PooledUpstream("127.0.0.1", port, None, Timeouts())
    return Destination("o", "openai", upstream, host, b"", Origin.LIVE, record, drain)


def application(
    stage: Stage,
    port: int = 1,
    *,
    drain: bool = False,
    limit: int | None = None,
    expose_id: bool = False,
    ready: Callable[[], str | None] = lambda: None,
    access: Access | None = None,
    key: HeldKey | None = None,
    uploads: Home | None = None,
) -> App:
    """With one upstream, `o`, at a port."""
    policy = Policy(Rules(expose_id, limit), True, False, {"azure": "a name"}, access or Access())
    destinations = {b"o": replace(destination(port, drain=drain), key=key, uploads=uploads)}
    return App(destinations, stage.recording, Redactor(b"k" * 32), policy, ready)


class Served:
    """An application that is served on `port`."""

    def __init__(self, app: App, stage: Stage, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.app, self.stage, self.port = app, stage, port
        self._loop = loop

    def do(self, step: Callable[[], object]) -> None:
        """In the loop's thread; returns when it is done."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(step)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(DEADLINE)

    def ends(self, count: int = 1) -> list[End]:
        """How exchanges ended, once so many have."""
        until(lambda: len(decoded(self.stage.records(), record.END, End)) >= count, f"{count} ends")
        return decoded(self.stage.records(), record.END, End)

    def wire_end(self) -> WireEnd:
        (end,) = self.ends()
        return WireEnd(end.wire_end)


@contextmanager
def serving(app: App, stage: Stage, server: str) -> Iterator[Served]:
    """Behind a real server of uvicorn's, in a thread with a loop of its own."""
    http: Any = partial(ServerProtocol, Limits(), app.refuse, take=app.take) if server == OURS else server
    config = uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None, access_log=False)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        loop = runner.get_loop()
        complaints: list[str] = []
        loop.set_exception_handler(lambda _, context: complaints.append(repr(context)))
        running = uvicorn.Server(config)

        async def serve() -> None:
            await running.serve(sockets=[listener])
            app.stop()
            for each in app.destinations.values():
                each.upstream.close()
            await asyncio.sleep(0)

        thread = threading.Thread(target=runner.run, args=(serve(),), daemon=True)
        thread.start()
        try:
            until(lambda: running.started, "the server has started")
            yield Served(app, stage, int(listener.getsockname()[1]), loop)
        finally:
            running.should_exit = True
            thread.join(2 * DEADLINE)
            assert not thread.is_alive()
    assert complaints == []


@contextmanager
def quiet() -> Iterator[None]:
    """uvicorn says at error level what these tests do on purpose."""
    logger = logging.getLogger("uvicorn.error")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)

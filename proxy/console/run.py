"""The role `console`: serves the second port until it is told to stop, and says once a second that it lives."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
import uvloop

from proxy.console.app import create
from proxy.status import StatusFile

GRACE = 2  # seconds for answers under way when it is told to stop


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """Plain values out of the configuration. `lifeline` is a descriptor whose end-of-file means: stop."""

    home: Path
    listener: socket.socket
    host: str
    token: str | None = None
    lifeline: int | None = None
    on_serving: Callable[[], None] = field(default=lambda: None)


def run(options: ConsoleOptions) -> None:
    """Serve until SIGTERM, SIGINT or the lifeline's end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal again when all is done, and the exit code would tell of a death."""
        yield


async def _serve(options: ConsoleOptions) -> None:
    server = _Server(
        uvicorn.Config(
            create(options.home, host=options.host, token=options.token),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
        )
    )
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if options.lifeline is not None:
            loop.remove_reader(options.lifeline)
        server.force_exit = server.should_exit
        server.should_exit = True

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop)
    if options.lifeline is not None:
        loop.add_reader(options.lifeline, stop)
    status = StatusFile(options.home, "console")
    telling = loop.create_task(_tell(server, status, options))
    try:
        await server.serve(sockets=[options.listener])
    finally:
        telling.cancel()
        status.remove()


async def _tell(server: uvicorn.Server, status: StatusFile, options: ConsoleOptions) -> None:
    address = list(options.listener.getsockname()[:2])
    announced = False
    while True:
        if server.started and not announced:
            announced = True
            options.on_serving()
        status.write({"address": address if announced else None})
        await asyncio.sleep(1.0 if announced else 0.02)

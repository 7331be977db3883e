"""How a role serves its port until it is told to stop: uvicorn, the signals and the lifeline that end it.

Must not know what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from proxy.wire.limits import BACKLOG

TELL = 1.0  # seconds between two words of a status
_SOON = 0.02  # until it serves


class Server(uvicorn.Server):
    """As uvicorn has it, but for signals, which are whoever's who runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal again when all is done, and the exit code would tell of a death."""
        yield


def config_of(app: Callable[..., Any], grace: float | None, **more: Any) -> uvicorn.Config:
    """What uvicorn is told for every role: to serve this application and nothing of its own.

    `grace` are the seconds for what runs once a stop was asked for, None: as long as it takes; `more` is of one role.
    """
    return uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # uvicorn hands it to asyncio.wait_for, which takes fractions too
        timeout_graceful_shutdown=grace,  # type: ignore[arg-type]
        **more,
    )


def wire_config(http: Callable[..., asyncio.Protocol], grace: float, app: Callable[..., Any]) -> uvicorn.Config:
    """As `config_of`, for a role that speaks by a protocol class of ours; `app` is for what that does not take."""
    # uvicorn only calls it, whatever it is
    return config_of(app, grace, http=http, date_header=False, backlog=BACKLOG)


def on_stop(stop: Callable[[], None], lifeline: int | None, drain: Callable[[], None] = lambda: None) -> None:
    """Call `stop` for SIGINT, SIGTERM and the lifeline's end, `drain` for a word that comes through it; in the running
    loop.

    Once `stop` was called, the lifeline's end says nothing new: only another signal hurries.
    """
    loop = asyncio.get_running_loop()

    def told() -> None:
        if lifeline is not None:
            loop.remove_reader(lifeline)
        stop()

    def heard() -> None:
        assert lifeline is not None
        if os.read(lifeline, 64):
            drain()
        else:
            told()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, told)
    if lifeline is not None:
        loop.add_reader(lifeline, heard)


async def serve(
    config: uvicorn.Config,
    listener: socket.socket,
    lifeline: int | None,
    tell: Callable[[list[object] | None], None],
    on_serving: Callable[[], None],
) -> None:
    """Serve until told to stop; told twice, at once. `tell` hears the address every second, None before it serves."""
    server = Server(config)

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    async def telling() -> None:
        address = list(listener.getsockname()[:2])
        announced = False
        while True:
            if server.started and not announced:
                announced = True
                on_serving()
            tell(address if announced else None)
            await asyncio.sleep(TELL if announced else _SOON)

    on_stop(stop, lifeline)
    task = asyncio.get_running_loop().create_task(telling())
    try:
        await server.serve(sockets=[listener])
    finally:
        task.cancel()

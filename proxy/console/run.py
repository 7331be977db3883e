"""The role `console`: serves the second port until it is told to stop, and says once a second that it lives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from proxy.console.app import create
from proxy.status import StatusFile
from proxy.wire.serving import config_of, serve

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


async def _serve(options: ConsoleOptions) -> None:
    config = config_of(create(options.home, host=options.host, token=options.token), GRACE)
    status = StatusFile(options.home, "console")

    def tell(address: list[object] | None) -> None:
        status.write({"address": address})

    try:
        await serve(config, options.listener, options.lifeline, tell, options.on_serving)
    finally:
        status.remove()

"""The role `playback`: serves recordings on a port of its own until it is told to stop.

It makes no connection but to the database, and that at the beginning and for what is played.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

import uvicorn
import uvloop

from proxy.replay.answer import Answer, load
from proxy.replay.cassette_reader import read_file
from proxy.replay.catalogue import catalogue
from proxy.replay.fault_words import parse
from proxy.replay.library import Library, Order
from proxy.replay.match import Matcher, Rules
from proxy.replay.playback import Playback
from proxy.replay.stock import Stock, stock_of
from proxy.status import StatusFile
from proxy.store import Engine
from proxy.store.engine import check_version, open_engine
from proxy.store.read import Filters
from proxy.wire.limits import Limits
from proxy.wire.server import ServerProtocol
from proxy.wire.serving import serve

_log = logging.getLogger("playback")

BACKLOG = 4096
GRACE = 2  # seconds for answers under way when it is told to stop


@dataclass(frozen=True, slots=True)
class PlaybackOptions:
    """Plain values out of the configuration. `cassette` is played in place of the database; else `session` and `tag`
    (name, value) narrow what is. `speed` None is without waiting; `fault` is played with where nobody asks for another.
    `lifeline` is a descriptor whose end-of-file means: stop."""

    home: Path
    database: str
    listener: socket.socket
    rules: Rules
    order: Order = "sequence"
    speed: float | None = None
    cassette: Path | None = None
    session: str | None = None
    tag: tuple[str, str] | None = None
    fault: str | None = None
    lifeline: int | None = None
    on_serving: Callable[[], None] = field(default=lambda: None)


def run(options: PlaybackOptions) -> None:
    """Serve until SIGTERM, SIGINT or the lifeline's end. Raises UsageError, DatabaseAway before it serves."""
    matcher = Matcher(options.rules)
    if options.cassette is not None:
        _run(options, stock_of(read_file(options.cassette), matcher, options.order), matcher)
        return
    engine = open_engine(options.database, create=False)
    try:
        check_version(engine)
        found = catalogue(engine, matcher, Filters(session=options.session, tag=options.tag))
        _run(options, Stock(Library(found, options.order), partial(_load, engine)), matcher)
    finally:
        engine.dispose()


def _run(options: PlaybackOptions, stock: Stock, matcher: Matcher) -> None:
    fault = None if options.fault is None else parse(options.fault)
    playback = Playback(stock, matcher, options.speed, options.order, fault)
    _tell(playback)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(playback, options))


async def _load(engine: Engine, recording: UUID) -> Answer | None:
    return await asyncio.get_running_loop().run_in_executor(None, load, engine, recording)


def _tell(playback: Playback) -> None:
    library = playback.stock.library
    equal = library.report().equal
    _log.info("recordings that can be played: %d", len(library))
    if equal:
        _log.warning("requests that were recorded more than once, and are answered in that order: %d", len(equal))


async def _never(scope: object, receive: object, send: object) -> None:
    raise NotImplementedError("every request is taken before it gets here")


async def _serve(playback: Playback, options: PlaybackOptions) -> None:
    config = uvicorn.Config(
        _never,
        # uvicorn only calls it, whatever it is
        http=partial(ServerProtocol, Limits(), playback.refuse, take=playback.take),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE,
    )
    status = StatusFile(options.home, "playback")

    def tell(address: list[object] | None) -> None:
        facts = {"recordings": len(playback.stock.library), "played": playback.played, "missed": playback.missed}
        status.write({"address": address, **facts})

    try:
        await serve(config, options.listener, options.lifeline, tell, options.on_serving)
    finally:
        playback.stop()
        status.remove()

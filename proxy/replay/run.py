"""The role `playback`: serves recordings on a port of its own until it is told to stop.

It makes no connection but to the database, and to the data port where that may record what cannot be played.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

import uvloop

from proxy.exchange import id_time_us
from proxy.replay.answer import Answer, load
from proxy.replay.cassette_reader import Cassette, read_file
from proxy.replay.catalogue import catalogue
from proxy.replay.control import Control
from proxy.replay.fault_words import parse
from proxy.replay.library import Library, Order
from proxy.replay.match import Matcher, Rules
from proxy.replay.onward import DataPort
from proxy.replay.playback import Playback
from proxy.replay.session import PATIENCE, POLL, Mode, Session
from proxy.replay.stock import Load, Stock, nothing, stock_of
from proxy.status import StatusFile
from proxy.store import Engine
from proxy.store.engine import check_version, open_engine
from proxy.store.read import Filters
from proxy.wire.limits import Limits
from proxy.wire.server import ServerProtocol
from proxy.wire.serving import serve, wire_config

_log = logging.getLogger("playback")

GRACE = 2  # seconds for answers under way when it is told to stop


@dataclass(frozen=True, slots=True)
class PlaybackOptions:
    """Plain values out of the configuration. `cassette` is played in place of the database; else `session` and `tag`
    (name, value) narrow what is. `speed` None is without waiting; `fault` is played with where nobody asks for another.
    Through `data_port` sessions may have recorded what
    is not there yet, and so may everybody for the upstreams `else_record`. `lifeline` is a descriptor whose
    end-of-file means: stop."""

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
    data_port: tuple[str, int] | None = None
    data_cert: Path | None = None
    else_record: tuple[str, ...] = ()
    lifeline: int | None = None
    on_serving: Callable[[], None] = field(default=lambda: None)


def run(options: PlaybackOptions) -> None:
    """Serve until SIGTERM, SIGINT or the lifeline's end. Raises UsageError, DatabaseAway before it serves."""
    cassette = None if options.cassette is None else read_file(options.cassette)
    engine = None if cassette is not None and options.data_port is None else _open(options.database)
    try:
        common = _common(options, cassette, engine)
        _tell(common)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, common, engine))
    finally:
        if engine is not None:
            engine.dispose()


def _open(database: str) -> Engine:
    engine = open_engine(database, create=False)
    try:
        check_version(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _common(options: PlaybackOptions, cassette: Cassette | None, engine: Engine | None) -> Session:
    """What answers whoever has opened no session."""
    rules = options.rules if cassette is None else options.rules.with_more(cassette.rules)
    matcher = Matcher(rules)
    if cassette is not None:
        stock = stock_of(cassette.tracks, matcher, options.order, _loader(engine))
    else:
        assert engine is not None
        found = catalogue(engine, matcher, Filters(session=options.session, tag=options.tag))
        stock = Stock(Library(found, options.order), _loader(engine))
    return Session("", "playback", stock, matcher)


def _loader(engine: Engine | None) -> Load:
    return nothing if engine is None else partial(_load, engine)


async def _load(engine: Engine, recording: UUID) -> Answer | None:
    """The answer of a recording; of one that was made just now it may have to be waited for."""
    loop = asyncio.get_running_loop()
    while True:
        found = await loop.run_in_executor(None, load, engine, recording)
        if found is not None or time.time() - id_time_us(recording) / 1_000_000 > PATIENCE:
            return found
        await asyncio.sleep(POLL)


def _tell(common: Session) -> None:
    library = common.stock.library
    equal = library.report().equal
    _log.info("recordings that can be played: %d", len(library))
    if equal:
        _log.warning("requests that were recorded more than once, and are answered in that order: %d", len(equal))


def _playback(options: PlaybackOptions, common: Session, engine: Engine | None) -> Playback:
    port = None if options.data_port is None else DataPort(options.data_port, options.home, options.data_cert)
    modes: dict[str, Mode] = dict.fromkeys(() if port is None else options.else_record, "record-missing")
    fault = None if options.fault is None else parse(options.fault)
    playback = Playback(common, options.speed, port, modes, fault)
    playback.control = Control(playback, engine, _loader(engine), options.rules, options.order).answer
    return playback


async def _never(scope: object, receive: object, send: object) -> None:
    raise NotImplementedError("every request is taken before it gets here")


async def _serve(options: PlaybackOptions, common: Session, engine: Engine | None) -> None:
    playback = _playback(options, common, engine)
    config = wire_config(partial(ServerProtocol, Limits(), playback.refuse, take=playback.take), GRACE, _never)
    status = StatusFile(options.home, "playback")

    def tell(address: list[object] | None) -> None:
        counts = {"played": playback.played, "missed": playback.missed, "sent_on": playback.sent_on}
        status.write({"address": address, "recordings": len(common.stock.library), **counts})

    try:
        await serve(config, options.listener, options.lifeline, tell, options.on_serving)
    finally:
        playback.stop()
        status.remove()

"""The role `forward`: one worker that serves the data port until it is told to stop.

Puts journal, upstreams and application together from plain values; says once a second how it is.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvicorn
import uvloop

from proxy import passes
from proxy.errors import UsageError
from proxy.exchange import ExchangeIds
from proxy.forward.access import Access
from proxy.forward.app import App
from proxy.forward.destinations import Http2, Sources, UpstreamOptions, destination
from proxy.forward.policy import Policy, Rules
from proxy.forward.recording import Recording
from proxy.forward.redact import Redactor
from proxy.journal.writer import JournalError, JournalWriter
from proxy.status import StatusFile
from proxy.wire.limits import Limits
from proxy.wire.server import ServerProtocol
from proxy.wire.serving import Server, on_stop, wire_config
from proxy.wire.tls import ServerTls

_log = logging.getLogger("forward")


@dataclass(frozen=True, slots=True)
class Options:
    """Plain values out of the configuration. `lifeline` is a descriptor whose end-of-file means: stop; `http2` is
    wire.http2's upstream, where any asks for it: it takes a while to load. `sources` gives what an upstream's
    credentials come from, by its host, for the same reason."""

    home: Path
    node: str
    listener: socket.socket
    upstreams: tuple[UpstreamOptions, ...]
    templates: dict[str, str]
    fingerprint_key: bytes
    redact_headers: tuple[str, ...] = ()
    redact_query: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    expose_id: bool = True
    strip_attribution: bool = False
    limits: Limits = field(default_factory=Limits)
    max_request_body: int | None = None
    transform_limit: int = 8 * 2**20
    record_bodies: bool = True
    max_recorded_body: int | None = None
    max_journal: int | None = None
    on_journal_failure: str = "refuse"
    fsync_every: float | None = 1.0
    shutdown_grace: float = 30.0
    cert: Path | None = None
    key: Path | None = None
    lifeline: int | None = None
    http2: Http2 | None = None
    sources: Sources | None = None
    on_serving: Callable[[], None] = field(default=lambda: None)


def run(options: Options) -> None:
    """Serve until SIGTERM, SIGINT or the lifeline's end; running streams get `shutdown_grace` seconds."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        worker = _Worker(options)
        # What is here now stays, and exchanges leave next to no garbage: the collector need not look after each few.
        gc.freeze()
        gc.set_threshold(10_000, 10, 50)
        runner.run(worker.serve())


def _server_tls(options: Options) -> ServerTls | None:
    if options.cert is None:
        return None
    try:
        return ServerTls(options.cert, options.key)
    except UsageError as error:
        raise UsageError(f"forward.{error}") from None


class _Worker:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._tls = _server_tls(options)
        self._status = StatusFile(options.home, "forward")
        self._journal = JournalWriter(
            options.home / "journal",
            node=options.node,
            worker=ExchangeIds().next(),
            max_bytes=options.max_journal,
            fsync_every=options.fsync_every,
        )
        self._recording = Recording(self._journal, options.on_journal_failure, options.max_recorded_body)
        self._destinations = {
            item.name.encode(): destination(item, options.http2, options.sources) for item in options.upstreams
        }
        self._app = App(
            self._destinations,
            self._recording,
            Redactor(options.fingerprint_key, options.redact_headers, options.redact_query),
            Policy(
                Rules(options.expose_id, options.max_request_body, options.transform_limit),
                options.record_bodies,
                options.strip_attribution,
                options.templates,
                Access(options.hosts, options.cors_origins),
                b"http" if self._tls is None else b"https",
            ),
            self._problem,
            partial(passes.take, options.home),
        )
        self._stopping = self._draining = False
        self._said: str | None = None  # of the journal's failure, in the log
        self._told = 0  # failures that the log knows of
        self._server = Server(self._config())

    def _config(self) -> uvicorn.Config:
        protocol = partial(ServerProtocol, self._options.limits, self._app.refuse, take=self._app.take)
        config = wire_config(protocol, self._options.shutdown_grace, self._app)
        config.load()
        if self._tls is not None:
            config.ssl = self._tls.context  # uvicorn would make one of its own, out of files that it reads once
        return config

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        on_stop(self._stop, self._options.lifeline, self._drain)
        ticking = loop.create_task(self._tick())
        try:
            await self._server.serve(sockets=[self._options.listener])
        finally:
            ticking.cancel()
            self._app.stop()
            await asyncio.sleep(0)  # what that wrote goes out at the end of the loop's turn
            for item in self._destinations.values():
                item.upstream.close()
                if item.live is not None:
                    item.live.upstream.close()
            self._recording.settle()
            self._journal.close()
            self._tell(stopped=True)

    def _stop(self) -> None:
        if self._draining and not self._stopping:
            asyncio.get_running_loop().call_later(self._options.shutdown_grace, self._hurry)
        elif self._stopping:
            self._hurry()
        self._stopping = True
        self._server.should_exit = True

    def _drain(self) -> None:
        """Others take what comes; what runs may run for as long as it takes."""
        self._draining = True
        self._server.config.timeout_graceful_shutdown = None
        self._server.should_exit = True

    def _hurry(self) -> None:
        self._server.force_exit = True

    async def _tick(self) -> None:
        announced = False
        while True:
            if self._server.started and not announced:
                announced = True
                self._options.on_serving()
            self._journal.refresh()
            self._recording.settle()
            if self._recording.failing is not None:
                self._try_again()
            self._refresh_tls()
            self._say()
            self._tell()
            await asyncio.sleep(1.0 if announced else 0.02)

    def _refresh_tls(self) -> None:
        """Streams that run go on with what they began with."""
        try:
            if self._tls is not None and self._tls.refresh():
                _log.info("the data port's certificate was read anew")
        except UsageError as error:
            _log.warning("forward.%s; the certificate that was there before stays in use", error)

    def _try_again(self) -> None:
        """Whether the journal works again must show without a request that risks its luck."""
        try:
            self._recording.try_again()
        except JournalError as error:
            self._recording.failing = str(error)

    def _say(self) -> None:
        """In the log when it changes, not every second; also a failure that was over before anybody looked."""
        recording = self._recording
        if recording.failures > self._told and recording.last_failure != self._said:
            self._said = recording.last_failure
            _log.warning("%s", self._said)
        self._told = recording.failures
        if recording.failing is None and self._said is not None:
            self._said = None
            _log.info("the journal can be written again")

    def _problem(self) -> str | None:
        if self._stopping or self._draining:
            return "shutting down"
        return self._recording.failing

    def _tell(self, *, stopped: bool = False) -> None:
        recording, journal = self._recording, self._journal
        self._status.write(
            {
                "worker": str(journal.worker),
                "stopped": stopped,
                "address": list(self._options.listener.getsockname()[:2]) if not stopped else None,
                "tls": self._tls is not None,
                "problem": self._problem(),
                "accepted": recording.accepted,
                "unrecorded": recording.unrecorded,
                "active": self._app.active,
                "turned_away": dict(self._app.turned_away),
                "journal_failures": recording.failures,
                "journal_bytes": journal.bytes,
                "journal_records": journal.records,
                "waiting_bytes": journal.waiting_bytes,
                "journal_writes": journal.write_times.by_seconds(),
                "journal_write_ns": journal.write_times.total_ns,
            }
        )

"""How `serve` and its like begin: the home is held, the database made ready, the ports bound; then roles are started.

Must not know what a role does.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import typer

from proxy import __version__, presets
from proxy.children import Former
from proxy.cli.door import check_database_file
from proxy.cli.handover import Address, Handover, Port, begin_anew
from proxy.cli.ports import LISTEN, address_of, await_ingest, held, listen, listen_playback, number, port_of
from proxy.cli.stages import MARGIN, environment, forward_stage, ingest_stage, role
from proxy.cli.values import (
    DRAIN_TIMEOUT,
    ELSE_RECORD,
    console_values,
    else_records,
    forward_values,
    ingest_values,
    playback_values,
    plays,
    unsecured,
)
from proxy.config import Settings, fingerprint_key, loopback
from proxy.errors import UsageError
from proxy.store.engine import check_version, open_engine, shares
from proxy.store.errors import DatabaseAway, DatabaseTooOld
from proxy.supervise import Stage, Supervisor

_log = logging.getLogger("serve")

LOCKED = 2.0  # seconds that the start waits for a locked database; ingest waits for as long as it takes
SHOWN = ("openai", "anthropic", "gemini", "ollama", "demo")
PROXY_VARIABLES = frozenset(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"))


def everything(settings: Settings, given: Handover | None = None) -> int:
    """Run all roles until told to stop; the exit code. `given` is what another serve, whose place this one takes, left.

    Raises UsageError, before anything is started.
    """
    home, given = settings.home, given or Handover()
    with held(home, given.lock) as lock, ExitStack() as open_ports:
        fingerprint_key(home, os.environ)
        # Made by now, or known not to be there: one that is missing later was moved away, and is not made anew.
        existing = prepare_database(settings.database)
        if not shares(settings.database) and not given.formers:
            await_ingest(home)
        ports: dict[str, Port] = {}
        for name in _served(settings):
            ports[name] = port_of(settings, name, given)
            open_ports.enter_context(ports[name].listener)
        given.close()
        stages = _stages(settings, ports, create=not existing, patient=bool(given.formers))
        welcome = _welcome(settings, number(ports["forward"]), number(ports["console"]))
        again = bool(given.formers)
        mention_proxies()
        mention_keys(settings)

        def ready() -> None:
            if again:
                said = "configuration and program (wiretape %s) were read anew; streams that run end by themselves"
                _log.info(said, __version__)
            else:
                show(welcome)

        def renew(running: list[Former]) -> None:
            begin_anew(home, lock, ports, running)

        return Supervisor(home, "serve", stages, environment(), ready, given.formers, renew).run()


def _served(settings: Settings) -> list[str]:
    """What has a port."""
    return ["forward", "console", *(["playback"] if plays(settings) else [])]


def _stages(settings: Settings, ports: dict[str, Port], *, create: bool, patient: bool) -> list[Stage]:
    """Forward, then ingest, then all that has a port and needs no care."""
    roles = [role("console", console_values(settings), ports["console"].listener)]
    playback = ports.get("playback")
    if playback is not None:
        values = playback_values(settings, number(ports["forward"]) if else_records(settings) else None)
        roles.append(role("playback", values, playback.listener))
    ingest = ingest_values(settings, create=create, patient=patient)
    last = tuple(port.listener for name, port in ports.items() if name != "forward")
    return [
        _forwards(settings, ports["forward"].listener, None if playback is None else number(playback)),
        ingest_stage(ingest, settings.home, patience=DRAIN_TIMEOUT),
        Stage(tuple(roles), MARGIN, listeners=last),
    ]


def check(settings: Settings, ours: Sequence[Address]) -> None:
    """Whether a serve could begin with these settings, as far as that is known before. Raises UsageError."""
    check_database_file(settings.database)
    forward_values(settings, settings.playback.port or 1)
    ingest_values(settings, create=False)
    console_values(settings)
    playback_values(settings)
    for name in _served(settings):
        if address_of(settings, name) not in ours:
            LISTEN[name](settings).close()


def recording_playback(settings: Settings, lifeline: Path | None) -> int:
    """Run playback, and beside it what records for it, until told to stop or nobody holds the lifeline (a FIFO) open;
    the exit code. Raises UsageError."""
    home = settings.home
    settings = unsecured(settings)
    recorded = settings.model_copy(
        update={
            "upstreams": {
                name: each.model_copy(update={"mode": ELSE_RECORD}) for name, each in settings.upstreams.items()
            }
        }
    )
    existing = prepare_database(settings.database)
    with ExitStack() as open_ports:
        playback = open_ports.enter_context(listen_playback(settings))
        data = open_ports.enter_context(listen("127.0.0.1", 0, "data port", "forward"))
        port = playback.getsockname()[1]
        values = playback_values(recorded, data.getsockname()[1])
        stages = [
            Stage((role("playback", values, playback),), MARGIN, listeners=(playback,)),
            _forwards(recorded, data, port),
            ingest_stage(ingest_values(settings, create=not existing, patient=True), home, patience=DRAIN_TIMEOUT),
        ]
        if lifeline is not None:
            threading.Thread(target=_until_let_go, args=(lifeline_of(lifeline),), daemon=True).start()
        said = playback_urls(settings, playback)
        return Supervisor(home, "supervise", stages, environment(), lambda: show(said)).run()


def playback_urls(settings: Settings, listener: socket.socket) -> list[str]:
    """What to tell whoever started playback."""
    port = listener.getsockname()[1]
    return [f"playback  {presets.address(settings.playback.host, port)}/", *base_urls(settings, port)]


def lifeline_of(fifo: Path) -> int:
    """The reading end of a FIFO that somebody holds open. Raises UsageError."""
    try:
        return os.open(fifo, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"--lifeline {fifo} cannot be opened ({(error.strerror or str(error)).lower()})") from None


def _until_let_go(lifeline: int) -> None:
    """Stop once all who had it open for writing have closed it, or are gone."""
    while os.read(lifeline, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def workers(settings: Settings, listener: socket.socket) -> int:
    """Run several forward workers on one port until told to stop; the exit code. Raises UsageError."""
    fingerprint_key(settings.home, os.environ)
    addresses = base_urls(settings, listener.getsockname()[1], tls=settings.forward.tls)
    mention_proxies()
    mention_keys(settings)
    stages = [_forwards(settings, listener)]
    return Supervisor(settings.home, "supervise", stages, environment(), lambda: show(addresses)).run()


def prepare_database(url: str) -> bool:
    """Make the database if there is none, and bring it to this version's revision; whether that could be done.

    One that is merely away is no reason not to record: ingest waits for it. Raises DatabaseTooNew and UsageError.
    """
    check_database_file(url)
    try:
        engine = open_engine(url, create=True, busy_timeout=LOCKED)
        try:
            check_version(engine)
        except DatabaseTooOld:
            from proxy.store.migrate import upgrade  # a fifth of what a start takes, of which nearly none is in need

            upgrade(engine)
        finally:
            engine.dispose()
        return True
    except DatabaseAway as error:
        _log.warning("%s; recording begins all the same, and ingest stores it once the database is back", error)
        return False


def mention_proxies() -> None:
    """Who has set a proxy for all programs may expect it to be used."""
    ignored = sorted(name for name, value in os.environ.items() if name.upper() in PROXY_VARIABLES and value)
    if ignored:
        verb = "is" if len(ignored) == 1 else "are"
        _log.warning(
            "%s %s set, and ignored: requests go to the upstreams directly, or through upstreams.NAME.proxy",
            ", ".join(ignored),
            verb,
        )


def mention_keys(settings: Settings) -> None:
    """Whoever reaches the data port uses the keys that are held here."""
    if settings.held and not loopback(settings.forward.host):
        names = ", ".join(settings.held)
        _log.warning("the data port reaches beyond this machine: whoever reaches it spends on the key of %s", names)


def _forwards(settings: Settings, listener: socket.socket, playback_port: int | None = None) -> Stage:
    here = settings.forward
    values = forward_values(settings, playback_port)
    return forward_stage(values, listener, workers=here.workers, grace=here.shutdown_grace)


# What is said


def show(lines: Sequence[str]) -> None:
    """Print; whoever reads may have left already, which is no reason to stop recording."""
    try:
        typer.echo("\n".join(lines))
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def base_urls(settings: Settings, port: int, *, tls: bool = False) -> list[str]:
    """A line for each upstream that is shown: the well-known ones, and what is configured."""
    configured = [
        name
        for name, upstream in settings.upstreams.items()
        if name not in presets.PRESETS or upstream.url != presets.PRESETS[name].url
    ]
    names = [*SHOWN, *(name for name in configured if name not in SHOWN)]
    width = max(map(len, names))
    host = settings.forward.host
    lines = []
    for name in names:
        upstream = settings.upstreams[name]
        address = presets.base_url(name, host, port, upstream.url, upstream.dialect, tls=tls)
        lines.append(f"  {name:{width}}  {address}")
    return ["base_url of", *lines, "more: wiretape upstreams"]


def console_url(settings: Settings, port: int) -> str:
    """Where the console is found on this machine."""
    return f"http://{urlsplit(presets.base_url('demo', settings.console.host, port)).netloc}/"


def _welcome(settings: Settings, data_port: int, console_port: int) -> list[str]:
    return [
        *base_urls(settings, data_port, tls=settings.forward.tls),
        "",
        f"console   {console_url(settings, console_port)}",
        f"database  {settings.without_secrets()['database']}",
        f"home      {settings.home}",
        f"command   {command_path()}",
        "Ctrl-C stops",
    ]


def command_path() -> str:
    """How this command is called again, from anywhere."""
    called = Path(sys.argv[0])
    if called.name != "__main__.py":
        return str(Path(shutil.which(sys.argv[0]) or called).absolute())
    beside = Path(sys.executable).with_name("wiretape")
    return str(beside) if beside.exists() else f"{sys.executable} -m proxy"

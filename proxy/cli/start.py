"""How `serve` and its like begin: the home is held, the database made ready, the ports bound; then roles are started.

Must not know what a role does.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import typer

from proxy import presets
from proxy.cli.door import check_database_file
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
from proxy.config import Settings, fingerprint_key
from proxy.errors import UsageError
from proxy.status import read_all
from proxy.store.engine import open_engine, shares
from proxy.store.errors import DatabaseAway
from proxy.store.migrate import upgrade
from proxy.supervise import Stage, Supervisor

_log = logging.getLogger("serve")

BACKLOG = 4096
PREDECESSOR = 10.0  # seconds in which what a killed serve had started lets go of its port and lock
LOCKED = 2.0  # seconds that the start waits for a locked database; ingest waits for as long as it takes
SHOWN = ("openai", "anthropic", "gemini", "ollama", "demo")
PROXY_VARIABLES = frozenset(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"))


def everything(settings: Settings) -> int:
    """Run all roles until told to stop; the exit code.

    Raises UsageError, before anything is started.
    """
    home = settings.home
    with _held(home):
        fingerprint_key(home, os.environ)
        # Made by now, or known not to be there: one that is missing later was moved away, and is not made anew.
        existing = prepare_database(settings.database)
        if not shares(settings.database):
            _await_ingest(home)
        with ExitStack() as open_ports:
            data = open_ports.enter_context(listen_data(settings))
            console = open_ports.enter_context(listen_console(settings))
            listeners = [console]
            roles = [role("console", console_values(settings), console)]
            port = None
            if plays(settings):
                playback = open_ports.enter_context(listen_playback(settings))
                listeners.append(playback)
                values = playback_values(settings, data.getsockname()[1] if else_records(settings) else None)
                roles.append(role("playback", values, playback))
                port = playback.getsockname()[1]
            welcome = _welcome(settings, data.getsockname()[1], console.getsockname()[1])
            mention_proxies()
            ingest = ingest_stage(ingest_values(settings, create=not existing), home, patience=DRAIN_TIMEOUT)
            last = Stage(tuple(roles), MARGIN, listeners=tuple(listeners))
            stages = [_forwards(settings, data, port), ingest, last]
            return Supervisor(home, "serve", stages, environment(), lambda: show(welcome)).run()


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
        data = open_ports.enter_context(_listen("127.0.0.1", 0, "data port", "forward"))
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


def _forwards(settings: Settings, listener: socket.socket, playback_port: int | None = None) -> Stage:
    here = settings.forward
    values = forward_values(settings, playback_port)
    return forward_stage(values, listener, workers=here.workers, grace=here.shutdown_grace)


# Ports and locks


def listen_data(settings: Settings) -> socket.socket:
    """The data port, bound. Raises UsageError."""
    here = settings.forward
    return _patiently(settings.home, "forward", lambda: _listen(here.host, here.port, "data port", "forward"))


def listen_console(settings: Settings) -> socket.socket:
    """The console's port, bound. Raises UsageError."""
    here = settings.console
    return _patiently(settings.home, "console", lambda: _listen(here.host, here.port, "console", "console"))


def listen_playback(settings: Settings) -> socket.socket:
    """Playback's port, bound. Raises UsageError."""
    here = settings.playback
    return _patiently(settings.home, "playback", lambda: _listen(here.host, here.port, "playback", "playback"))


class _Taken(UsageError):
    """Somebody has it; who that is may be about to end."""


def _listen(host: str, port: int, what: str, section: str) -> socket.socket:
    setting = f"set {section}.port (WIRETAPE_{section.upper()}__PORT) to another, or to 0 for any free one"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"the {what}'s host {host} cannot be used ({error.strerror}); set {section}.host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise _Taken(f"the {what} {host}:{port} is in use by another program; {setting}") from None
        hint = f"set {section}.host" if error.errno == errno.EADDRNOTAVAIL else setting
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"the {what} cannot listen on {host}:{port} ({reason}); {hint}") from None
    return listener


@contextmanager
def _held(home: Path) -> Iterator[None]:
    """The home, for one serve at a time. Raises UsageError that names the other one."""
    fd = _open_lock(home / "serve.lock")
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise UsageError(
                f"`wiretape serve` runs on {home} already (pid {pid}); stop it, or give this one a --home of its own"
            ) from None
        with suppress(OSError):  # a full disk is no reason not to begin
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(fd)


def _await_ingest(home: Path) -> None:
    """Until no other ingest holds the home. Raises UsageError when one does not let go."""

    def free() -> None:
        fd = _open_lock(home / "ingest.lock")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _Taken(f"another `wiretape ingest` stores the journals of {home}; stop it first") from None
        finally:
            os.close(fd)

    _patiently(home, "ingest", free)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"{path} cannot be made or opened ({reason}); make room, or set home to a folder of yours"
        ) from None


_T = TypeVar("_T")


def _patiently(home: Path, role: str, attempt: Callable[[], _T]) -> _T:
    """Try again while what is in the way may be the rest of a serve that was killed. Raises UsageError."""
    deadline = time.monotonic() + PREDECESSOR
    while True:
        try:
            return attempt()
        except _Taken:
            if time.monotonic() > deadline or not any(each.alive and each.role == role for each in read_all(home)):
                raise
        time.sleep(0.1)


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

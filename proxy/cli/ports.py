"""What `serve` and its like hold while they run: their ports, the home, and its ingest. One that was killed a moment
ago may have left processes that still let go of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from proxy.cli.handover import Address, Handover, Port
from proxy.config import Settings
from proxy.errors import UsageError
from proxy.status import read_all
from proxy.wire.limits import BACKLOG

PREDECESSOR = 10.0  # seconds in which what a killed serve had started lets go of its port and lock


def listen_data(settings: Settings) -> socket.socket:
    """The data port, bound. Raises UsageError."""
    here = settings.forward
    return _patiently(settings.home, "forward", lambda: listen(here.host, here.port, "data port", "forward"))


def listen_console(settings: Settings) -> socket.socket:
    """The console's port, bound. Raises UsageError."""
    here = settings.console
    return _patiently(settings.home, "console", lambda: listen(here.host, here.port, "console", "console"))


def listen_playback(settings: Settings) -> socket.socket:
    """Playback's port, bound. Raises UsageError."""
    here = settings.playback
    return _patiently(settings.home, "playback", lambda: listen(here.host, here.port, "playback", "playback"))


LISTEN = {"forward": listen_data, "console": listen_console, "playback": listen_playback}


class _Taken(UsageError):
    """Somebody has it; who that is may be about to end."""


def listen(host: str, port: int, what: str, section: str) -> socket.socket:
    """A port, bound. Raises UsageError."""
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
def held(home: Path, lock: int) -> Iterator[int]:
    """The home, for one serve at a time: its lock, `lock` if that is one. Raises UsageError that names the other."""
    fd = lock if lock >= 0 else _open_lock(home / "serve.lock")
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
        yield fd
    finally:
        os.close(fd)


def await_ingest(home: Path) -> None:
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


def number(port: Port) -> int:
    """The one that it has, whatever was configured."""
    return int(port.listener.getsockname()[1])


def address_of(settings: Settings, name: str) -> Address:
    """Where something is configured to listen."""
    here = getattr(settings, name)
    return here.host, here.port


def port_of(settings: Settings, name: str, given: Handover) -> Port:
    """The port that was handed over, if it is the one that is configured; else a new one. Raises UsageError."""
    address = address_of(settings, name)
    return Port(address, given.take(name, address) or LISTEN[name](settings))

"""What one `wiretape serve` hands to the next in its place: the same process with the program and the configuration
read anew, its ports and its lock open all the while, and the roles that still run.

Written into a file in memory, whose descriptor stands in the environment. Must not know settings.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from proxy.children import Former

_log = logging.getLogger("serve")

VARIABLE, CHECKED = "_HANDOVER_OF_WIRETAPE", "_CHECKED_BY_WIRETAPE"
"""The environment variables with the descriptor, and with the addresses that need no check since they are ours. What
begins with WIRETAPE_ is a setting."""

PATIENCE = 60.0  # seconds for the check

Address = tuple[str, int]
"""Host and port as they are configured: a port may be 0."""


class Port:
    """A socket that listens, and the address that was configured for it."""

    def __init__(self, address: Address, listener: socket.socket) -> None:
        self.address = address
        self.listener = listener


class _Told(msgspec.Struct):
    lock: int
    ports: dict[str, tuple[Address, int]]
    formers: list[tuple[str, int, int]]  # role, process, lifeline


@dataclass
class Handover:
    """`lock` is a descriptor, -1: nothing was handed over. `ports` are by what listens there."""

    lock: int = -1
    ports: dict[str, Port] = field(default_factory=dict)
    formers: list[Former] = field(default_factory=list)

    def take(self, name: str, address: Address) -> socket.socket | None:
        """The port, if it is at this address; it is the caller's then."""
        known = self.ports.get(name)
        if known is None or known.address != address:
            return None
        return self.ports.pop(name).listener

    def close(self) -> None:
        """Close the ports that nobody has taken: they are configured no more."""
        for port in self.ports.values():
            port.listener.close()
        self.ports.clear()


def taken(environ: MutableMapping[str, str]) -> Handover:
    """What was handed over, out of the environment, where it is no more then."""
    given = environ.pop(VARIABLE, "")
    if not given.isdecimal():
        return Handover()
    with os.fdopen(int(given), "rb") as file:
        told = msgspec.json.decode(file.read(), type=_Told)
    ports = {name: Port(address, socket.socket(fileno=fd)) for name, (address, fd) in told.ports.items()}
    for fd in _descriptors(told):
        os.set_inheritable(fd, False)
    return Handover(told.lock, ports, [Former(*each) for each in told.formers])


def known_addresses(environ: MutableMapping[str, str]) -> list[Address]:
    """Those that a check need not try."""
    given = environ.pop(CHECKED, "")
    return msgspec.json.decode(given, type=list[Address]) if given else []


def begin_anew(home: Path, lock: int, ports: dict[str, Port], running: Iterable[Former]) -> None:
    """Replace this program by itself as it is now on the disk, with the configuration as it is now. Returns where that
    cannot be: the reason is in the log, and all goes on as before."""
    command = [sys.executable, *sys.orig_argv[1:]]
    ours = {CHECKED: msgspec.json.encode([port.address for port in ports.values()]).decode()}
    try:
        tried = subprocess.run(  # noqa: S603 - our own
            [*command, "--check"],
            env={**os.environ, **ours},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.error("nothing is read anew: the check of it failed (%s)", type(error).__name__)
        return
    said = [line for line in tried.stderr.splitlines() if line.strip()]
    if tried.returncode:
        _log.error("nothing is read anew, all goes on as before: %s", said[-1] if said else "its check says no reason")
        return
    if Path(tried.stdout.strip()) != home:
        _log.error("nothing is read anew: the home is another one now, and cannot change while it is in use")
        return
    told = _Told(
        lock,
        {name: (port.address, port.listener.fileno()) for name, port in ports.items()},
        [(each.role, each.pid, each.lifeline) for each in running],
    )
    fd = os.memfd_create("handover", 0)  # which stays open
    os.write(fd, msgspec.json.encode(told))
    os.lseek(fd, 0, os.SEEK_SET)
    for each in _descriptors(told):
        os.set_inheritable(each, True)
    os.execve(command[0], command, {**os.environ, VARIABLE: str(fd)})  # noqa: S606 - our own


def _descriptors(told: _Told) -> list[int]:
    return [told.lock, *(fd for _, fd in told.ports.values()), *(lifeline for _, _, lifeline in told.formers)]

"""The processes of the roles, as a supervisor starts them. Must not know settings, nor what a role does."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import proxy
from proxy.children import Role
from proxy.console.facts import look
from proxy.supervise import Stage

MARGIN = 5.0  # seconds beyond the time that a role allows itself


def forward_stage(values: bytes, listener: socket.socket, *, workers: int, grace: float) -> Stage:
    """Forward workers on one port; `grace` is how long streams may go on after a stop was asked for."""
    return Stage(
        (role("forward", values, listener),) * workers,
        patience=grace + MARGIN,
        waiting=f"for running streams to end, {grace:g} s at most",
        listeners=(listener,),
    )


def ingest_stage(values: bytes, home: Path, *, patience: float) -> Stage:
    """Ingest, which stores what is left before it ends."""
    return Stage(
        (role("ingest", values),),
        patience=patience + MARGIN,
        waiting="until ingest has stored what is in the journal",
        progress=_lag(home),
    )


def role(name: str, values: bytes, listener: socket.socket | None = None) -> Role:
    """The process of a role, which is told these values and may get a listening socket."""
    # -P: a folder named proxy where the command was given must not pass for this package.
    command = (sys.executable, "-P", "-m", "proxy.cli.process", name)
    if listener is None:
        return Role(name, command, values)
    return Role(name, (*command, "--fd", str(listener.fileno())), values, (listener.fileno(),))


def environment() -> dict[str, str]:
    """The children's: they find this very package, also where it is not installed."""
    root = str(Path(proxy.__file__).parent.parent)
    if root in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        return dict(os.environ)
    paths = [root, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _lag(home: Path) -> Callable[[], object]:
    def lag() -> int | None:
        ingest = look(home).ingest
        return None if ingest is None else ingest.facts.lag_bytes

    return lag

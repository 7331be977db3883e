"""Processes of roles: started, watched, told to stop by their lifelines, or taken over from who started them.

A lifeline is a pipe whose reading end the process has: whoever closes the other end, or dies with it open, tells it to
stop. Must not know what the roles do, nor settings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

_log = logging.getLogger("supervise")

DRAIN = b"d"
"""What a lifeline says to a forward worker that has a successor."""

FIRST_DELAY = 0.2  # seconds before a role that died is started again; doubled each time that it dies young
LAST_DELAY = 5.0
YOUNG = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Role:
    """One process to keep running. `command` is its argv but for `--lifeline FD`, `told` what it reads on its standard
    input; `fds` are handed on to it."""

    name: str
    command: tuple[str, ...]
    told: bytes = b""
    fds: tuple[int, ...] = ()


class Former(NamedTuple):
    """A role's process that a supervisor before this one started, in this very process; `lifeline` is our end of it."""

    role: str
    pid: int
    lifeline: int


class Child:
    """A role's process, the one after it, and so on."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | Process | None = None
        self.due: float | None = 0.0  # when to start it (monotonic); None: no more
        self.clean = False  # the last one ended by itself, with exit code 0
        self.former = False  # what it does is done by another; it ends with what it has begun
        self._lifeline = -1
        self._born = 0.0
        self._delay = 0.0  # before it was started the last time

    @classmethod
    def of(cls, former: Former) -> Child:
        """For what runs already."""
        child = cls(Role(former.role, ()))
        child.process, child.due, child.former, child._lifeline = Process(former.pid), None, True, former.lifeline
        return child

    def as_former(self) -> Former | None:
        """For who comes after us; None where nothing runs."""
        return None if self.process is None else Former(self.role.name, self.process.pid, self._lifeline)

    def start(self, environment: Mapping[str, str]) -> None:
        self.due = None
        self._born = time.monotonic()
        ours, theirs = -1, -1
        try:
            theirs, ours = os.pipe()
            with _file_of(self.role.told) as told:
                self.process = subprocess.Popen(  # noqa: S603 - our own roles
                    [*self.role.command, "--lifeline", str(theirs)],
                    stdin=told,
                    pass_fds=(*self.role.fds, theirs),
                    start_new_session=True,  # Ctrl-C reaches the supervisor alone
                    env=dict(environment),
                )
        except OSError as error:
            _log.error("%s cannot be started (%s); trying again", self.role.name, error.strerror)
            if ours >= 0:
                os.close(ours)
            self._put_off()
        else:
            self._lifeline = ours
        finally:
            if theirs >= 0:
                os.close(theirs)

    def reap(self) -> int | None:
        """The exit code (negative: a signal) of a process that ended since the last call, else None."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is None:
            return None
        pid, self.process = self.process.pid, None
        self.clean = code == 0
        if self._lifeline >= 0 and not self.former:
            self.hang_up()
            self._put_off()
            _log.warning("%s %d %s; its successor starts in %.1f s", self.role.name, pid, _manner(code), self._delay)
        elif code:
            _log.warning("%s %d %s", self.role.name, pid, _manner(code))
        return code

    def drain(self) -> None:
        """Tell it to take nothing new, and to end once all that it has begun is done."""
        with contextlib.suppress(OSError):  # it is gone
            os.write(self._lifeline, DRAIN)

    def hang_up(self) -> None:
        """Tell it to stop, and start no other."""
        self.due = None
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _put_off(self) -> None:
        young = time.monotonic() - self._born < YOUNG
        self._delay = min(LAST_DELAY, 2 * self._delay) if young and self._delay else FIRST_DELAY
        self.due = time.monotonic() + self._delay


class Process:
    """A child that we are not the ones to have started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        return self._wait(0) or 0

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _wait(self, how: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, how)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def _send(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)


@contextlib.contextmanager
def _file_of(data: bytes) -> Iterator[int]:
    """A file in memory for a child to read: a pipe might not hold it all, and on a disk others could see it."""
    fd = os.memfd_create("told")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _manner(code: int) -> str:
    """How a process ended, as the end of a sentence."""
    if code >= 0:
        return f"ended (exit code {code})"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"

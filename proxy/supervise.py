"""Starts the roles as processes of their own, starts them again when they die, and stops them in order.

Each child holds a pipe's reading end, its lifeline: whoever closes the other end, or dies with it open, tells the child
to stop. Knows status files; must not know what the roles do, nor settings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from proxy.console.facts import look
from proxy.status import StatusFile, forget, read_all

_log = logging.getLogger("supervise")

FIRST_DELAY = 0.2  # seconds before a role that died is started again; doubled each time that it dies young
LAST_DELAY = 5.0
YOUNG = 10.0  # seconds
USAGE_ERROR = 2  # the exit code of a child that only a person can help
STALL = 15.0  # seconds without progress after which waiting for a stage ends
HURRY = 3.0  # seconds that a stage gets once a second signal came
SPEAK_AFTER = 2.0  # seconds of waiting that need no explanation


@dataclass(frozen=True, slots=True)
class Role:
    """One process to keep running. `command` is its argv but for `--lifeline FD`, `told` what it reads on its standard
    input; `fds` are handed on to it."""

    name: str
    command: tuple[str, ...]
    told: bytes = b""
    fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """Roles that are told to stop together, once the stages before are done. `listeners` are closed then.

    They get `patience` seconds, or less: until `progress`, where there is one, stands still. `waiting` is the end of a
    sentence that says what is waited for.
    """

    roles: tuple[Role, ...]
    patience: float
    waiting: str = ""
    progress: Callable[[], object] | None = None
    listeners: tuple[socket.socket, ...] = ()


class _Child:
    """A role's process, the one after it, and so on."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.due: float | None = 0.0  # when to start it (monotonic); None: no more
        self.clean = False  # the last one ended by itself, with exit code 0
        self._lifeline = -1
        self._born = 0.0
        self._delay = 0.0  # before it was started the last time

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
        if self._lifeline >= 0:
            self.hang_up()
            self._put_off()
            _log.warning("%s %d %s; its successor starts in %.1f s", self.role.name, pid, _manner(code), self._delay)
        elif code:
            _log.warning("%s %d %s", self.role.name, pid, _manner(code))
        return code

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


class Supervisor:
    """`on_ready` is called once, when a forward worker answers; `name` is the role of its own status file."""

    def __init__(
        self,
        home: Path,
        name: str,
        stages: Sequence[Stage],
        environment: Mapping[str, str],
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._home = home
        self._stages = [(stage, [_Child(role) for role in stage.roles]) for stage in stages]
        self._children = [child for _, children in self._stages for child in children]
        self._environment = environment
        self._on_ready = on_ready
        self._ready = False
        self._status = StatusFile(home, name)
        self._told = 0.0
        self._signals = 0  # how often a stop was asked for
        self._failed = False  # a child says that only a person can help
        self._wake = -1

    def run(self) -> int:
        """Keep the roles running until SIGINT, SIGTERM or SIGHUP, then stop them; the exit code to end with.

        Only for the main thread. A second signal cuts all waiting short.
        """
        with self._signal_handlers():
            try:
                while not self._signals and not self._failed:
                    self._turn()
                    self._wait()
                self._stop()
            finally:
                for child in self._children:
                    child.hang_up()
                self._tidy(last=True)
                self._status.remove()
        return USAGE_ERROR if self._failed else 0

    def pids(self, name: str) -> set[int]:
        """The processes of a role that run now."""
        return {child.process.pid for child in self._children if child.process and child.role.name == name}

    # While it runs

    def _turn(self) -> None:
        """See who ended, start who is due, say how it is."""
        for child in self._children:
            if child.reap() == USAGE_ERROR:
                self._failed = True
                child.due = None
        now = time.monotonic()
        for child in self._children:
            if child.due is not None and child.due <= now and not self._failed:
                child.start(self._environment)
        if not self._ready and not self._signals and self._answers():
            self._ready = True
            self._on_ready()
        if now - self._told >= 1.0:
            self._told = now
            self._tidy()
            roles = sorted({child.role.name for child in self._children})
            self._status.write({"roles": {name: sorted(self.pids(name)) for name in roles}})

    def _answers(self) -> bool:
        ours = self.pids("forward")
        return any(
            status.role == "forward" and status.pid in ours and status.facts.get("address")
            for status in read_all(self._home)
        )

    def _wait(self) -> None:
        """Until a signal comes (a child's end is one), or something is due."""
        due = [child.due for child in self._children if child.due is not None]
        now = time.monotonic()
        longest = 1.0 if self._ready and not self._signals else 0.05
        select.select([self._wake], [], [], max(0.0, min([longest, *(at - now for at in due)])))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    @contextlib.contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        stopping = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # `nohup` has it ignored
            stopping.append(signal.SIGHUP)
        before = {signum: signal.signal(signum, self._on_signal) for signum in stopping}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
        wakeup = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for signum, handler in before.items():
                signal.signal(signum, handler)
            os.close(wake)
            os.close(self._wake)

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _tidy(self, *, last: bool = False) -> None:
        """Remove what dead processes left in the status folder.

        A forward worker's word counts until ingest has stored its journal, unless there is none; a dead ingest's counts
        until the next one speaks.
        """
        found = read_all(self._home)
        superseded = last or any(status.alive and status.role == "ingest" for status in found)
        for status in found:
            if status.alive or (status.role == "forward" and status.facts.get("journal_records") != 0):
                continue
            if status.role != "ingest" or superseded:
                forget(self._home, status)

    # When it stops

    def _stop(self) -> None:
        for stage, children in self._stages:
            for child in children:
                child.hang_up()
            for listener in stage.listeners:
                listener.close()
            self._await(stage, children)
            if any(child.role.name == "ingest" for child in children):
                self._say_what_stays(children)

    def _await(self, stage: Stage, children: list[_Child]) -> None:
        """Wait for a stage's processes to end, then kill those that do not. Later stages are kept running meanwhile."""
        began = changed = time.monotonic()
        progress = stage.progress() if stage.progress else None
        hurried = spoken = False
        while any(child.process for child in children):
            self._turn()
            now = time.monotonic()
            if stage.progress and (latest := stage.progress()) != progress:
                progress, changed = latest, now
            if self._signals > 1 and not hurried:
                hurried, began, changed = True, now, now
                for child in children:
                    if child.process:
                        child.process.terminate()
            if now - began > (HURRY if hurried else stage.patience) or (stage.progress and now - changed > STALL):
                break
            if stage.waiting and not spoken and not hurried and now - began > SPEAK_AFTER:
                spoken = True
                _log.info("waiting %s (Ctrl-C again: no longer)", stage.waiting)
            self._wait()
        self._kill(children)

    def _kill(self, children: list[_Child]) -> None:
        for child in children:
            child.hang_up()
            if child.process and child.process.poll() is None:
                _log.warning("%s %d does not stop by itself", child.role.name, child.process.pid)
                child.process.kill()
                child.process.wait()
            child.reap()

    def _say_what_stays(self, children: list[_Child]) -> None:
        """Ingest says it itself; for one that could not, say it here."""
        if all(child.clean for child in children):
            return
        ingest = look(self._home).ingest
        if ingest is not None:
            left = ingest.facts.lag_bytes
        else:
            left = sum(path.stat().st_size for path in (self._home / "journal").glob("*.journal"))
        if left:
            _log.warning("%d bytes stay in the journal and will be stored at the next start", left)


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

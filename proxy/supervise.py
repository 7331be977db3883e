"""Starts the roles as processes of their own, starts them again when they die, and stops them in order.

Knows status files; must not know what the roles do, nor settings. What a process is: `children.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from proxy.children import Child, Former, Role
from proxy.console.facts import look
from proxy.status import StatusFile, forget, read_all

_log = logging.getLogger("supervise")

USAGE_ERROR = 2  # the exit code of a child that only a person can help
STALL = 15.0  # seconds without progress after which waiting for a stage ends
HURRY = 3.0  # seconds that a stage gets once a second signal came
SPEAK_AFTER = 2.0  # seconds of waiting that need no explanation


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


class Supervisor:
    """`on_ready` is called once, when a forward worker answers; `name` is the role of its own status file.

    `formers` run already: forward workers end with their streams once there are new ones, all others at once. `renew`
    is asked for by SIGHUP, and gets what runs now; where it returns all goes on as before.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        stages: Sequence[Stage],
        environment: Mapping[str, str],
        on_ready: Callable[[], None] = lambda: None,
        formers: Sequence[Former] = (),
        renew: Callable[[list[Former]], None] | None = None,
    ) -> None:
        self._home = home
        self._stages = [(stage, [Child(role) for role in stage.roles]) for stage in stages]
        for former in formers:
            stages_of = [
                children for stage, children in self._stages if any(r.name == former.role for r in stage.roles)
            ]
            (stages_of or [self._stages[-1][1]])[0].append(Child.of(former))
        self._children = [child for _, children in self._stages for child in children]
        self._renew = renew
        self._renewals = 0  # how often that was asked for
        self._terminal = _has_terminal()
        self._environment = environment
        self._on_ready = on_ready
        self._ready = False
        self._status = StatusFile(home, name)
        self._told = 0.0
        self._signals = 0  # how often a stop was asked for
        self._failed = False  # a child says that only a person can help
        self._wake = -1

    def _beside(self, name: str) -> list[Child]:
        """The children of the stage in which a role is; of the last one where it is in none any more."""
        found = [children for stage, children in self._stages if any(role.name == name for role in stage.roles)]
        return found[0] if found else self._stages[-1][1]

    def run(self) -> int:
        """Keep the roles running until SIGINT, SIGTERM or the terminal's end, then stop them; the code to end with.

        Only for the main thread. A second signal cuts all waiting short.
        """
        with self._signal_handlers():
            for child in self._children:
                if child.former and child.role.name != "forward":
                    child.hang_up()
            try:
                while not self._signals and not self._failed:
                    self._turn()
                    self._wait()
                    self._begin_anew()
                self._stop()
            finally:
                for child in self._children:
                    child.hang_up()
                self._tidy(last=True)
                self._status.remove()
        return USAGE_ERROR if self._failed else 0

    def pids(self, name: str) -> set[int]:
        """The processes of a role that run now, without those that have a successor."""
        ours = (child for child in self._children if child.role.name == name and not child.former)
        return {child.process.pid for child in ours if child.process}

    def _begin_anew(self) -> None:
        if self._renewals and self._renew is not None:
            self._renewals = 0
            running = [child.as_former() for child in self._children]
            self._renew([each for each in running if each is not None and each.lifeline >= 0])

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
            for child in self._children:
                if child.former:
                    child.drain()
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

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGHUP and self._renew is not None and _has_terminal() == self._terminal:
            self._renewals += 1
        else:
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

    def _await(self, stage: Stage, children: list[Child]) -> None:
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

    def _kill(self, children: list[Child]) -> None:
        for child in children:
            child.hang_up()
            if child.process and child.process.poll() is None:
                _log.warning("%s %d does not stop by itself", child.role.name, child.process.pid)
                child.process.kill()
                child.process.wait()
            child.reap()

    def _say_what_stays(self, children: list[Child]) -> None:
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


def _has_terminal() -> bool:
    """Whether there is one that controls us: its end is a SIGHUP too."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

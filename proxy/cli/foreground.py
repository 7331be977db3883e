"""Runs a command in the foreground: the terminal is its, each signal reaches it once, its exit code is ours.

Must not know what wiretape does.
"""

from __future__ import annotations

import errno
import signal
import subprocess
from collections.abc import Mapping, Sequence

from proxy.errors import WiretapeError

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell says it
_PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_BY_KERNEL = 0x80  # SI_KERNEL: from the terminal, which tells the whole foreground group


class CannotRun(WiretapeError):
    """A command that could not be started; `exit_code` is what a shell would end with."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end; its exit code, 128 + n where signal n ended it. Raises CannotRun.

    For the main thread. Ctrl-C at a terminal reaches the command without us, and is not passed on a second time.
    """
    waited = {*_PASSED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        process = _start(command, environment, before)
        while (code := process.poll()) is None:
            said = signal.sigwaitinfo(waited)
            if said.si_signo != signal.SIGCHLD and said.si_code != _BY_KERNEL:
                process.send_signal(said.si_signo)
    finally:
        _forget(waited)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return code if code >= 0 else 128 - code


def _start(
    command: Sequence[str], environment: Mapping[str, str], mask: set[int | signal.Signals]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - what the user asked for
            command,
            env=dict(environment),
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),  # noqa: PLW1509 - there is one thread
        )
    except FileNotFoundError:
        raise CannotRun(f"{command[0]}: there is no such command", NOT_FOUND) from None
    except OSError as error:
        reason = "it is no program" if error.errno == errno.ENOEXEC else (error.strerror or str(error)).lower()
        raise CannotRun(f"{command[0]} cannot be run ({reason})", NOT_EXECUTABLE) from None
    except ValueError:
        raise CannotRun("the command holds a NUL character", NOT_EXECUTABLE) from None


def _forget(waited: set[signal.Signals]) -> None:
    """Take what came too late for the command: it must not end us once signals are let through again."""
    while pending := signal.sigpending() & waited:
        signal.sigwait(pending)

"""Commands in processes that are forked off one which has their modules already: loading them takes half a second each.

How a process begins, by `python -m proxy` with no module loaded, is not tried so.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from proxy.__main__ import main

_LOADED = (
    *("rich.cells", "rich.console", "rich.progress", "rich.table", "rich.text"),
    *("proxy.config", "proxy.ingest.again", "proxy.ingest.run", "proxy.replay.chat", "proxy.replay.readable"),
    *("proxy.store.migrate", "proxy.store.postgres", "proxy.store.retention", "proxy.store.sqlite"),
)


def forkserver(*modules: str) -> ForkServerContext:
    """Where to fork processes off. It is one for all, and has loaded what the first to use it asked for."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *_LOADED, *modules])
    return context


@contextmanager
def forked(
    fd: int, arguments: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> Iterator[Callable[[], int]]:
    """Run `wiretape` on a terminal, which is closed here, in `folder` and with nothing but these variables; what waits
    for its end, and tells its exit code. It does not outlive the block."""
    with Connection(fd) as terminal:
        process = forkserver().Process(target=_run, args=(terminal, arguments, folder, dict(variables)))
        process.start()

    def end() -> int:
        process.join(30)
        assert process.exitcode is not None, "the command did not end"
        return process.exitcode

    try:
        yield end
    finally:
        process.kill()
        process.join()
        process.close()


def _run(terminal: Connection, arguments: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    for fd in (0, 1, 2):
        os.dup2(terminal.fileno(), fd)
    terminal.close()
    # As an interpreter makes them that finds a terminal.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it is a descriptor, and kept
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it is a descriptor, and kept
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115 - it is a descriptor, and kept
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    os.chdir(folder)
    sys.argv[1:] = arguments
    main()

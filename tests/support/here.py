"""Runs a command in the test's own process: one of its own costs half a second of a processor.

For commands that end by themselves. What a process is needed for, such as signals and terminals, see running.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path

from proxy.__main__ import run
from tests.support.running import environment


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: bytes
    err: str


def run_here(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Ran:
    """Run a command in `folder`, with more environment variables."""
    out, err = BytesIO(), BytesIO()
    with (
        _environment(environment(folder, variables)),
        chdir(folder),
        _logging_as_before(),
        redirect_stdout(TextIOWrapper(out, encoding="utf-8", write_through=True)),
        redirect_stderr(TextIOWrapper(err, encoding="utf-8", write_through=True)),
    ):
        code = run(arguments)
        return Ran(code, out.getvalue(), err.getvalue().decode())


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _logging_as_before() -> Iterator[None]:
    """A role's command sends the log of its whole process to standard error."""
    root, raising = logging.getLogger(), logging.raiseExceptions
    handlers = root.handlers[:]
    known = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    levels = [(logger, logger.level) for logger in (root, *known)]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        logging.raiseExceptions = raising
        for logger, level in levels:
            logger.setLevel(level)

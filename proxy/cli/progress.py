"""How far a long piece of work is, on a terminal for errors; elsewhere nothing is shown. Must not know what is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from proxy.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

Item = TypeVar("Item")


def counted(items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items, and meanwhile how many of them are done."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import MofNCompleteColumn

    with _progress(MofNCompleteColumn()) as progress:
        yield from progress.track(items, total=total)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file to be read, and meanwhile how much of it is done. Raises UsageError for one that cannot be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from None
    with file:
        size = os.fstat(file.fileno()).st_size  # a pipe has none
        if not size or not sys.stderr.isatty():
            yield file
            return
        from rich.progress import DownloadColumn

        with _progress(DownloadColumn()) as progress, progress.wrap_file(file, total=size) as watched:
            yield watched


def _progress(done: ProgressColumn) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

    # It vanishes at its end: what was written is all that is to be seen.
    console = Console(stderr=True, color_system=None)
    return Progress(BarColumn(), done, TimeRemainingColumn(), console=console, transient=True)

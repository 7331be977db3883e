"""Taking exchanges in from files: into a database that may be new, where they are understood at once."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from proxy.cli import render
from proxy.cli.door import store_or_new

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.replay.shelf import Shelved


class Intake:
    """What a command puts into the database; a context manager that lets go of it.

    `added`, `known`: how many exchanges were put there, and how many were there already.
    """

    def __init__(self, settings: Settings) -> None:
        from proxy.cli.reinterpret import pricing_of, zone_of
        from proxy.ingest.again import Newcomers

        self.added = self.known = 0
        self.engine = store_or_new(settings)
        try:
            self._newcomers = Newcomers(self.engine, zone_of(self.engine, settings), pricing_of(settings))
        except BaseException:
            self.engine.dispose()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.dispose()

    def take(self, found: Iterable[Shelved]) -> None:
        """Put exchanges there. Raises what `found` raises; what came before that is there, and is told."""
        from proxy.errors import UsageError
        from proxy.replay.shelf import put

        try:
            for done in put(self.engine, found):
                self._newcomers.interpret(done.added)
                self.added += len(done.added)
                self.known += done.known
        except UsageError:
            if self.added or self.known:
                render.note(self.said())
            raise

    def said(self) -> str:
        """What was done, in words."""
        known = f"; {render.count(self.known, 'exchange')} there already" if self.known else ""
        return f"{render.count(self.added, 'exchange')} imported{known}"

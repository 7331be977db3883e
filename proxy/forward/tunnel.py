"""A tunnel's end, which comes in two halves. Must not know bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SILENCE = 30.0  # seconds that one direction may be silent after the other has ended


class Tunnel:
    """Counts the ends of an upgraded exchange's directions. After the first the other goes on for as long as it is not
    silent; a peer that never closes its half must not keep us for ever."""

    def __init__(self, loop: asyncio.AbstractEventLoop, too_silent: Callable[[], None]) -> None:
        self.ends = 0
        self._loop = loop
        self._too_silent = too_silent
        self._timer: asyncio.TimerHandle | None = None

    def half_over(self) -> bool:
        """A direction has ended; whether that was the second."""
        self.ends += 1
        self.heard()
        return self.ends == 2

    def heard(self) -> None:
        """Something has passed."""
        self.close()
        if self.ends == 1:
            self._timer = self._loop.call_later(SILENCE, self._too_silent)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

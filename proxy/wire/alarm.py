"""One timer for all that a connection waits for. Must not know what that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Does one thing at a time of its own; what is set later takes the place of what was set before.

    To set a timer anew for each request would cost more than to let it fire in vain now and then: it looks when it
    fires, and waits on where what it waits for is not due yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.act: Callable[[], None] | None = None
        self._loop = loop
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, act: Callable[[], None]) -> None:
        self.act = act
        self._due = due = self._loop.time() + seconds
        timer = self._timer
        if timer is not None and timer.when() > due:
            timer.cancel()
            timer = None
        if timer is None:
            self._timer = self._loop.call_at(due, self._ring)

    def clear(self) -> None:
        """There is nothing to be done."""
        self.act = None

    def close(self) -> None:
        self.act = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        act = self.act
        if act is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._ring)
            return
        self.act = None
        act()

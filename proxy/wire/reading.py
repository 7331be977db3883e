"""Whether a connection is read from. Must not know HTTP."""

from __future__ import annotations

import asyncio

from proxy.wire.sockets import has_left

HANG_UP_POLL = 0.5  # seconds


class Reading:
    """Pauses a transport for as long as there is any reason to: a set of reasons, or one resume would cancel another's
    pause. While nothing is read the event loop does not see the peer leave, so the kernel is asked now and then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self.reasons = 0  # bits
        self.half_is_gone = True  # whether a peer that sends no more has left, whatever it sent before
        self._over = False
        self._loop = loop
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def pause(self, reason: int) -> None:
        if not self.reasons and not self._over and not self._transport.is_closing():
            self._transport.pause_reading()
            if self._timer is None:
                self._timer = self._loop.call_later(HANG_UP_POLL, self._look)
        self.reasons |= reason

    def resume(self, reason: int) -> None:
        if not self.reasons:
            return
        self.reasons &= ~reason
        if not self.reasons and not self._over and not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self) -> None:
        """There is nothing more to read."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self.reasons or self._transport.is_closing():
            return
        if has_left(self._transport.get_extra_info("socket"), half=self.half_is_gone):
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(HANG_UP_POLL, self._look)

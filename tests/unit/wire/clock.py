"""The time of an event loop, which passes only when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


class Timer:
    def __init__(self, due: float, callback: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.due = due
        self.cancelled = False
        self.fire: Callable[[], None] = partial(callback, *arguments)

    def when(self) -> float:
        return self.due

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The part of an event loop that tells time; `late` is by how much it calls too late."""

    def __init__(self, late: float = 0.0) -> None:
        self.now = 1000.0
        self.late = late
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        timer = Timer(self.now + delay, callback, arguments)
        self.timers.append(timer)
        return timer

    def call_at(self, due: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        return self.call_later(due - self.now, callback, *arguments)

    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.waiting() if timer.due + self.late <= end]:
            timer = min(due, key=lambda each: each.due)
            self.timers.remove(timer)
            self.now = max(self.now, timer.due + self.late)
            timer.fire()
        self.now = end

"""Plays a recorded answer to a client: heads, chunks, trailers, messages, the end or the break, each when it is due.

Knows the client's side of the wire; must not know why this answer was chosen.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import NamedTuple

from proxy.interpret.headers import joined, value_of
from proxy.interpret.websocket import FrameParser
from proxy.replay.answer import Answer, Head
from proxy.replay.leading import way_of
from proxy.wire.interface import ClientSide, RawHeaders, UpstreamResponse

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_BODILESS = frozenset((204, 304))


class _Step(NamedTuple):
    """What happens at a time; `after`: once so much has come from the client through the tunnel, at `since_us`.
    `wait_s` is waited before it, whatever the speed."""

    at_us: int
    what: Head | bytes
    after: int = 0
    since_us: int = 0
    wait_s: float = 0.0


class Player:
    """Plays one answer, `speed` times as fast as it came, None without waiting. `began` is the loop's time at which the
    client's request did; `over` is called at the end. `said`, `pause`, `resume` and `stop` tell what the client does.
    """

    def __init__(
        self,
        client: ClientSide,
        answer: Answer,
        speed: float | None,
        began: float,
        over: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._answer = answer
        self._speed = speed
        self._began = began
        self._tell_over = over
        self._loop = asyncio.get_running_loop()
        self._steps = _steps(answer, continued=client.request.awaits_continue)
        self._at = 0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = self._over = False
        self._heard = _Heard(answer)
        self._shifted = -1  # the last step whose time was set anew
        self._held = -1  # the last step that had to be waited for
        self._held_until = 0.0

    def play(self) -> None:
        """Go on as far as it is due; what is not comes by a timer, or with the client's next word."""
        while not self._over and not self._paused:
            self._disarm()
            step = self._steps[self._at] if self._at < len(self._steps) else None
            if step is not None and step.after > self._heard.count:
                self._client.flush()
                return
            if step is not None and step.after and self._shifted < self._at and self._speed is not None:
                # It is due as long after what it answers as it was then.
                self._shifted = self._at
                self._began = max(self._began, self._loop.time() - step.since_us / 1_000_000 / self._speed)
            if not self._is_due(self._answer.end_us if step is None else step.at_us):
                return
            if self._answer.waits and self._is_held(step):
                return
            if step is None:
                self._end()
                return
            self._at += 1
            self._do(step)

    def said(self, data: bytes) -> None:
        """Bytes of the client through a tunnel."""
        before = self._heard.count
        self._heard.add(data)
        if self._heard.count > before:
            self.play()

    def silent(self) -> None:
        """The client says no more through a tunnel: it is answered all the same, as it was."""

    def pause(self) -> None:
        """The client is slower."""
        self._paused = True
        self._disarm()

    def resume(self) -> None:
        self._paused = False
        self.play()

    def stop(self) -> None:
        """The client is gone."""
        self._over = True
        self._disarm()

    def _is_due(self, at_us: int) -> bool:
        if self._speed is None:
            return True
        due = self._began + at_us / 1_000_000 / self._speed
        if due <= self._loop.time():
            return True
        self._timer = self._loop.call_at(due, self.play)
        return False

    def _is_held(self, step: _Step | None) -> bool:
        """Whether a wait is not over. What was recorded later comes later by as much."""
        wait_s = self._answer.waits[-1] if step is None else step.wait_s
        if wait_s and self._held < self._at:
            self._held = self._at
            self._held_until = self._loop.time() + wait_s
            self._began += wait_s
        if self._held < self._at or self._held_until <= self._loop.time():
            return False
        self._client.flush()
        if self._held_until < math.inf:
            self._timer = self._loop.call_at(self._held_until, self.play)
        return True

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _do(self, step: _Step) -> None:
        client = self._client
        if isinstance(step.what, bytes):
            client.write(step.what)
        elif step.what.status == 101:
            client.tunnel(self._head(step.what))
        elif step.what.status < 200:
            client.interim(self._head(step.what))
        else:
            client.start(self._head(step.what), trailers_follow=bool(self._answer.trailers))
        # All that is there without waiting goes out together.
        if self._speed is not None or self._at == len(self._steps) or self._at % 64 == 0 or step.after:
            client.flush()

    def _end(self) -> None:
        self._over = True
        final = bool(self._answer.heads) and not 100 < self._answer.heads[-1].status < 200
        switched = bool(self._answer.heads) and self._answer.heads[-1].status == 101
        self._client.flush()
        if self._answer.broken or not (final or switched):
            self._client.abort(reset=self._answer.reset)
        else:
            self._client.end(_raw(self._answer.trailers))
            self._client.flush()
        self._tell_over()

    def _head(self, head: Head) -> UpstreamResponse:
        headers = _raw(head.headers)
        if self._answer.dialect == "gemini":
            # Where they lead to is somebody who is not to be asked; what was sent there is recorded too.
            way = way_of(self._client.request)
            if way is not None:
                way.turn(head.status, headers)
        if head.status == 101:
            key = value_of(_text(self._client.request.headers), "sec-websocket-key")
            if key is not None:
                accept = base64.b64encode(hashlib.sha1(key.encode("latin-1") + _MAGIC).digest())  # noqa: S324 - RFC 6455 wants it
                headers = [(name, accept if name.lower() == b"sec-websocket-accept" else was) for name, was in headers]
        bodiless = self._client.request.method == b"HEAD" or head.status < 200 or head.status in _BODILESS
        return UpstreamResponse(head.status, head.reason.encode("latin-1", "replace"), headers, bodiless)


class _Heard:
    """How much a client has said through a tunnel: whole messages of a WebSocket, bytes of anything else."""

    def __init__(self, answer: Answer) -> None:
        head = answer.heads[-1] if answer.heads else None
        upgrade = "" if head is None else value_of(head.headers, "upgrade") or ""
        self._frames: FrameParser | None = None
        if head is not None and upgrade.strip().lower() == "websocket":
            self._frames = FrameParser(joined(head.headers, "sec-websocket-extensions"), client=True)
        self.count = 0

    def add(self, data: bytes) -> None:
        self.count += len(data) if self._frames is None else len(self._frames.feed(data))


def _steps(answer: Answer, *, continued: bool) -> Sequence[_Step]:
    """All that happens, in order. `continued`: the client has been told to go on already."""
    heads = [_Step(head.at_us, head) for head in answer.heads if not (continued and head.status == 100)]
    return [*heads, *_answers(answer)] if answer.sent else _merged(answer, heads)


def _merged(answer: Answer, heads: Sequence[_Step]) -> Sequence[_Step]:
    chunks = [_Step(at_us, data, 0, 0, wait) for (at_us, data), wait in _waited(answer)]
    return list(heapq.merge(heads, chunks, key=itemgetter(0)))


def _answers(answer: Answer) -> Iterator[_Step]:
    """The server's chunks in a tunnel, each after what the client had said before it."""
    heard = _Heard(answer)
    times, counts = [], []
    for at_us, data in answer.sent:
        before = heard.count
        heard.add(data)
        if heard.count > before:
            times.append(at_us)
            counts.append(heard.count)
    for (at_us, data), wait in _waited(answer):
        place = bisect_right(times, at_us) - 1
        after, since = (counts[place], times[place]) if place >= 0 else (0, 0)
        yield _Step(at_us, data, after, since, wait)


def _waited(answer: Answer) -> Iterator[tuple[tuple[int, bytes], float]]:
    return zip(answer.chunks, answer.waits or repeat(0.0), strict=False)


def _raw(pairs: Sequence[tuple[str, str]]) -> RawHeaders:
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in pairs]


def _text(headers: RawHeaders) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]

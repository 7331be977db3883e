"""An answer piece by piece, each with the time at which it came: what a person would have seen and when. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from proxy.interpret.delivery import Delivery
from proxy.interpret.dialects.base import Dialect
from proxy.interpret.exchange import Reading
from proxy.interpret.meaning import Recording
from proxy.interpret.sse import Event

MOST = 8 * 2**20
"""Characters after which the rest is left out."""

Kind = Literal["text", "reasoning", "call", "error"]


class Piece(NamedTuple):
    """Some text of the answer, microseconds since the exchange began. Of a call first its name, then its arguments."""

    at_us: int
    kind: Kind
    text: str


def spoken(recording: Recording) -> list[Piece]:
    """The pieces of the answer; none where nothing readable came, or nobody knows how to read it."""
    heard = _Heard()
    meaning = Reading(_Overheard(recording, heard)).run()
    error = meaning.error
    said = error and (error.message or error.code or error.type or error.status)
    if said:
        heard.pieces.append(Piece(meaning.terminal_event_us or heard.now_us, "error", str(said)))
    return heard.pieces


class _Heard:
    """Listens until what was heard is said once more."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.now_us = 0
        self._deaf = False
        self._room = MOST
        self._call: object = None
        self._named = False

    def said(self, text: str, at_us: int) -> None:
        self._add(at_us, "text", text)

    def thought(self, text: str, at_us: int) -> None:
        self._add(at_us, "reasoning", text)

    def called(self, key: object, name: str | None, arguments: str) -> None:
        if key != self._call:
            self._call, self._named = key, False
        if name and not self._named:
            self._named = True
            self._add(self.now_us, "call", f"{name} ")
        if arguments:
            self._add(self.now_us, "call", arguments)

    def forgotten(self) -> None:
        self._deaf = bool(self.pieces)

    def _add(self, at_us: int, kind: Kind, text: str) -> None:
        if kind != "call":
            self._call, self._named = None, False
        self._room -= len(text)
        if not self._deaf and self._room >= 0:
            self.pieces.append(Piece(at_us, kind, text))


class _Overheard(Delivery):
    """Delivers as ever, and lets somebody listen."""

    def __init__(self, recording: Recording, heard: _Heard) -> None:
        self._heard = heard
        super().__init__(recording)

    def made(self, kind: type[Dialect]) -> Dialect:
        dialect = super().made(kind)
        dialect.listener = self._heard
        return dialect

    def event(self, event: Event, at_us: int) -> None:
        self._heard.now_us = at_us
        super().event(event, at_us)

    def message(self, data: bytes, at_us: int, *, sent: bool) -> None:
        self._heard.now_us = at_us
        super().message(data, at_us, sent=sent)

    def body(self, body: object, at_us: int) -> None:
        self._heard.now_us = at_us
        super().body(body, at_us)

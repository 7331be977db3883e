"""What a person would read of a recorded body, and when it came: the answer's text, or else the uncoded body.

Must not know how it is shown.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from uuid import UUID

from proxy.exchange import Side
from proxy.interpret.body import decoder
from proxy.interpret.recorded import recording
from proxy.interpret.spoken import Piece, spoken
from proxy.replay.captured import Tape
from proxy.store import Engine
from proxy.store.engine import reading
from proxy.store.unread import recorded


def readable(engine: Engine, tape: Tape) -> Iterable[Piece]:
    """The pieces of a tape in the order of time; to be read after the engine is disposed of, too."""
    pieces = _answer(engine, tape.exchange.id) if tape.side is Side.RESPONSE else []
    return pieces or _decoded(tape)


def _answer(engine: Engine, exchange: UUID) -> list[Piece]:
    with reading(engine) as connection:
        for found in recorded(connection, [exchange]):
            return sorted(spoken(recording(found)), key=lambda piece: piece.at_us)
    return []


def _decoded(tape: Tape) -> Iterator[Piece]:
    """The body as text; what is no UTF-8 as `\\xNN`, what is wrong with its coding as the last piece."""
    decoding, at_us = decoder(tape.header("content-encoding")), 0
    text = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    for at_us, data in tape:
        for piece in decoding.steps(data):
            yield Piece(at_us, "text", text.decode(piece))
    yield Piece(at_us, "text", text.decode(decoding.finish(), final=True))
    if decoding.problem is not None:
        yield Piece(at_us, "error", decoding.problem)

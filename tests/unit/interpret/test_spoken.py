"""An answer piece by piece: of every recorded stream, what is heard as it comes is what is understood in the end."""

from __future__ import annotations

import pytest

from proxy.interpret.exchange import interpret
from proxy.interpret.spoken import Piece, spoken
from tests.support.streams import names, streams
from tests.unit.interpret.reading import STEP_US, recording

RESUMED = {"openai-responses-background-resume"}
"""What begins in the midst of the answer, and ends with all of it."""


def _heard(pieces: list[Piece], kind: str) -> str:
    return "".join(piece.text for piece in pieces if piece.kind == kind)


def _letters(text: str) -> str:
    """Several answers come mixed, and are understood one after another."""
    return "".join(sorted("".join(text.split())))


@pytest.mark.parametrize("name", names())
def test_what_is_heard_is_what_is_understood(name: str) -> None:
    stream = streams()[name]
    meaning, pieces = interpret(recording(stream)), spoken(recording(stream))
    if name in RESUMED:
        assert meaning.text.endswith(_heard(pieces, "text"))
        return
    assert _letters(_heard(pieces, "text")) == _letters(meaning.text)
    assert _letters(_heard(pieces, "reasoning")) == _letters(meaning.reasoning)
    called = "".join(f"{call.name or ''} {call.arguments}" for call in meaning.tool_calls)
    assert _letters(_heard(pieces, "call")) == _letters(called)
    assert (meaning.error is None) == (_heard(pieces, "error") == "")


@pytest.mark.parametrize("name", names())
def test_when_it_is_heard(name: str) -> None:
    stream = streams()[name]
    meaning, pieces = interpret(recording(stream)), spoken(recording(stream))
    last = len(stream.pieces()) * STEP_US
    assert all(0 <= piece.at_us <= last for piece in pieces)
    texts = [piece.at_us for piece in pieces if piece.kind == "text"]
    if texts and meaning.first_visible_us is not None:
        assert min(texts) >= meaning.first_visible_us
    assert texts == sorted(texts)

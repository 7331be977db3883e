"""Marks are the times at which something first came: found out by reading every beginning of every recorded stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Meaning
from tests.support.streams import Stream, names, streams
from tests.unit.interpret.reading import STEP_US, recording

PIECE = 24
RESUMED = "openai-responses-background-resume"
"""Its reasoning came in the first part of the stream; when, its last event does not tell."""

STREAMED = [name for name in names() if streams()[name].expected["events"] is not None]
BEFORE = (
    "anthropic-basic-ping-padding",
    "deepseek-nonstream-blank-lines",
    "llamacpp-timings",
    "openrouter-processing-cost",
)
"""Those in which something comes that says nothing: pings, blank lines, comments."""


def pieces(stream: Stream) -> list[bytes]:
    return [stream.body[at : at + PIECE] for at in range(0, len(stream.body), PIECE)]


def first(stream: Stream, holds: Callable[[Meaning], object]) -> int | None:
    """When the shortest beginning had come of which this holds."""
    whole = pieces(stream)
    low, high = 0, len(whole)
    if not holds(interpret(recording(stream, whole, whole=False))):
        return None
    while high - low > 1:  # what has come stays
        middle = (low + high) // 2
        if holds(interpret(recording(stream, whole[:middle], whole=False))):
            high = middle
        else:
            low = middle
    return high * STEP_US


@pytest.mark.parametrize("name", STREAMED)
def test_marks_are_when_it_came(name: str) -> None:
    stream = streams()[name]
    meaning = interpret(recording(stream, pieces(stream)))
    assert meaning.first_event_us == first(stream, lambda meant: meant.first_event_us is not None)
    if name != RESUMED:
        assert meaning.first_reasoning_us == first(stream, lambda meant: meant.reasoning)
    assert meaning.first_visible_us == first(stream, lambda meant: meant.text or meant.tool_calls or _shown(meant))
    if meaning.terminated:
        assert meaning.terminal_event_us == first(stream, lambda meant: meant.terminated)


def _shown(meaning: Meaning) -> bool:
    return any(each.side == "response" for each in meaning.media)


@pytest.mark.parametrize("name", BEFORE)
def test_what_says_nothing_is_no_first_token(name: str) -> None:
    stream = streams()[name]
    one_by_one = [stream.body[at : at + 1] for at in range(len(stream.body))]
    meaning = interpret(recording(stream, one_by_one))
    word = stream.expected["text"][:4] or stream.expected["reasoning"][:4]
    at = stream.body.index(word.encode())
    assert meaning.first_visible_us is not None
    assert meaning.first_visible_us > at * STEP_US, "the first visible piece had not come by then"


def test_blank_lines_before_one_json_are_passed_over() -> None:
    stream = streams()["deepseek-nonstream-blank-lines"]
    assert stream.body.startswith(b"\n")
    meaning = interpret(recording(stream, pieces(stream)))
    assert meaning.first_event_us == len(pieces(stream)) * STEP_US

"""Guesses at tokens: near what tokenizers count, apart from what was counted, and only where that is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret.estimate import estimated, tokens_of
from proxy.interpret.exchange import interpret
from tests.support.streams import names, streams
from tests.unit.interpret.reading import read_events, read_json, recording

SAMPLES: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "tokens.json").read_text(encoding="utf-8"))
"""Texts, and what three tokenizers count: cl100k_base, the one that Anthropic published, and DeepSeek's."""


ENGLISH = SAMPLES["english"]["text"]


@pytest.mark.parametrize("name", SAMPLES)
def test_near_what_tokenizers_count(name: str) -> None:
    """Within a sixth of their mean, which they are not of one another where a script is not Latin."""
    text, counted = SAMPLES[name]["text"], SAMPLES[name]["tokens"].values()
    assert tokens_of(text) == pytest.approx(sum(counted) / len(counted), rel=1 / 6)


@given(text=st.text(max_size=300))
def test_of_any_text(text: str) -> None:
    assert 0 <= tokens_of(text) <= 5 * len(text)


def test_streams_that_have_a_usage_have_no_guess() -> None:
    for name in names():
        meaning = interpret(recording(streams()[name]))
        assert meaning.estimate is None or meaning.usage_state in ("missing", "partial"), name
        if meaning.usage_state == "complete":
            assert meaning.estimate is None, name


def _chunk(text: str) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}


ASKED = {"model": "m", "messages": [{"role": "user", "content": ENGLISH}], "stream": True}


def test_a_stream_that_was_not_asked_for_its_usage() -> None:
    meaning = read_events(_chunk(ENGLISH), "[DONE]", target="/v1/chat/completions", request=ASKED)
    assert (meaning.usage, meaning.usage_state) == (None, "missing")
    assert meaning.estimate == (40, 36)


def test_tools_are_part_of_the_input() -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    meaning = read_events(_chunk("Hi"), target="/v1/chat/completions", request={**ASKED, "tools": tools})
    assert meaning.estimate is not None
    assert meaning.estimate.input_tokens is not None
    assert meaning.estimate.input_tokens > 40 + 15


def test_no_guess_at_pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100}}
    asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "what"}, picture]}]}
    meaning = read_events(_chunk("Hi"), "[DONE]", target="/v1/chat/completions", request=asked)
    assert meaning.estimate == (None, 1)


def test_errors_and_what_costs_nothing_have_none() -> None:
    refused = read_json({"error": {"message": "no"}}, "/v1/chat/completions", ASKED, status=429)
    counted = read_json({"input_tokens": 3}, "/v1/messages/count_tokens", ASKED)
    assert (refused.estimate, counted.estimate) == (None, None)


def test_the_page_tells_what_the_streams_say() -> None:
    """How far the guess at the output is off where it was counted; docs/estimates.md has these numbers."""
    ratios = []
    for name in names():
        meaning = interpret(recording(streams()[name]))
        if meaning.usage_state == "complete" and meaning.usage is not None and meaning.usage.output_tokens:
            guess = estimated(meaning, {})
            if guess is not None and guess.output_tokens:
                ratios.append(guess.output_tokens / meaning.usage.output_tokens)
    near = sum(abs(ratio - 1) <= 0.15 for ratio in ratios)
    above = sum(ratio > 1.15 for ratio in ratios)
    assert (len(ratios), near, above) == (31, 7, 1)

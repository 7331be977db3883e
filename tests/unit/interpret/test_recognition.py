"""Which dialect reads what: the upstream's own first, then by the path, then by what the answer looks like."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.interpret.dialects.cohere import Cohere
from proxy.interpret.dialects.openai_chat import OpenAIChat
from proxy.interpret.dialects.registry import DIALECTS, find
from proxy.presets import DIALECTS as FAMILIES
from tests.unit.interpret.reading import read, read_events, read_json

CHAT = {
    "object": "chat.completion",
    "model": "m",
    "choices": [{"message": {"content": "Hi"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def test_the_upstream_s_own_dialect_comes_first() -> None:
    assert find("POST", "/v1/rerank", "cohere").dialect is Cohere
    assert find("POST", "/v1/rerank", "openai").dialect is OpenAIChat
    assert find("POST", "/v1/rerank").dialect is OpenAIChat


def test_every_family_has_a_dialect() -> None:
    assert set(FAMILIES) == {family for dialect in DIALECTS for family in dialect.FAMILIES}


@pytest.mark.parametrize("family", [*FAMILIES, "", "nobody"])
def test_another_s_form_is_read_by_its_path(family: str) -> None:
    meaning = read_json(CHAT, "/v1/chat/completions", family=family)
    assert (meaning.text, meaning.usage_state) == ("Hi", "complete")


@pytest.mark.parametrize("family", ["openai", "gemini", ""])
def test_an_unknown_path_in_a_known_form_is_read(family: str) -> None:
    asked = {"model": "mine", "messages": [{"role": "user", "content": "hello"}]}
    meaning = read_json(CHAT, "/inference/go", asked, family=family)
    assert (meaning.text, meaning.operation, meaning.usage_state) == ("Hi", "chat", "complete")
    assert (meaning.model_asked, [each.text for each in meaning.prompts]) == ("mine", ["hello"])
    chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    streamed = read_events(chunk, "[DONE]", target="/inference/go", family=family)
    assert (streamed.text, streamed.operation, streamed.complete) == ("Hi", "chat", True)


@pytest.mark.parametrize(
    ("body", "operation"),
    [
        ({"type": "message", "role": "assistant", "content": []}, "messages"),
        ({"object": "response", "output": []}, "responses"),
        ({"candidates": []}, "generate"),
        ({"done": True, "message": {"content": ""}}, "chat"),
        ({"object": "interaction", "id": "i"}, "interactions"),
        ({"conversation_id": "c", "outputs": []}, "conversation"),
        ({"usage_info": {"pages_processed": 1}, "pages": []}, "ocr"),
        ({"model_instance_id": "m", "output": []}, "chat"),
        ({"tokens_predicted": 1, "content": ""}, "text"),
    ],
)
def test_known_by_its_looks(body: Any, operation: str) -> None:
    assert read_json(body, "/x").operation == operation


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"jobs": []}', "application/json"),
        (b"<html></html>", "text/html"),
        (b"\x89PNG", "image/png"),
        (b"", "application/json"),
        (b"data: 5\n\n", "text/event-stream"),
        (b'{"status":"x"}\n', "application/x-ndjson"),
        (b"[1, 2]", "application/json"),
    ],
)
def test_what_is_not_understood_says_so(body: bytes, kind: str) -> None:
    meaning = read(body, "/v1/fine_tuning/jobs", kind)
    assert (meaning.operation, meaning.usage_state, meaning.usage, meaning.media) == (None, None, None, [])


def test_routes_end_in_time_whatever_the_path() -> None:
    """Patterns with several open ends take the square of a path's length; only so much of one is looked at."""
    for unit in ("/models/", "/model/", "/deployments/", "a", "%2F", "/openai/"):
        for family in ("openai", "bedrock"):
            find("POST", unit * 20_000, family)

"""What Gemini's responses can hold where no recorded stream shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret.dialects.gemini import nested
from proxy.interpret.meaning import Meaning, Rating, ToolCall
from tests.unit.interpret.reading import read

STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
ONE = "/v1beta/models/gemini-2.5-flash:generateContent"


def stream(*events: dict[str, Any], target: str = STREAM, **options: Any) -> Meaning:
    return read("".join(f"data: {json.dumps(each)}\r\n\r\n" for each in events).encode(), target, **options)


def parts(*given: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(given)}, **({"finishReason": reason} if reason else {})}]}


def test_thoughts_tools_and_modalities() -> None:
    usage = {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 20,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 30,
        "thoughtsTokenCount": 7,
        "totalTokenCount": 157,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 60}, {"modality": "TEXT"}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 25}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 9}],
        "serviceTier": "flex",
    }
    meaning = stream({**parts({"text": "hm", "thought": True}, {"text": "so"}, reason="STOP"), "usageMetadata": usage})
    assert (meaning.reasoning, meaning.text, meaning.service_tier) == ("hm", "so", "flex")
    used = meaning.usage
    assert used is not None
    assert (used.input_tokens, used.output_tokens, used.total_tokens) == (120, 37, 157)
    assert (used.cache_read_tokens, used.tool_prompt_tokens, used.reasoning_tokens) == (40, 20, 7)
    assert (used.input_audio_tokens, used.cache_audio_read_tokens, used.output_image_tokens) == (60, 25, 9)
    assert not meaning.usage_conflict


def test_function_calls_are_what_it_ended_for() -> None:
    called = {"functionCall": {"id": "1", "name": "f", "args": {"city": "Zürich"}}}
    meaning = stream(parts(called, {"functionCall": {"name": "g"}}, reason="STOP"))
    assert meaning.tool_calls == [ToolCall("1", "f", '{"city": "Zürich"}'), ToolCall(None, "g", "{}")]
    assert (meaning.finish_reason, meaning.finish_reason_norm) == ("STOP", "tool_calls")


@pytest.mark.parametrize(
    ("reason", "norm"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("LANGUAGE", "other"),
    ],
)
def test_finish_reasons(reason: str, norm: str) -> None:
    assert stream(parts({"text": "x"}, reason=reason)).finish_reason_norm == norm


def test_a_finish_reason_on_every_chunk_is_no_end() -> None:
    meaning = stream(parts({"text": "a"}, reason="STOP"), parts({"text": "b"}, reason="STOP"))
    assert (meaning.text, meaning.terminated, meaning.complete, meaning.terminator) == ("ab", False, True, "eof")


def test_ratings_are_kept_once_and_the_last_counts() -> None:
    def rated(level: str) -> dict[str, Any]:
        return {"candidates": [{"safetyRatings": [{"category": "H", "probability": level, "probabilityScore": 0.5}]}]}

    assert stream(rated("LOW"), rated("HIGH")).ratings == [Rating("completion", "H", "HIGH", 0.5)]


@pytest.mark.parametrize(
    ("target", "model", "operation"),
    [
        ("/v1beta/tunedModels/mine:generateContent", "mine", "generate"),
        ("/v1/projects/p/locations/l/publishers/google/models/gemini-x:streamGenerateContent", "gemini-x", "generate"),
        ("/v1/models/e%3AembedContent", "e", "embeddings"),
        ("/v1beta/models/e:batchEmbedContents", "e", "embeddings"),
        ("/v1beta/models/e:countTokens", "e", "count"),
        ("/v1beta/models", None, "metadata"),
    ],
)
def test_the_path_names_model_and_operation(target: str, model: str | None, operation: str) -> None:
    method = "GET" if operation == "metadata" else "POST"
    meaning = read(b"{}", target, "application/json", method=method)
    assert (meaning.model_asked, meaning.operation) == (model, operation)


def test_an_array_in_one_piece_or_many_and_one_that_breaks_off() -> None:
    target = STREAM.removesuffix("?alt=sse")
    body = json.dumps([parts({"text": "a"}), parts({"text": "b"}, reason="STOP")], indent=2).encode()
    meaning = read(body, target, "application/json; charset=UTF-8")
    assert (meaning.text, meaning.events, meaning.complete, meaning.streaming) == ("ab", 2, True, True)
    cut = read(body[:-30], target, "application/json", whole=False)
    assert (cut.text, cut.complete) == ("a", False)


@pytest.mark.parametrize("target", [STREAM, ONE, STREAM.removesuffix("?alt=sse")])
def test_errors_have_a_delay(target: str) -> None:
    error = {
        "error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "m", "details": [{"retryDelay": "39.5s"}]}
    }
    for body in (error, [error]):
        meaning = read(json.dumps(body).encode(), target, "application/json", status=429)
        assert meaning.error is not None
        assert (meaning.error.code, meaning.error.status, meaning.error.retry_after_s) == (
            429,
            "RESOURCE_EXHAUSTED",
            39.5,
        )


def test_a_bare_error_in_the_midst_of_events() -> None:
    text = json.dumps({"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}, indent=2)
    events = f"data: {json.dumps(parts({'text': 'a'}))}\r\n\r\n{text}\r\n"
    meaning = read(events.encode(), STREAM)
    assert meaning.error is not None
    assert (meaning.text, meaning.error.status, meaning.complete) == ("a", "UNAVAILABLE", False)


def test_embeddings_have_no_output() -> None:
    body = b'{"embedding": {"values": [1]}, "usageMetadata": {"promptTokenCount": 4}}'
    meaning = read(body, "/v1/models/e:embedContent", "application/json")
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.total_tokens) == (4, None, 4)


def test_what_was_asked() -> None:
    asked = {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [{"role": "user", "parts": [{"text": "u"}, {"inlineData": {}}]}],
    }
    meaning = stream(parts({"text": "a"}), request=json.dumps(asked).encode())
    assert [tuple(each) for each in meaning.prompts] == [
        ("user" if role != "system" else "system", text) for role, text in (("system", "s"), ("user", "u"))
    ]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"promptTokenCount": 4}, (4, None, 4)),  # what came out is not known
        ({"promptTokenCount": 4, "totalTokenCount": 4}, (4, 0, 4)),
        ({"promptTokenCount": 4, "totalTokenCount": 9}, (4, 5, 9)),
        ({"cachedContentTokenCount": 4}, (None, None, None)),
        ({"totalTokenCount": 9}, (None, None, 9)),
        ({"promptTokenCount": 4, "thoughtsTokenCount": 3, "totalTokenCount": 7}, (4, 3, 7)),
    ],
)
def test_what_is_not_told_is_not_zero(usage: dict[str, int], expected: tuple[int | None, ...]) -> None:
    used = stream({"usageMetadata": usage}).usage
    assert used is not None
    assert (used.input_tokens, used.output_tokens, used.total_tokens) == expected


def test_fields_that_later_chunks_leave_out_keep_their_value() -> None:
    used = stream(
        {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 10}},
        {"usageMetadata": {"candidatesTokenCount": 5}},
        {"usageMetadata": None},
    ).usage
    assert used is not None
    assert (used.input_tokens, used.output_tokens) == (9, 5)


def test_arguments_that_come_in_pieces() -> None:
    """Vertex streams them: a name first, values by JSON path, and a call without anything at the end."""

    def piece(*told: dict[str, Any], **more: Any) -> dict[str, Any]:
        return parts({"functionCall": {**({"partialArgs": list(told)} if told else {}), **more}})

    meaning = stream(
        piece(name="f", id="1", willContinue=True),
        piece({"jsonPath": "$.place.city", "stringValue": "New ", "willContinue": True}, willContinue=True),
        piece({"jsonPath": "$.place.city", "stringValue": "York"}, willContinue=True),
        piece(
            {"jsonPath": "$.days[0]", "numberValue": 1}, {"jsonPath": "$.days[1]", "numberValue": 2}, willContinue=True
        ),
        piece(
            {"jsonPath": "$['x y']", "boolValue": True},
            {"jsonPath": "$.n", "nullValue": "NULL_VALUE"},
            willContinue=True,
        ),
        piece(),
        parts({"functionCall": {"name": "g", "args": {"a": 1}}}, reason="STOP"),
    )
    assert meaning.tool_calls == [
        ToolCall("1", "f", '{"place": {"city": "New York"}, "days": [1, 2], "x y": true, "n": null}'),
        ToolCall(None, "g", '{"a": 1}'),
    ]


@given(st.dictionaries(st.text("$.[]'0a9", max_size=12), st.lists(st.text(max_size=2) | st.none(), min_size=1)))
def test_no_path_of_arguments_is_harmful(pieces: dict[str, list[Any]]) -> None:
    json.dumps(nested(pieces))


def test_batches_of_embeddings() -> None:
    asked = {"requests": [{"content": {"parts": [{"text": "one"}]}}, {"content": {"parts": [{"text": "two"}]}}]}
    answer = {"promptTokenCount": 4, "promptTokenDetails": [{"modality": "IMAGE", "tokenCount": 3}]}
    body = json.dumps({"embeddings": [], "usageMetadata": answer}).encode()
    meaning = read(body, "/v1/models/e:batchEmbedContents", "application/json", request=json.dumps(asked).encode())
    assert [text for _, text in meaning.prompts] == ["one", "two"]
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.input_image_tokens) == (4, 3)


def test_a_prompt_that_is_blocked() -> None:
    rated = [{"category": "H", "probability": "HIGH", "blocked": True}]
    meaning = stream({"promptFeedback": {"blockReason": "JAILBREAK", "safetyRatings": rated}})
    assert (meaning.finish_reason, meaning.finish_reason_norm) == ("promptFeedback:JAILBREAK", "content_filter")
    assert meaning.ratings == [Rating("prompt", "H", "HIGH", None, True)]


def test_candidates_do_not_mix() -> None:
    def two(first: str, second: str) -> dict[str, Any]:
        return {
            "candidates": [
                {"index": 1, "content": {"parts": [{"text": second}]}, "finishReason": "MAX_TOKENS"},
                {"content": {"parts": [{"text": first}]}, "index": 0, "finishReason": "STOP"},
            ]
        }

    meaning = stream(two("a", "x"), two("b", "y"))
    assert (meaning.text, meaning.finish_reason) == ("ab\n\nxy", "STOP")


def test_an_array_of_events_that_ends_with_an_error() -> None:
    error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}
    body = json.dumps([parts({"text": "a"}), error]).encode()
    meaning = read(body, STREAM.removesuffix("?alt=sse"), "application/json")
    assert meaning.error is not None
    assert (meaning.text, meaning.error.status, meaning.complete) == ("a", "UNAVAILABLE", False)

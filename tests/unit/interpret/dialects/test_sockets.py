"""Sessions through WebSockets: realtime, Responses, and Google's live ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.interpret.dialects.base import MAX_CALLS
from tests.unit.interpret.reading import read_json, read_socket

REALTIME = "/v1/realtime?model=gpt-realtime"
LIVE = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k"
RESPONSES = "/v1/responses"


def done(number: int, given: int, made: int, **more: Any) -> tuple[str, Any]:
    usage = {"total_tokens": given + made, "input_tokens": given, "output_tokens": made}
    response = {"id": f"resp_{number}", "status": "completed", "usage": usage, **more}
    return ("came", {"type": "response.done", "response": response})


def created(number: int) -> tuple[str, Any]:
    return ("came", {"type": "response.created", "response": {"id": f"resp_{number}", "usage": None}})


def spoken(text: str) -> tuple[str, Any]:
    return ("came", {"type": "response.output_text.delta", "delta": text})


@pytest.mark.parametrize(
    "extensions", ["", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"]
)
def test_responses_of_a_session_are_summed(extensions: str) -> None:
    meaning = read_socket(
        ("came", {"type": "session.created", "session": {"model": "gpt-realtime-2025"}}),
        ("sent", {"type": "session.update", "session": {"instructions": "be brief"}}),
        ("sent", {"type": "conversation.item.create", "item": {"role": "user", "content": [{"text": "hello"}]}}),
        ("sent", {"type": "response.create"}),
        created(1),
        spoken("one"),
        done(1, 100, 10),
        created(2),
        spoken("two"),
        done(2, 200, 20),
        target=REALTIME,
        extensions=extensions,
    )
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.total_tokens) == (300, 30, 330)
    assert (meaning.model_asked, meaning.response_model) == ("gpt-realtime", "gpt-realtime-2025")
    assert (meaning.text, meaning.complete, meaning.terminator) == ("one\n\ntwo", True, "response.done")
    assert [tuple(each) for each in meaning.prompts] == [("system", "be brief"), ("user", "hello")]
    assert (meaning.events, meaning.operation, meaning.streaming) == (10, "realtime", True)
    assert (meaning.first_event_us, meaning.first_visible_us) == (1000, 6000)
    assert [each["total_tokens"] for each in json.loads(meaning.usage_raw or "")] == [110, 220]


def test_a_session_that_ends_in_the_midst_of_a_response() -> None:
    meaning = read_socket(created(1), spoken("on"), done(1, 1, 1), created(2), spoken("tw"), target=REALTIME)
    assert (meaning.complete, meaning.terminated, meaning.usage_state) == (False, False, "partial")
    assert "while a response was under way" in str(meaning.problem)


def test_xai_has_the_usage_beside_the_response() -> None:
    usage = {
        "input_tokens": 7,
        "output_tokens": 3,
        "total_tokens": 10,
        "grok_tokens": 10,
        "billable_audio_seconds": 2.5,
    }
    message = {"type": "response.done", "response": {"id": "r", "status": "completed", "usage": {}}, "usage": usage}
    meaning = read_socket(("came", {"type": "ping"}), ("came", message), target=REALTIME)
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.others) == (7, {"audio_ms": 2500})


def test_what_was_heard_is_billed_apart() -> None:
    session = {"model": "m", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    heard = {
        "type": "conversation.item.input_audio_transcription.completed",
        "transcript": "hi",
        "usage": {"type": "duration", "seconds": 4},
    }
    meaning = read_socket(
        ("came", {"type": "session.updated", "session": session}),
        ("sent", {"type": "input_audio_buffer.append", "audio": "A" * 40}),
        ("sent", {"type": "input_audio_buffer.append", "audio": "A" * 40}),
        ("came", heard),
        done(1, 5, 5),
        target=REALTIME,
    )
    (part,) = meaning.parts
    assert (part.kind, part.model, part.usage.others) == ("transcription", "whisper-1", {"audio_ms": 4000})
    assert [each.text for each in meaning.prompts] == ["hi"]
    assert [tuple(each) for each in meaning.media] == [("request", "audio", 0, 1, 80)]


def test_a_session_that_only_listens() -> None:
    session = {"model": None, "input_audio_transcription": {"model": "gpt-4o-transcribe"}}
    usage = {"type": "tokens", "input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    kind = "conversation.item.input_audio_transcription.completed"
    heard = ("came", {"type": kind, "transcript": "hi", "usage": usage})
    meaning = read_socket(
        ("came", {"type": "transcription_session.updated", "session": session}), heard, heard,
        target="/v1/realtime?intent=transcription",
    )  # fmt: skip
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.total_tokens, meaning.usage_state) == (20, 24, "complete")
    assert [(part.kind, part.model, part.usage.input_tokens, part.size) for part in meaning.shares] == [
        ("transcription", "gpt-4o-transcribe", 20, 10)
    ]
    assert (meaning.parts, meaning.terminator, meaning.complete) == ([], kind, True)


def test_calls_limits_and_errors_of_a_session() -> None:
    item = {"type": "function_call", "id": "i1", "call_id": "c1", "name": "look"}
    meaning = read_socket(
        created(1),
        ("came", {"type": "response.output_item.added", "output_index": 0, "item": item}),
        ("came", {"type": "response.function_call_arguments.delta", "item_id": "i1", "delta": '{"a"'}),
        ("came", {"type": "response.function_call_arguments.delta", "item_id": "i1", "delta": ":1}"}),
        ("came", {"type": "error", "error": {"type": "invalid_request_error", "message": "no such item"}}),
        (
            "came",
            {"type": "rate_limits.updated", "rate_limits": [{"name": "tokens", "limit": 5, "reset_seconds": 0.5}]},
        ),
        done(1, 5, 5),
        target=REALTIME,
    )
    assert [tuple(each) for each in meaning.tool_calls] == [("c1", "look", '{"a":1}')]
    assert meaning.finish_reason_norm == "tool_calls"
    assert meaning.error is not None
    assert (meaning.error.message, meaning.complete) == ("no such item", True)
    assert [tuple(each) for each in meaning.rate_limits] == [("tokens", 5, None, 500_000)]


def test_responses_through_a_socket() -> None:
    def answer(number: int, text: str) -> dict[str, Any]:
        output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
        usage = {"input_tokens": 10 * number, "output_tokens": number, "total_tokens": 11 * number}
        response = {"id": f"resp_{number}", "model": "gpt-5-x", "status": "completed", "output": output, "usage": usage}
        return {"type": "response.completed", "response": response}

    meaning = read_socket(
        ("sent", {"type": "response.create", "model": "gpt-5", "input": "first"}),
        ("came", {"type": "response.created", "response": {"id": "resp_1"}}),
        ("came", {"type": "response.output_text.delta", "output_index": 0, "delta": "one"}),
        ("came", answer(1, "one")),
        ("sent", {"type": "response.create", "model": "gpt-5", "input": "second"}),
        ("came", answer(2, "two")),
        target=RESPONSES,
    )
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.total_tokens) == (30, 3, 33)
    assert (meaning.text, meaning.response_id, meaning.model_asked) == ("one\n\ntwo", "resp_2", "gpt-5")
    assert [each.text for each in meaning.prompts] == ["first", "second"]
    assert (meaning.complete, meaning.usage_state, meaning.first_visible_us) == (True, "complete", 3000)


def test_responses_through_a_socket_that_breaks_off() -> None:
    meaning = read_socket(
        ("sent", {"type": "response.create", "model": "gpt-5", "input": "first"}),
        ("came", {"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5-x"}}),
        ("came", {"type": "response.output_text.delta", "output_index": 0, "delta": "on"}),
        target=RESPONSES,
    )
    assert (meaning.text, meaning.complete, meaning.usage_state) == ("on", False, "missing")
    assert meaning.estimate is not None


def test_turns_of_a_live_session_are_summed() -> None:
    def usage(given: int, made: int, thought: int) -> dict[str, Any]:
        return {
            "promptTokenCount": given,
            "responseTokenCount": made,
            "thoughtsTokenCount": thought,
            "totalTokenCount": given + made,
            "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": made}],
        }

    sound = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "A" * 64}}
    meaning = read_socket(
        ("sent", {"setup": {"model": "models/gemini-live", "systemInstruction": {"parts": [{"text": "be kind"}]}}}),
        ("came", {"setupComplete": {}}),
        ("sent", {"client_content": {"turns": [{"role": "user", "parts": [{"text": "hello"}]}], "turnComplete": True}}),
        ("came", {"serverContent": {"modelTurn": {"parts": [sound]}}}),
        ("came", {"serverContent": {"outputTranscription": {"text": "hi"}}, "usageMetadata": usage(10, 1, 0)}),
        ("came", {"serverContent": {"turnComplete": True}, "usageMetadata": usage(10, 5, 3)}),
        ("came", {"serverContent": {"modelTurn": {"parts": [{"text": "more"}]}}}),
        ("came", {"serverContent": {"turnComplete": True}, "usageMetadata": usage(20, 7, 0)}),
        target=LIVE,
        family="gemini",
    )
    assert meaning.usage is not None
    found = meaning.usage
    assert (found.input_tokens, found.output_tokens, found.reasoning_tokens, found.total_tokens) == (30, 15, 3, 45)
    assert (found.output_audio_tokens, meaning.usage_conflict) == (12, False)
    assert (meaning.model_asked, meaning.text, meaning.complete) == ("gemini-live", "hi\n\nmore", True)
    assert [tuple(each) for each in meaning.media] == [("response", "audio/pcm;rate=24000", 1, 1, 64)]
    assert [tuple(each) for each in meaning.prompts] == [("system", "be kind"), ("user", "hello")]
    assert [each["promptTokenCount"] for each in json.loads(meaning.usage_raw or "")] == [10, 20]


def test_calls_of_a_live_session() -> None:
    call = {"id": "c", "name": "look", "args": {"a": 1}}
    meaning = read_socket(("came", {"toolCall": {"functionCalls": [call]}}), target=LIVE, family="gemini")
    assert [tuple(each) for each in meaning.tool_calls] == [("c", "look", '{"a": 1}')]
    assert (meaning.finish_reason_norm, meaning.usage_state) == ("tool_calls", "missing")


@pytest.mark.parametrize("target", ["/v1/anything", "/elsewhere"])
def test_a_session_under_another_path_is_known_by_its_first_message(target: str) -> None:
    meaning = read_socket(
        ("came", {"type": "session.created", "session": {"model": "m"}}), done(1, 1, 2), target=target
    )
    assert (meaning.operation, meaning.response_model) == ("realtime", "m")
    assert meaning.usage is not None


def test_what_is_no_known_session() -> None:
    meaning = read_socket(("sent", {"op": "subscribe"}), ("came", [1, 2]), target="/socket")
    assert (meaning.operation, meaning.usage_state, meaning.events) == (None, None, 2)


@pytest.mark.parametrize("target", [RESPONSES, REALTIME])
def test_no_session_no_tokens(target: str) -> None:
    """A GET that was not switched to a WebSocket."""
    meaning = read_json({"object": "list", "data": []}, target, method="GET")
    assert (meaning.usage, meaning.usage_state) == (None, "none")


def test_media_of_many_answers_have_a_bound() -> None:
    """Sound and pictures by turns, which are never one."""
    sound = ("came", {"type": "response.audio.delta", "delta": "B" * 20})
    draft = ("came", {"type": "response.image_generation_call.partial_image", "partial_image_b64": "A" * 20})
    done = ("came", {"type": "response.completed", "response": {"id": "r", "status": "completed"}})
    meaning = read_socket(*([*[sound, draft] * 1500, done] * 2), target=RESPONSES)
    assert [each.kind for each in meaning.media[:3]] == ["audio", "image", "audio"]
    assert len(meaning.media) == MAX_CALLS

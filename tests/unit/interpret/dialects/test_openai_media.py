"""Speech, transcriptions and pictures: what is billed, and where the media are."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.interpret.meaning import Meaning
from tests.unit.interpret.reading import STEP_US, read, read_events, read_json

HEARD = "/v1/audio/transcriptions"
SPOKEN = "/v1/audio/speech"
DRAWN = "/v1/images/generations"
TOKENS = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
    "output_tokens": 45,
    "total_tokens": 59,
}


def others(meaning: Meaning) -> dict[str, int]:
    assert meaning.usage is not None
    return meaning.usage.others


def media(meaning: Meaning) -> list[tuple[Any, ...]]:
    return [tuple(each) for each in meaning.media]


def test_a_transcription_in_tokens() -> None:
    meaning = read_json({"text": "hello", "usage": TOKENS}, HEARD)
    usage = meaning.usage
    assert usage is not None
    assert (usage.input_tokens, usage.input_audio_tokens, usage.output_tokens, usage.total_tokens) == (14, 14, 45, 59)
    assert (meaning.text, meaning.usage_state, meaning.operation) == ("hello", "complete", "transcription")


def test_a_transcription_that_streams() -> None:
    events = (
        {"type": "transcript.text.delta", "delta": "hel"},
        {"type": "transcript.text.delta", "delta": "lo"},
        {"type": "transcript.text.segment", "text": "hello", "speaker": "A"},
        {"type": "transcript.text.done", "text": "hello", "usage": TOKENS},
    )
    meaning = read_events(*events, target=HEARD)
    assert (meaning.text, meaning.terminator, meaning.complete) == ("hello", "transcript.text.done", True)
    assert meaning.usage is not None
    assert meaning.usage.output_tokens == 45
    cut = read_events(*events[:2], target=HEARD)
    assert (cut.text, cut.complete, cut.usage_state) == ("hello", False, "missing")


def test_whisper_says_how_long_it_listened() -> None:
    meaning = read_json({"task": "transcribe", "duration": 3.25, "text": "hi", "segments": []}, HEARD)
    assert (others(meaning), meaning.usage_state) == ({"audio_ms": 3250}, "non_token")
    assert meaning.facts == {"audio_seconds": 3.25}


def test_subtitles_have_no_usage() -> None:
    meaning = read(b"1\n00:00 --> 00:01\nhello\n", HEARD, "text/plain; charset=utf-8")
    assert (meaning.text, meaning.usage_state) == ("1\n00:00 --> 00:01\nhello", "missing")


def test_azure_has_the_model_in_the_path() -> None:
    meaning = read_json({"text": "x"}, "/openai/deployments/my-whisper/audio/translations?api-version=1")
    assert (meaning.model_asked, meaning.operation) == ("my-whisper", "translation")


def test_sound_is_billed_by_the_character() -> None:
    asked = b'{"model":"tts-1","input":"Hello there!","voice":"alloy"}'
    meaning = read(bytes(5000), SPOKEN, "audio/mpeg", request=asked)
    assert (others(meaning), meaning.usage_state) == ({"characters": 12}, "non_token")
    assert media(meaning) == [("response", "audio/mpeg", 0, 0, 5000)]
    assert (meaning.first_visible_us, meaning.complete) == (STEP_US, True)


def test_sound_may_begin_with_what_looks_blank() -> None:
    meaning = read(b"\n \t" + bytes(97), SPOKEN, "audio/pcm", request=b'{"model":"tts-1","input":"x"}')
    assert media(meaning) == [("response", "audio/pcm", 0, 0, 100)]


def test_sound_of_a_model_with_tokens_has_a_count_in_streams_only() -> None:
    asked = b'{"model":"gpt-4o-mini-tts","input":"Hello there!","voice":"alloy"}'
    meaning = read(bytes(5000), SPOKEN, "audio/wav", request=asked)
    assert (meaning.usage, meaning.usage_state) == (None, "missing")
    assert meaning.estimate is not None
    assert meaning.estimate.input_tokens is not None


def test_pictures_of_a_model_with_tokens() -> None:
    usage = {
        "input_tokens": 50,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
        "output_tokens": 4160,
        "total_tokens": 4210,
    }
    meaning = read_json({"created": 1, "data": [{"b64_json": "A" * 400}], "usage": usage}, DRAWN, {"prompt": "a cat"})
    assert meaning.usage is not None
    assert (meaning.usage.input_image_tokens, meaning.usage.output_image_tokens) == (40, 4160)
    assert media(meaning) == [("response", "image", 0, 0, 400)]
    assert [each.text for each in meaning.prompts] == ["a cat"]


def test_pictures_of_a_model_without() -> None:
    meaning = read_json({"data": [{"url": "https://x/1"}, {"url": "https://x/2"}]}, DRAWN, {"model": "dall-e-3"})
    assert (others(meaning), meaning.usage_state, meaning.media) == ({"images": 2}, "non_token", [])


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
def test_pictures_that_come_in_drafts(kind: str) -> None:
    events = (
        {"type": f"{kind}.partial_image", "b64_json": "A" * 100, "partial_image_index": 0},
        {"type": f"{kind}.completed", "b64_json": "B" * 200, "usage": {"input_tokens": 5, "output_tokens": 9}},
    )
    meaning = read_events(*events, target="/v1/images/edits", named="type")
    assert (meaning.terminator, meaning.complete, meaning.usage_state) == (f"{kind}.completed", True, "complete")
    assert media(meaning) == [("response", "image", 0, 0, 300)]


def test_an_error_in_a_stream_of_pictures() -> None:
    meaning = read_events({"error": {"message": "no", "code": "moderation_blocked"}}, target=DRAWN)
    assert meaning.error is not None
    assert (meaning.error.code, meaning.complete, meaning.usage_state) == ("moderation_blocked", False, "missing")


def test_a_spoken_chat_answer_is_not_copied() -> None:
    chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"audio": {"data": "A" * 64}}}]}
    said = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"audio": {"transcript": "hi"}}}]}
    meaning = read_events(chunk, chunk, said, "[DONE]", target="/v1/chat/completions")
    assert (meaning.text, media(meaning)) == ("hi", [("response", "audio", 0, 0, 128)])
    assert meaning.first_visible_us == STEP_US


def test_pictures_in_a_request_are_named() -> None:
    content = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100}},
        {"type": "input_audio", "input_audio": {"data": "B" * 50, "format": "wav"}},
    ]
    meaning = read_json({}, "/v1/chat/completions", {"messages": [{"role": "user", "content": content}]})
    assert media(meaning) == [("request", "image/png", 0, 0, 122), ("request", "wav", 0, 0, 50)]
    assert [each.text for each in meaning.prompts] == ["what is this"]


def test_a_part_of_no_kind() -> None:
    content = [{"type": {"a": []}, "data": "A" * 40}, {"type": ["b"], "data": {"c": "B" * 50}}, 5, None]
    meaning = read_json({}, "/v1/chat/completions", {"messages": [{"role": "user", "content": content}]})
    assert [each.kind for each in meaning.media] == ["unknown"]

"""OpenAI's speech and transcription, and those that do it in the same form (Groq, Mistral, local servers).

The form: https://platform.openai.com/docs/api-reference/audio. What is billed is tokens, seconds heard or characters
spoken, by the model.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.openai_usage import openai_usage
from proxy.interpret.meaning import Usage
from proxy.interpret.usage import Counts
from proxy.interpret.values import listed, mapping, number, string

_PATH = r"(?:.*/deployments/(?P<model>[^/]+))?.*/audio/"


def milliseconds(seconds: Any) -> int | None:
    """A duration in seconds, as one that is counted in whole numbers."""
    found = number(seconds)
    return None if found is None or not 0 <= found < 10**9 else round(found * 1000)


def usage_of(said: Any, counts: Counts) -> Usage | None:
    """The usage of a transcription: `{"type": "tokens", ...}` or `{"type": "duration", "seconds": ...}`."""
    usage = mapping(said)
    duration = milliseconds(usage.get("seconds", usage.get("prompt_audio_seconds")))
    counts.add(usage)
    found = openai_usage(counts) if usage.get("type") != "duration" and counts.seen else Usage()
    if duration is not None:
        found.others["audio_ms"] = duration
    return found if counts.seen else None


class OpenAITranscription(Dialect):
    """One JSON, plain text, subtitles, or a stream of `transcript.text.*`."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai", "mistral"))
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(_PATH + r"transcriptions/?"), "transcription"),
        Route(re.compile(_PATH + r"translations/?"), "translation"),
    )

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return str(body.get("type")).startswith("transcript.text.")

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict or self.fail(data, at_us):
            return
        kind = data.get("type") or name
        if kind in ("transcript.text.delta", "transcription.text.delta"):
            self.say(data.get("delta") or data.get("text"), at_us)
        elif kind == "transcript.text.segment":
            self.show(at_us)
        elif kind in ("transcript.text.done", "transcription.done"):
            if type(data.get("text")) is str:
                self.forget()  # it is all there once more
                self.say(data["text"], at_us)
            self._heard(data)
            self.terminate(str(kind), at_us)

    def read_plain_event(self, name: str, data: str, at_us: int) -> None:
        if data.strip() == "[DONE]":
            self.terminate("[DONE]", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        said = mapping(body)
        self.say(said.get("text"), at_us)
        self.meaning.response_model = string(said.get("model"))
        self._heard(said)
        if self.meaning.usage is None and (duration := milliseconds(said.get("duration"))) is not None:
            self.meaning.usage = Usage(others={"audio_ms": duration})  # whisper's verbose_json

    def read_plain_body(self, kind: str, text: bytes, at_us: int) -> None:
        self.say(text.decode("utf-8", "replace").strip("\n"), at_us)

    def _heard(self, said: dict[str, Any]) -> None:
        self.meaning.usage = usage_of(said.get("usage"), self.counts)

    def finish(self) -> None:
        usage = self.meaning.usage
        if usage is not None and "audio_ms" in usage.others:
            seconds = usage.others["audio_ms"] / 1000
            self.fact("audio_seconds", int(seconds) if seconds.is_integer() else seconds)
        super().finish()


class OpenAISpeech(Dialect):
    """The sound itself, whose price is by the character, or a stream of `speech.audio.*`, which ends with the usage."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai",))
    ROUTES: ClassVar[tuple[Route, ...]] = (Route(re.compile(_PATH + r"speech/?"), "speech"),)
    _letters: int | None = None

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return str(body.get("type")).startswith("speech.audio.")

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream_format") == "sse"
        self.prompt("system", asked.get("instructions"))
        self.prompt("user", asked.get("input"))
        if type(asked.get("input")) is str:
            self._letters = len(asked["input"])

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict or self.fail(data, at_us):
            return
        kind = data.get("type") or name
        if kind == "speech.audio.delta":
            if type(data.get("audio")) is str:
                self.show(at_us)
                self.medium("audio", len(data["audio"]))
        elif kind == "speech.audio.done":
            self.counts.add(data.get("usage"))
            self.terminate("speech.audio.done", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        self.counts.add(mapping(body).get("usage"))
        for item in listed(mapping(body).get("data")):
            if type(mapping(item).get("audio")) is str:
                self.medium("audio", len(item["audio"]))

    def read_media(self, kind: str, size: int, at_us: int) -> None:
        self.meaning.first_event_us = at_us
        self.show(at_us)
        self.medium(kind, size)

    def finish(self) -> None:
        by_token = (self.meaning.model_asked or "").startswith("gpt-")  # whose count only the stream tells
        if self.counts.seen:
            self.meaning.usage = openai_usage(self.counts)
        elif self._letters is not None and self.meaning.media and not by_token:
            self.meaning.usage = Usage(others={"characters": self._letters})
        super().finish()

"""Google's live sessions: JSON messages through a WebSocket, in both directions, often in binary frames.

The form: https://ai.google.dev/api/live. Usage comes with any message; the last of a turn counts, and turns are summed.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.gemini import MODALITIES
from proxy.interpret.dialects.several import Shares, share
from proxy.interpret.meaning import Meaning, Usage
from proxy.interpret.usage import Counts, added
from proxy.interpret.values import count, listed, mapping, string

_PATHS = (
    r".*/ws/google\.ai\.generativelanguage\.[^/]+\.GenerativeService\.BidiGenerateContent(?:Constrained)?/?",
    r".*/ws/google\.cloud\.aiplatform\.[^/]+\.LlmBidiService/BidiGenerateContent/?",
)


class GeminiLive(Dialect):
    """Complete when no turn is under way."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("gemini",))
    OPERATION: ClassVar[str | None] = "live"
    ROUTES: ClassVar[tuple[Route, ...]] = tuple(Route(re.compile(path), "live", ("GET",)) for path in _PATHS)

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._turns = 0
        self._turn = Counts()
        self._shares = Shares()
        self._modalities: dict[str, int] = {}

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return "setupComplete" in body or "serverContent" in body

    def read_message(self, sent: bool, data: Any, at_us: int) -> None:
        message = mapping(data)
        if sent:
            self._sent(message)
            return
        self._content(mapping(message.get("serverContent")), at_us)
        for each in listed(mapping(message.get("toolCall")).get("functionCalls")):
            called = mapping(each)
            self.show(at_us)
            key = string(called.get("id")) or len(self._calls)
            self.call(key, called.get("id"), called.get("name"), called.get("args") or {})
        usage = mapping(message.get("usageMetadata"))
        if usage:
            self._count(usage)
        if mapping(message.get("serverContent")).get("turnComplete") is True or "toolCall" in message:
            self._fold()
            self.meaning.finish_reason = "tool_calls" if "toolCall" in message else "turnComplete"
            self.meaning.finish_reason_norm = "tool_calls" if "toolCall" in message else "stop"
            self.terminate("turnComplete", at_us)

    def _sent(self, message: dict[str, Any]) -> None:
        setup = mapping(message.get("setup"))
        if setup:
            model = string(setup.get("model"))
            self.meaning.model_asked = model and model.rpartition("/")[2]
            said = mapping(setup.get("systemInstruction") or setup.get("system_instruction"))
            self.prompt("system", said.get("parts"))
        content = mapping(message.get("clientContent") or message.get("client_content"))
        for turn in listed(content.get("turns")):
            self.prompt(mapping(turn).get("role"), mapping(turn).get("parts"))
        given = mapping(message.get("realtimeInput") or message.get("realtime_input"))
        self.prompt("user", given.get("text"))
        chunks = listed(given.get("mediaChunks") or given.get("media_chunks"))
        for each in (given.get("audio"), given.get("video"), *chunks):
            medium = mapping(each)
            if type(medium.get("data")) is str:
                self.sent_medium(
                    string(medium.get("mimeType") or medium.get("mime_type")) or "unknown", len(medium["data"])
                )

    def _content(self, content: dict[str, Any], at_us: int) -> None:
        if not content:
            return
        meaning = self.meaning
        parts = listed(mapping(content.get("modelTurn")).get("parts"))
        if parts or "outputTranscription" in content:
            meaning.terminated, meaning.terminator, meaning.terminal_event_us = False, None, None
        for each in parts:
            part = mapping(each)
            if "inlineData" in part:
                self.show(at_us)
                data = mapping(part["inlineData"])
                if type(data.get("data")) is str:
                    self.medium(string(data.get("mimeType")) or "audio", len(data["data"]))
            elif part.get("thought") is True:
                self.think(part.get("text"), at_us)
            else:
                self.say(part.get("text"), at_us, self._turns)
        self.say(mapping(content.get("outputTranscription")).get("text"), at_us, self._turns)
        self.prompt("user", mapping(content.get("inputTranscription")).get("text"))

    def _count(self, usage: dict[str, Any]) -> None:
        self._turn.add(usage)
        self.meaning.service_tier = string(usage.get("serviceTier")) or self.meaning.service_tier
        for key, wanted in MODALITIES.items():
            for each in listed(usage.get(key)):
                detail = mapping(each)
                name, tokens = wanted.get(str(detail.get("modality"))), count(detail.get("tokenCount"))
                if name is not None and tokens is not None:
                    self._modalities[name] = tokens

    def _fold(self) -> None:
        """A turn is over: its counts are added to those before."""
        self._turns += 1
        get = self._turn.get
        if self._turn.seen:
            self.counts.add(self._turn.last, keep=True)
            tools, thoughts = get("toolUsePromptTokenCount"), get("thoughtsTokenCount")
            given, made = added(get("promptTokenCount"), tools), added(get("responseTokenCount"), thoughts)
            known = [each for each in (get("totalTokenCount"), added(given, made)) if each is not None]
            usage = Usage(
                input_tokens=given,
                output_tokens=made,
                total_tokens=max(known, default=None),  # the provider's lacks the thoughts
                cache_read_tokens=get("cachedContentTokenCount"),
                reasoning_tokens=thoughts,
                tool_prompt_tokens=tools,
            )
            for name, tokens in self._modalities.items():
                setattr(usage, name, tokens)
            self._shares.add("answer", None, usage)
        self._turn, self._modalities = Counts(), {}

    def finish(self) -> None:
        self._fold()
        share(self.meaning, self._shares)
        super().finish()

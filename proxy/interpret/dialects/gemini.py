"""Google's generateContent: streams of whole responses, as events or as one JSON array, and the same in one piece.

The form: https://ai.google.dev/api/generate-content. No terminal event; the last usage wins, thoughts are beside the
candidates' tokens, tool prompts beside the prompt's.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.meaning import Meaning, Rating, Usage
from proxy.interpret.usage import added, normalised
from proxy.interpret.values import count, listed, mapping, number, string

_MODEL = r".*/(?:models|tunedModels|endpoints)/(?P<model>[^/:]+):"
_MODALITIES = {
    "promptTokensDetails": {"AUDIO": "input_audio_tokens", "IMAGE": "input_image_tokens"},
    "candidatesTokensDetails": {"AUDIO": "output_audio_tokens", "IMAGE": "output_image_tokens"},
    "responseTokensDetails": {"AUDIO": "output_audio_tokens", "IMAGE": "output_image_tokens"},
    "cacheTokensDetails": {"AUDIO": "cache_audio_read_tokens"},
}


class Gemini(Dialect):
    """Each event is a response of its own that adds to the candidates; ratings are kept once per category."""

    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(_MODEL + r"generateContent"), "generate", streams=False),
        Route(re.compile(_MODEL + r"streamGenerateContent"), "generate", streams=True),
        Route(re.compile(_MODEL + r"(?:batchEmbedContents|embedContent|batchEmbedText|embedText)"), "embeddings"),
    )
    ENDS_BY_EVENT: ClassVar[bool] = False

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._ratings: dict[tuple[str, str], Rating] = {}
        self._modalities: dict[str, int] = {}
        self._calls_seen = 0
        self._tier: str | None = None

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return "candidates" in body or "usageMetadata" in body or "promptFeedback" in body

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.prompt("system", mapping(asked.get("systemInstruction") or asked.get("system_instruction")).get("parts"))
        contents = asked.get("contents")
        for each in contents if type(contents) is list else [contents or asked.get("content")]:
            content = mapping(each)
            self.prompt(content.get("role"), content.get("parts"))

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        failed = self.fail(data, at_us)
        if type(data) is dict and not failed:
            self._read(data, at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        self._read(mapping(body), at_us)

    def _read(self, response: dict[str, Any], at_us: int) -> None:
        meaning = self.meaning
        if response.get("responseId"):
            meaning.response_id = string(response["responseId"]) or meaning.response_id
        if response.get("modelVersion"):
            meaning.response_model = string(response["modelVersion"]) or meaning.response_model
        for place, each in enumerate(listed(response.get("candidates"))):
            self._candidate(mapping(each), place, at_us)
        feedback = mapping(response.get("promptFeedback"))
        if feedback:
            self._rate("prompt", feedback.get("safetyRatings"))
            reason = string(feedback.get("blockReason"))
            if reason is not None:
                meaning.prompt_block_reason = reason
        usage = mapping(response.get("usageMetadata"))
        if usage:
            self._count(usage)

    def _count(self, usage: dict[str, Any]) -> None:
        self.counts.add(usage)
        self._tier = string(usage.get("serviceTier")) or string(usage.get("trafficType")) or self._tier
        for key, wanted in _MODALITIES.items():
            for each in listed(usage.get(key)):
                detail = mapping(each)
                name = wanted.get(str(detail.get("modality")))
                tokens = count(detail.get("tokenCount"))
                if name is not None and tokens is not None:
                    self._modalities[name] = tokens

    def _candidate(self, candidate: dict[str, Any], place: int, at_us: int) -> None:
        index = count(candidate.get("index"))
        index = place if index is None else index
        for each in listed(mapping(candidate.get("content")).get("parts")):
            part = mapping(each)
            if "text" in part:
                if part.get("thought") is True:
                    self.think(part["text"], at_us)
                else:
                    self.say(part["text"], at_us, index)
            elif "functionCall" in part:
                if self.meaning.first_visible_us is None:
                    self.meaning.first_visible_us = at_us
                called = mapping(part["functionCall"])
                arguments = called.get("args")
                self._calls_seen += 1
                key = (index, self._calls_seen)
                self.call(key, called.get("id"), called.get("name"), {} if arguments is None else arguments)
        reason = string(candidate.get("finishReason"))
        if reason is not None and (index == 0 or self.meaning.finish_reason is None):
            self.meaning.finish_reason = reason
        self._rate("completion", candidate.get("safetyRatings"))

    def _rate(self, side: Any, ratings: Any) -> None:
        for each in listed(ratings):
            rating = mapping(each)
            category = string(rating.get("category"))
            if category is not None and len(self._ratings) < 100:
                blocked = rating.get("blocked")
                self._ratings[side, category] = Rating(
                    side,
                    category,
                    string(rating.get("probability")),
                    number(rating.get("probabilityScore")),
                    blocked if type(blocked) is bool else None,
                )

    def finish(self) -> None:
        meaning = self.meaning
        meaning.ratings = list(self._ratings.values())
        meaning.service_tier = self._tier
        if meaning.prompt_block_reason is not None and meaning.finish_reason is None:
            meaning.finish_reason = f"promptFeedback:{meaning.prompt_block_reason}"
            meaning.finish_reason_norm = "content_filter"
        if self.counts.seen:
            meaning.usage = self._usage()
        super().finish()
        if meaning.tool_calls and normalised(meaning.finish_reason) == "stop":
            meaning.finish_reason_norm = "tool_calls"  # it says STOP all the same

    def _usage(self) -> Usage:
        get = self.counts.get
        prompt, tools, thoughts = get("promptTokenCount"), get("toolUsePromptTokenCount"), get("thoughtsTokenCount")
        given = added(prompt, tools)
        made = added(get("candidatesTokenCount"), thoughts)
        total = get("totalTokenCount")
        if made is None and given is not None and self.meaning.operation != "embeddings":
            made = max((total or 0) - given, 0)  # a count of zero is left out
        usage = Usage(
            input_tokens=given,
            output_tokens=made,
            total_tokens=max(total or 0, added(given, made) or 0),  # the last total may lack what was counted before
            cache_read_tokens=get("cachedContentTokenCount"),
            reasoning_tokens=thoughts,
            tool_prompt_tokens=tools,
        )
        for name, tokens in self._modalities.items():
            setattr(usage, name, tokens)
        return usage

"""Google's generateContent: streams of whole responses, as events or as one JSON array, and the same in one piece.

The form: https://ai.google.dev/api/generate-content. No terminal event; the last usage wins, thoughts are beside the
candidates' tokens, tool prompts beside the prompt's.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, ClassVar

from proxy.interpret.dialects.base import MAX_CALLS, MAX_TEXT, Dialect, Route
from proxy.interpret.meaning import Meaning, Rating, Usage
from proxy.interpret.usage import added, normalised
from proxy.interpret.values import count, listed, mapping, number, string

_MODEL = r".*/(?:models|tunedModels|endpoints)/(?P<model>[^/:]+):"
MODALITIES = {
    "promptTokensDetails": {"AUDIO": "input_audio_tokens", "IMAGE": "input_image_tokens"},
    "promptTokenDetails": {"AUDIO": "input_audio_tokens", "IMAGE": "input_image_tokens"},  # embeddings
    "candidatesTokensDetails": {"AUDIO": "output_audio_tokens", "IMAGE": "output_image_tokens"},
    "responseTokensDetails": {"AUDIO": "output_audio_tokens", "IMAGE": "output_image_tokens"},
    "cacheTokensDetails": {"AUDIO": "cache_audio_read_tokens"},
}
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")
_STEPS = re.compile(r"\.([^.\[\]]+)|\[(\d{1,4})\]|\['([^']+)'\]")
_MAX_PATH = 512


class Gemini(Dialect):
    """Each event is a response of its own that adds to the candidates; ratings are kept once per category."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("gemini",))
    OPERATION: ClassVar[str | None] = "generate"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(_MODEL + r"generateContent"), "generate", streams=False),
        Route(re.compile(_MODEL + r"streamGenerateContent"), "generate", streams=True),
        Route(re.compile(_MODEL + r"(?:batchEmbedContents|embedContent|batchEmbedText|embedText)"), "embeddings"),
        Route(re.compile(_MODEL + r"predict"), "predict"),
    )
    ENDS_BY_EVENT: ClassVar[bool] = False

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._ratings: dict[tuple[str, str], Rating] = {}
        self._modalities: dict[str, int] = {}
        self._calls_seen = 0
        self._open_calls: dict[int, tuple[int, int]] = {}
        self._pieces: dict[
            tuple[int, int], dict[str, list[Any]]
        ] = {}  # JSON path -> pieces of its value, of calls that came in pieces
        self._pieces_room = MAX_TEXT
        self._usage_said: dict[str, Any] = {}
        self._usage_last: Any = None

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return "candidates" in body or "usageMetadata" in body or "promptFeedback" in body

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.prompt("system", mapping(asked.get("systemInstruction") or asked.get("system_instruction")).get("parts"))
        contents = asked.get("contents")
        given = contents if type(contents) is list else [contents or asked.get("content")]
        embedded = (mapping(each).get("content") for each in listed(asked.get("requests")))
        for each in listed(asked.get("instances")):
            self.prompt("user", mapping(each).get("content") or mapping(each).get("prompt"))
        for each in (*given, *embedded):
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
        usage = response.get("usageMetadata")
        if type(usage) is dict and usage:
            self._usage_last = usage
            self._usage_said.update(
                usage
                if None not in usage.values()
                else {key: value for key, value in usage.items() if value is not None}
            )
        if "predictions" in response:
            self._predictions(listed(response["predictions"]), at_us)

    def inline(self, data: Any) -> None:
        """A picture or a sound in the answer."""
        said = mapping(data)
        if type(said.get("data")) is str:
            self.medium(string(said.get("mimeType")) or "unknown", len(said["data"]))

    def _predictions(self, predictions: list[Any], at_us: int) -> None:
        """Vertex's answers to `predict`: embeddings with a count each, or pictures."""
        tokens, pictures = None, 0
        for each in predictions:
            prediction = mapping(each)
            statistics = mapping(mapping(prediction.get("embeddings")).get("statistics"))
            tokens = added(tokens, count(statistics.get("token_count")))
            picture = prediction.get("bytesBase64Encoded")
            if type(picture) is str:
                self.show(at_us)
                self.medium(string(prediction.get("mimeType")) or "image", len(picture))
                pictures += 1
        if tokens is not None:
            self.meaning.operation = "embeddings"
            self._usage_last = self._usage_said = {"promptTokenCount": tokens}
        elif pictures:
            self.meaning.operation = "images"
            self.meaning.usage = Usage(others={"images": pictures})

    def _count(self) -> None:
        """Take in what all the usages said together: each repeats the one before it, and few do not grow."""
        usage, last = self._usage_said, self._usage_last
        self.counts.add(usage)
        self.counts.last = last
        self.meaning.service_tier = string(usage.get("serviceTier")) or string(usage.get("trafficType"))
        for key, wanted in MODALITIES.items():
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
                self._function(mapping(part["functionCall"]), index, at_us)
            elif "inlineData" in part:
                self.show(at_us)
                self.inline(part["inlineData"])
        reason = string(candidate.get("finishReason"))
        if reason is not None and (index == 0 or self.meaning.finish_reason is None):
            self.meaning.finish_reason = reason
        self._rate("completion", candidate.get("safetyRatings"))

    def _function(self, called: dict[str, Any], index: int, at_us: int) -> None:
        """A call, whole; or, at Vertex, in pieces that follow one another, of which the first has the name."""
        self.show(at_us)
        key = self._open_calls.pop(index, None)
        goes_on = called.get("willContinue") is True
        if key is None or called.get("name"):
            self._calls_seen += 1
            key = (index, self._calls_seen)
            self.call(key, called.get("id"), called.get("name"))
            if not goes_on and "partialArgs" not in called:
                arguments = called.get("args")
                self.call(key, arguments={} if arguments is None else arguments)
                return
        if len(self._pieces) < MAX_CALLS:
            pieces = self._pieces.setdefault(key, {})
            for each in listed(called.get("partialArgs")):
                self._argument(mapping(each), pieces)
        if goes_on and len(self._open_calls) < MAX_CALLS:
            self._open_calls[index] = key

    def _argument(self, piece: dict[str, Any], pieces: dict[str, list[Any]]) -> None:
        path = string(piece.get("jsonPath"))
        name = next((name for name in _VALUES if name in piece), None)
        if path is None or name is None or len(path) > _MAX_PATH or len(pieces) >= MAX_CALLS:
            return
        value = None if name == "nullValue" else piece[name]
        if type(value) is not str:
            pieces[path] = [value]
            return
        self._pieces_room -= len(value)
        if self._pieces_room >= 0:
            before = pieces.setdefault(path, [])
            before.append(value)

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
        if self._usage_said:
            self._count()
        for key, pieces in self._pieces.items():
            self.call(key, arguments=nested(pieces))
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
        if made is None and None not in (given, total) and self.meaning.operation != "embeddings":
            made = max((total or 0) - (given or 0), 0)  # a count of zero is left out
        known = [each for each in (total, added(given, made)) if each is not None]
        usage = Usage(
            input_tokens=given,
            output_tokens=made,
            total_tokens=max(known, default=None),  # the last total may lack what was counted before
            cache_read_tokens=get("cachedContentTokenCount"),
            reasoning_tokens=thoughts,
            tool_prompt_tokens=tools,
        )
        for name, tokens in self._modalities.items():
            setattr(usage, name, tokens)
        return usage


def nested(pieces: dict[str, list[Any]]) -> dict[str, Any]:
    """The object whose values are told, in pieces, by JSON path (`$.place.names[0]`).

    A path that fits nowhere is a name itself.
    """
    found: dict[str, Any] = {}
    for path, told in pieces.items():
        value = told[0] if len(told) == 1 else "".join(each for each in told if type(each) is str)
        steps = [name or quoted or int(number) for name, number, quoted in _STEPS.findall(path)[:32]]
        if not steps or not _put(found, steps, value):
            found[path] = value
    return found


def _put(where: Any, steps: list[str | int], value: Any) -> bool:
    for step, after in pairwise([*steps, None]):
        new: Any = value if after is None else [] if type(after) is int else {}
        if type(step) is str and type(where) is dict:
            where = where.setdefault(step, new)
        elif type(step) is int and type(where) is list and step <= len(where):
            if step == len(where):
                where.append(new)
            where = where[step]
        else:
            return False
    return True

"""AWS Bedrock's converse: messages of an event stream, whose names tell the event, or one JSON.

The form: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html. No model and no id in
the body; `metadata`, with the usage, comes last. On the wire `inputTokens` lacks what the cache read and wrote.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import MAX_WORD, Dialect, Route
from proxy.interpret.headers import value_of
from proxy.interpret.meaning import Meaning, Pairs, Usage
from proxy.interpret.usage import Counts, added
from proxy.interpret.values import amounts, count, listed, mapping, string

BEDROCK = r".*/model/(?P<model>.+)/"


def usage_of(counts: Counts, lives: dict[str, int]) -> Usage:
    """The usage in our words; `lives`: how many tokens were written to the cache for so long."""
    get = counts.get
    read = get("cacheReadInputTokens", "cacheReadInputTokenCount")
    wrote = get("cacheWriteInputTokens", "cacheWriteInputTokenCount")
    given = added(get("inputTokens", "inputTokenCount"), read, wrote)
    made = get("outputTokens", "outputTokenCount")
    total = get("totalTokens")
    return Usage(
        input_tokens=given,
        output_tokens=made,
        total_tokens=added(given, made) if total is None else total,
        cache_read_tokens=read,
        cache_write_tokens=wrote,
        cache_write_5m_tokens=lives.get("5m"),
        cache_write_1h_tokens=lives.get("1h"),
    )


def tell_by_headers(meaning: Meaning, headers: Pairs) -> None:
    """The tier that served, and an error's type: `ValidationException:http://internal...`."""
    meaning.service_tier = meaning.service_tier or value_of(headers, "x-amzn-bedrock-service-tier")
    said = value_of(headers, "x-amzn-errortype")
    if said is not None and meaning.error is not None:
        meaning.error.type = meaning.error.type or said.partition(":")[0][:MAX_WORD] or None


class BedrockConverse(Dialect):
    """Blocks have numbers; those of texts have no start."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("bedrock",))
    OPERATION: ClassVar[str | None] = "converse"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(BEDROCK + r"converse/?"), "converse", streams=False),
        Route(re.compile(BEDROCK + r"converse-stream/?"), "converse", streams=True),
    )

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._lives: dict[str, int] = {}

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.prompt("system", asked.get("system"))
        self.prompts(listed(asked.get("messages")))

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        event = mapping(data)
        if name == "contentBlockDelta":
            self._delta(mapping(event.get("delta")), count(event.get("contentBlockIndex")), at_us)
        elif name == "contentBlockStart":
            self._block(mapping(event.get("start")), count(event.get("contentBlockIndex")), at_us)
        elif name == "messageStop":
            self.meaning.finish_reason = string(event.get("stopReason"))
        elif name == "metadata":
            self._metadata(event)
            self.terminate("metadata", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        answer = mapping(body)
        message = mapping(mapping(answer.get("output")).get("message"))
        for number, block in enumerate(listed(message.get("content"))):
            block = mapping(block)
            self._block(block, number, at_us)
            self._delta({**block, "toolUse": None}, number, at_us)
        self.meaning.finish_reason = string(answer.get("stopReason"))
        self._metadata(answer)

    def _block(self, start: dict[str, Any], index: int | None, at_us: int) -> None:
        called = mapping(start.get("toolUse"))
        if called:
            self.show(at_us)
            self.call(index, called.get("toolUseId"), called.get("name"), called.get("input"))
        picture = mapping(mapping(start.get("image")).get("source")).get("bytes")
        if type(picture) is str:
            self.show(at_us)
            self.medium(f"image/{mapping(start['image']).get('format')}"[:64], len(picture))

    def _delta(self, delta: dict[str, Any], index: int | None, at_us: int) -> None:
        self.say(delta.get("text"), at_us)
        called = mapping(delta.get("toolUse"))
        if called:
            self.call(index, arguments=called.get("input"))
        reasoning = mapping(delta.get("reasoningContent"))
        if reasoning:
            self.think(reasoning.get("text") or mapping(reasoning.get("reasoningText")).get("text"), at_us)

    def _metadata(self, said: dict[str, Any]) -> None:
        usage = mapping(said.get("usage"))
        self.counts.add(usage)
        for each in listed(usage.get("cacheDetails")):
            detail = mapping(each)
            tokens = count(detail.get("inputTokens"))
            if detail.get("ttl") in ("5m", "1h") and tokens is not None:
                self._lives[detail["ttl"]] = tokens
        self.meaning.service_tier = string(mapping(said.get("serviceTier")).get("type")) or self.meaning.service_tier
        self.fact("timings_ms", amounts(said.get("metrics"), {"latencyMs": "total"}))

    def read_headers(self, headers: Pairs) -> None:
        tell_by_headers(self.meaning, headers)

    def finish(self) -> None:
        if self.counts.seen:
            self.meaning.usage = usage_of(self.counts, self._lives)
        super().finish()

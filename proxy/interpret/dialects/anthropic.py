"""Anthropic's messages: streams of named events that end with `message_stop`, and the same in one piece.

The form: https://docs.anthropic.com/en/api/messages. On the wire `input_tokens` lacks what the cache read and wrote.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import MAX_CALLS, Dialect, Route
from proxy.interpret.meaning import Meaning, Part, Rating, Usage
from proxy.interpret.usage import Counts, added
from proxy.interpret.values import count, listed, mapping, string, written

_EVENTS = frozenset(
    (
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    )
)
_APART = frozenset(("compaction", "advisor_message"))
"""Iterations that are billed, but not in the usage of the message."""


class Anthropic(Dialect):
    """Usage comes with `message_start` and again, growing, with each `message_delta`."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("anthropic",))
    OPERATION: ClassVar[str | None] = "messages"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/messages/?"), "messages"),
        Route(re.compile(r".*/publishers/anthropic/models/(?P<model>[^/]+):(?:streamR|r)awPredict"), "messages"),
        Route(re.compile(r".*/v1/complete/?"), "text"),
    )

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._iterations: list[Any] = []
        self._whole_inputs: dict[object, Any] = {}

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        kind = body.get("type")
        return (type(kind) is str and kind in _EVENTS) or (kind == "message" and "role" in body)

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream") is True
        if asked.get("system"):
            self.prompt("system", asked["system"])
        self.prompts(listed(asked.get("messages")))
        if "prompt" in asked:
            self.prompt("user", asked["prompt"])

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict:
            return
        kind = data.get("type") or name
        if kind == "content_block_delta":
            self._delta(mapping(data.get("delta")), count(data.get("index")), at_us)
        elif kind == "content_block_start":
            self._block(mapping(data.get("content_block")), count(data.get("index")), at_us)
        elif kind == "message_start":
            self._message(mapping(data.get("message")))
        elif kind == "message_delta":
            self._ended(mapping(data.get("delta")))
            self._count(data.get("usage"))
        elif kind == "message_stop":
            self.terminate("message_stop", at_us)
        elif kind == "error":
            self.fail(data, at_us)
            self.meaning.request_id = self.meaning.request_id or string(data.get("request_id"))
        elif kind == "completion":
            self._completion(data, at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        message = mapping(body)
        if "completion" in message:
            self._completion(message, at_us)
            return
        self._message(message)
        self._ended(message)
        for index, block in enumerate(listed(message.get("content"))):
            self._block(mapping(block), index, at_us)

    def _message(self, message: dict[str, Any]) -> None:
        meaning = self.meaning
        meaning.response_id = string(message.get("id")) or meaning.response_id
        meaning.response_model = string(message.get("model")) or meaning.response_model
        self._count(message.get("usage"))

    def _count(self, usage: Any) -> None:
        self.counts.add(usage, keep=not self.counts.seen)
        said = mapping(usage)
        self.meaning.service_tier = string(said.get("service_tier")) or self.meaning.service_tier
        if said.get("speed") == "fast":
            self.meaning.service_tier = "fast"
        self._iterations = listed(said.get("iterations")) or self._iterations

    def _ended(self, delta: dict[str, Any]) -> None:
        reason = string(delta.get("stop_reason"))
        if reason is not None:
            self.meaning.finish_reason = reason
        category = string(mapping(delta.get("stop_details")).get("category"))
        if reason == "refusal" and category is not None:
            self.meaning.ratings = [Rating("completion", category, blocked=True)]

    def _block(self, block: dict[str, Any], index: int | None, at_us: int) -> None:
        kind = block.get("type")
        if kind == "text":
            self.say(block.get("text"), at_us)
        elif kind == "thinking":
            self.think(block.get("thinking"), at_us)
        elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
            self.show(at_us)
            self.call(index, block.get("id"), block.get("name"))
            if len(self._whole_inputs) < MAX_CALLS:
                self._whole_inputs[index] = block.get("input")
        elif kind == "fallback":
            # Another model goes on from here.
            to = string(mapping(block.get("to")).get("model"))
            self.meaning.response_model = to or self.meaning.response_model

    def _delta(self, delta: dict[str, Any], index: int | None, at_us: int) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            self.say(delta.get("text"), at_us)
        elif kind == "thinking_delta":
            self.think(delta.get("thinking"), at_us)
        elif kind == "input_json_delta":
            if delta.get("partial_json"):
                self._whole_inputs.pop(index, None)
            self.call(index, arguments=delta.get("partial_json"))

    def _completion(self, data: dict[str, Any], at_us: int) -> None:
        """The old text completions: no usage, and the last event has the reason."""
        self.say(data.get("completion"), at_us)
        self.meaning.response_id = string(data.get("id")) or self.meaning.response_id
        self.meaning.response_model = string(data.get("model")) or self.meaning.response_model
        self._ended(data)
        if data.get("stop_reason"):
            self.terminate("completion", at_us)

    def finish(self) -> None:
        for index, value in self._whole_inputs.items():
            # It came in one piece, or it is empty.
            self.call(index, arguments=written(value if value is not None else {}))
        if self.counts.seen:
            self.meaning.usage = usage_of(self.counts)
            self._part_iterations()
        super().finish()

    def _part_iterations(self) -> None:
        for each in self._iterations[:64]:
            iteration = mapping(each)
            kind = str(iteration.get("type"))
            if kind == "fallback_message":  # the usage is its model's
                self.meaning.response_model = string(iteration.get("model")) or self.meaning.response_model
            elif kind in _APART:
                counts = Counts()
                counts.add(iteration)
                if counts.values:
                    part = Part(kind, string(iteration.get("model")), usage_of(counts))
                    self.meaning.parts.append(part)


def usage_of(counts: Counts) -> Usage:
    """The usage in our words: what the cache read and wrote is part of the input."""
    get = counts.get
    read, wrote = get("cache_read_input_tokens"), get("cache_creation_input_tokens")
    given, made = added(get("input_tokens"), read, wrote), get("output_tokens")
    usage = Usage(
        input_tokens=given,
        output_tokens=made,
        total_tokens=added(given, made),
        cache_read_tokens=read,
        cache_write_tokens=wrote,
        cache_write_5m_tokens=get("cache_creation.ephemeral_5m_input_tokens"),
        cache_write_1h_tokens=get("cache_creation.ephemeral_1h_input_tokens"),
        reasoning_tokens=get("output_tokens_details.thinking_tokens"),
    )
    for kind, key in (("web_searches", "web_search_requests"), ("web_fetches", "web_fetch_requests")):
        if found := get(f"server_tool_use.{key}"):
            usage.others[kind] = found
    return usage

"""Google's interactions: named events of steps that end with `interaction.completed`; or one JSON.

The form: https://ai.google.dev/api/interactions-api. A resumed or fetched interaction has the usage of the first one.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.meaning import Usage
from proxy.interpret.usage import added
from proxy.interpret.values import count, listed, mapping, string

_ENDED = ("completed", "failed", "cancelled", "incomplete", "budget_exceeded", "requires_action")


class GeminiInteractions(Dialect):
    """Thoughts are counted beside the output, tools beside the input."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("gemini",))
    OPERATION: ClassVar[str | None] = "interactions"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/interactions/?"), "interactions"),
        Route(re.compile(r".*/interactions/[^/]+/?"), "interactions.retrieve", ("GET",), billed=False),
    )

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        kind = str(body.get("event_type"))
        return kind.startswith(("interaction.", "step.")) or body.get("object") == "interaction"

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or string(asked.get("agent"))
        self.meaning.streaming = asked.get("stream") is True
        self.prompt("system", asked.get("system_instruction"))
        given = asked.get("input")
        items = [each if "content" in mapping(each) else {"content": [each]} for each in listed(given)]
        self.inputs(given if type(given) is str else items, "content")

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict or self.fail(data, at_us):
            return
        kind = data.get("event_type") or data.get("type") or name
        if kind == "step.delta":
            self._delta(mapping(data.get("delta")), count(data.get("index")), at_us)
        elif kind == "step.start":
            self._step(mapping(data.get("step")), count(data.get("index")), at_us)
        elif kind == "step.stop":
            self.counts.add(data.get("usage"))
        elif kind == "interaction.created":
            self._head(mapping(data.get("interaction")))
        elif kind in ("interaction.completed", "interaction.complete"):
            self._head(mapping(data.get("interaction")))
            self.terminate("interaction.completed", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        answer = mapping(body)
        self._head(answer)
        for number, step in enumerate(listed(answer.get("outputs") or answer.get("steps") or answer.get("output"))):
            step = mapping(step)
            if step.get("type") == "model_output" or "content" in step:
                for part in listed(step.get("content")):
                    self._delta(mapping(part), number, at_us)
            else:
                self._delta(step, number, at_us)

    def _head(self, interaction: dict[str, Any]) -> None:
        meaning = self.meaning
        meaning.response_id = string(interaction.get("id")) or meaning.response_id
        meaning.response_model = string(interaction.get("model")) or meaning.response_model
        meaning.service_tier = string(interaction.get("service_tier")) or meaning.service_tier
        status = string(interaction.get("status"))
        if status in _ENDED:
            meaning.finish_reason = status
        self.counts.add(interaction.get("usage"))

    def _step(self, step: dict[str, Any], index: int | None, at_us: int) -> None:
        if step.get("type") == "function_call":
            self.show(at_us)
            self.call(index, step.get("id"), step.get("name"), step.get("arguments"))

    def _delta(self, delta: dict[str, Any], index: int | None, at_us: int) -> None:
        kind = delta.get("type")
        if kind == "text":
            self.say(delta.get("text"), at_us)
        elif kind in ("thought_summary", "thought"):
            content = delta.get("content") or delta.get("summary")
            for part in content if type(content) is list else [content]:
                self.think(mapping(part).get("text"), at_us)
        elif kind == "arguments_delta":
            arguments = delta.get("partial_arguments", delta.get("arguments"))
            self.call(index, arguments=arguments)
        elif kind == "function_call":
            self._step(delta, index, at_us)
        elif type(delta.get("data")) is str:
            self.show(at_us)
            self.medium(string(delta.get("mime_type")) or str(kind)[:64], len(delta["data"]))

    def finish(self) -> None:
        get = self.counts.get
        if self.counts.seen:
            tools, thoughts = get("total_tool_use_tokens"), get("total_thought_tokens")
            given, made = added(get("total_input_tokens"), tools), added(get("total_output_tokens"), thoughts)
            total = get("total_tokens")
            self.meaning.usage = Usage(
                input_tokens=given,
                output_tokens=made,
                total_tokens=added(given, made) if total is None else total,
                cache_read_tokens=get("total_cached_tokens"),
                reasoning_tokens=thoughts,
                tool_prompt_tokens=tools,
            )
        super().finish()
        if self.meaning.tool_calls and self.meaning.finish_reason_norm == "stop":
            self.meaning.finish_reason_norm = "tool_calls"

"""LM Studio's own chat: named events that end with `chat.end`, which has the whole result; or that result alone.

The form: https://lmstudio.ai/docs/developer/rest/chat. An error may come before the end, which comes all the same.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.failures import failure_of
from proxy.interpret.meaning import Meaning, Usage
from proxy.interpret.usage import added
from proxy.interpret.values import amounts, listed, mapping, string

_TIMES = {
    "tokens_per_second": "tokens_per_second",
    "time_to_first_token_seconds": "time_to_first_token",
    "model_load_time_seconds": "model_load",
}


class LMStudio(Dialect):
    """Text comes in deltas; the result repeats it."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai",))
    OPERATION: ClassVar[str | None] = "chat"
    ROUTES: ClassVar[tuple[Route, ...]] = (Route(re.compile(r".*/api/v1/chat/?"), "chat"),)

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._calls_seen = 0

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return body.get("type") in ("chat.start", "chat.end") or ("model_instance_id" in body and "output" in body)

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream") is True
        self.prompt("system", asked.get("system_prompt"))
        given = asked.get("input")
        self.prompt("user", given if type(given) is str else [mapping(each).get("content") for each in listed(given)])

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict:
            return
        kind = data.get("type") or name
        if kind == "message.delta":
            self.say(data.get("content"), at_us)
        elif kind == "reasoning.delta":
            self.think(data.get("content"), at_us)
        elif kind == "chat.start":
            self.meaning.response_model = string(data.get("model_instance_id")) or self.meaning.response_model
        elif kind == "tool_call.start":
            self.show(at_us)
            self._calls_seen += 1
            self.call(self._calls_seen, name=data.get("tool"))
        elif kind == "tool_call.arguments":
            self.call(self._calls_seen, name=data.get("tool"), arguments=data.get("arguments"))
        elif kind == "error":
            failure = failure_of(data)
            if failure is not None:
                failure.midstream = self.failed = True
                self.meaning.error = self.meaning.error or failure
        elif kind == "chat.end":
            self._result(mapping(data.get("result")))
            self.meaning.finish_reason = "chat.end"
            self.terminate("chat.end", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        result = mapping(body)
        for item in listed(result.get("output")):
            item = mapping(item)
            kind = item.get("type")
            if kind == "message":
                self.say(item.get("content"), at_us)
            elif kind == "reasoning":
                self.think(item.get("content"), at_us)
            elif kind == "tool_call":
                self.show(at_us)
                self._calls_seen += 1
                self.call(self._calls_seen, item.get("id"), item.get("tool"), item.get("arguments"))
        self._result(result)

    def _result(self, result: dict[str, Any]) -> None:
        meaning = self.meaning
        meaning.response_model = string(result.get("model_instance_id")) or meaning.response_model
        meaning.response_id = string(result.get("response_id")) or string(result.get("thread_id"))
        self.counts.add(result.get("stats"))
        self.fact("timings_s", amounts(result.get("stats"), _TIMES))

    def finish(self) -> None:
        get = self.counts.get
        given, made = get("input_tokens"), get("total_output_tokens")
        if given is not None or made is not None:
            reasoned = get("reasoning_output_tokens")
            self.meaning.usage = Usage(given, made, added(given, made), reasoning_tokens=reasoned)
        super().finish()

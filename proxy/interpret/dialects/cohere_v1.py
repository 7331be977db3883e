"""Cohere's first version of chat: lines of JSON with an `event_type`, or one JSON.

The form: https://docs.cohere.com/v1/reference/chat.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.cohere import count_usage
from proxy.interpret.values import listed, mapping, string


class CohereV1(Dialect):
    """Also the old `generate`, and what Bedrock passes on of either."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("cohere",))
    OPERATION: ClassVar[str | None] = "chat"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/v1/chat/?"), "chat"),
        Route(re.compile(r".*/v1/generate/?"), "text"),
    )

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return body.get("event_type") in ("stream-start", "text-generation", "stream-end")

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream") is True
        self.fact("model_from", "request" if self.meaning.model_asked else None)
        self.prompt("system", asked.get("preamble"))
        for message in listed(asked.get("chat_history")):
            self.prompt(mapping(message).get("role"), mapping(message).get("message"))
        self.prompt("user", asked.get("message") or asked.get("prompt"))

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict or self.fail(data, at_us):
            return
        kind = data.get("event_type")
        if kind == "text-generation":
            self.say(data.get("text"), at_us)
        elif kind == "stream-start":
            self.meaning.response_id = string(data.get("generation_id"))
        elif kind == "tool-calls-generation":
            self._called(data, at_us)
        elif kind == "stream-end":
            self.meaning.finish_reason = string(data.get("finish_reason"))
            self.counts.add(mapping(mapping(data.get("response")).get("meta")))
            self.terminate("stream-end", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        answer = mapping(body)
        self.meaning.response_id = string(answer.get("generation_id")) or string(answer.get("id"))
        self.meaning.finish_reason = string(answer.get("finish_reason"))
        self.say(answer.get("text"), at_us)
        for number, each in enumerate(listed(answer.get("generations"))):
            self.say(mapping(each).get("text"), at_us, number)
        self._called(answer, at_us)
        self.counts.add(answer.get("meta"))

    def _called(self, where: dict[str, Any], at_us: int) -> None:
        for number, each in enumerate(listed(where.get("tool_calls"))):
            called = mapping(each)
            self.show(at_us)
            self.call(number, None, called.get("name"), called.get("parameters"))

    def finish(self) -> None:
        if self.counts.seen:
            count_usage(self.meaning, self.counts)
        super().finish()
        if self.meaning.tool_calls and self.meaning.finish_reason_norm == "stop":
            self.meaning.finish_reason_norm = "tool_calls"

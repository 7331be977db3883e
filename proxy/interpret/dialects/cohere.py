"""Cohere's second version: named events that end with `message-end` and `[DONE]`, one JSON, embeddings, ranking.

The form: https://docs.cohere.com/v2/reference/chat. Two counts: all tokens, and the fewer ones that are billed. No
answer names its model.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.failures import MAX_MESSAGE
from proxy.interpret.meaning import Failure, Meaning, Part, Usage
from proxy.interpret.usage import Counts, added
from proxy.interpret.values import count, listed, mapping, string

_UNITS = {"search_units": "search_units", "classifications": "classifications", "images": "images"}


def count_usage(meaning: Meaning, counts: Counts) -> None:
    """Usage, and what of it is billed: of `{tokens: {...}, billed_units: {...}, cached_tokens}`."""
    get = counts.get
    given, made = get("tokens.input_tokens"), get("tokens.output_tokens")
    billed = {name: found for name in ("input_tokens", "output_tokens") if (found := get(f"billed_units.{name}"))}
    others = {ours: found for theirs, ours in _UNITS.items() if (found := get(f"billed_units.{theirs}"))}
    if given is None and made is None:
        given, made = billed.get("input_tokens"), billed.get("output_tokens")
    elif billed:
        share = Usage(billed.get("input_tokens"), billed.get("output_tokens"), others=others)
        meaning.shares = [Part("billed", None, share)]
    if billed or others:
        meaning.facts["billed_units"] = {**billed, **others}
    if given is None and made is None and not others:
        return
    meaning.usage = Usage(given, made, added(given, made), cache_read_tokens=get("cached_tokens"), others=others)


class Cohere(Dialect):
    """The plan of which tools to use is reasoning."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("cohere",))
    OPERATION: ClassVar[str | None] = "chat"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/v2/chat/?"), "chat"),
        Route(re.compile(r".*/v[12]/embed/?"), "embeddings"),
        Route(re.compile(r".*/v[12]/rerank/?"), "rerank"),
        Route(re.compile(r".*/v1/classify/?"), "classify"),
    )

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return body.get("type") in ("message-start", "message-end", "content-start", "content-delta")

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream") is True
        self.fact("model_from", "request" if self.meaning.model_asked else None)
        self.prompts(listed(asked.get("messages")))
        for name in ("texts", "inputs", "query", "documents"):
            self.prompt("user", asked.get(name))

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict or self.fail(data, at_us):
            return
        kind, delta = data.get("type") or name, mapping(data.get("delta"))
        message = mapping(delta.get("message"))
        if kind in ("content-delta", "content-start"):
            content = mapping(message.get("content"))
            self.say(content.get("text"), at_us)
            self.think(content.get("thinking"), at_us)
        elif kind == "tool-plan-delta":
            self.think(message.get("tool_plan"), at_us)
        elif kind in ("tool-call-start", "tool-call-delta"):
            self.show(at_us)
            called = mapping(message.get("tool_calls"))
            function = mapping(called.get("function"))
            self.call(count(data.get("index")), called.get("id"), function.get("name"), function.get("arguments"))
        elif kind == "message-start":
            self.meaning.response_id = string(data.get("id")) or self.meaning.response_id
        elif kind == "message-end":
            self._end(delta, at_us)

    def _end(self, delta: dict[str, Any], at_us: int) -> None:
        self.counts.add(delta.get("usage"))
        self.meaning.finish_reason = string(delta.get("finish_reason")) or self.meaning.finish_reason
        error = delta.get("error")
        if error or self.meaning.finish_reason in ("ERROR", "TIMEOUT"):
            said = error if type(error) is str else string(mapping(error).get("message"))
            message = said[:MAX_MESSAGE] if said else None
            self.meaning.error = Failure(type=self.meaning.finish_reason, message=message, midstream=True)
            self.failed = True
        self.terminate("message-end", at_us)

    def read_plain_event(self, name: str, data: str, at_us: int) -> None:
        if data.strip() == "[DONE]":
            self.terminate("[DONE]", at_us)
            self.meaning.terminator = "[DONE]"

    def read_body(self, body: Any, at_us: int) -> None:
        answer = mapping(body)
        self.meaning.response_id = string(answer.get("id"))
        self.meaning.finish_reason = string(answer.get("finish_reason"))
        message = mapping(answer.get("message"))
        self.think(message.get("tool_plan"), at_us)
        for part in listed(message.get("content")):
            part = mapping(part)
            self.say(part.get("text"), at_us)
            self.think(part.get("thinking"), at_us)
        for number, called in enumerate(listed(message.get("tool_calls"))):
            called, function = mapping(called), mapping(mapping(called).get("function"))
            self.show(at_us)
            self.call(number, called.get("id"), function.get("name"), function.get("arguments"))
        self.counts.add(answer.get("usage") or answer.get("meta"))

    def finish(self) -> None:
        if self.counts.seen:
            count_usage(self.meaning, self.counts)
        super().finish()

"""Ollama's own form: lines of JSON, or one, the last with `done` and the counts. Streams unless told not to.

The form: https://docs.ollama.com/api. Counts of zero are left out.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.meaning import Meaning, Usage
from proxy.interpret.usage import added
from proxy.interpret.values import amounts, listed, mapping, string, written

_TIMES = {f"{name}_duration": name for name in ("total", "load", "prompt_eval", "eval")}  # nanoseconds


class Ollama(Dialect):
    """`chat`, `generate`, `embed` and the older `embeddings`."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("ollama",))
    OPERATION: ClassVar[str | None] = "chat"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/api/chat/?"), "chat"),
        Route(re.compile(r".*/api/generate/?"), "text"),
        Route(re.compile(r".*/api/embed(?:dings)?/?"), "embeddings"),
    )

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._calls_seen = 0
        self._done = False

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return type(body.get("done")) is bool and ("message" in body or "response" in body)

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream") is not False and self.meaning.operation != "embeddings"
        self.prompt("system", asked.get("system"))
        self.prompt("user", asked.get("prompt") or asked.get("input"))
        for message in listed(asked.get("messages")):
            message = mapping(message)
            self.prompt(message.get("role"), message.get("content"))
            self._pictures(message)
        self._pictures(asked)

    def _pictures(self, where: dict[str, Any]) -> None:
        for picture in listed(where.get("images")):
            if type(picture) is str:
                self.sent_medium("image", len(picture))

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is dict and not self.fail(data, at_us):
            self._read(data, at_us)
            if data.get("done") is True:
                self.terminate("done:true", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        self._read(mapping(body), at_us)

    def _read(self, line: dict[str, Any], at_us: int) -> None:
        meaning = self.meaning
        meaning.response_model = string(line.get("model")) or meaning.response_model
        message = mapping(line.get("message"))
        self.think(message.get("thinking") or line.get("thinking"), at_us)
        self.say(message.get("content") or line.get("response"), at_us)
        for call in listed(message.get("tool_calls")):
            called = mapping(mapping(call).get("function"))
            self.show(at_us)
            self._calls_seen += 1
            arguments = called.get("arguments")
            text = written({} if arguments is None else arguments, compact=True)  # as it is on the wire
            self.call(self._calls_seen, mapping(call).get("id"), called.get("name"), text)
        if line.get("done") is True or "prompt_eval_count" in line:
            self._done = self._done or line.get("done") is True
            meaning.finish_reason = string(line.get("done_reason")) or meaning.finish_reason
            self.counts.add({key: line[key] for key in ("prompt_eval_count", "eval_count") if key in line})
            self.fact("timings_ns", amounts(line, _TIMES))

    def finish(self) -> None:
        get, zero = self.counts.get, 0 if self._done and "timings_ns" in self.meaning.facts else None
        given, made = get("prompt_eval_count"), get("eval_count")
        given, made = zero if given is None else given, zero if made is None else made
        if given is not None or made is not None:
            self.meaning.usage = Usage(given, made, added(given, made))
        super().finish()
        if self.meaning.tool_calls and self.meaning.finish_reason_norm == "stop":
            self.meaning.finish_reason_norm = "tool_calls"  # it says `stop` all the same

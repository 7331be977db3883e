"""OpenAI's Responses through a WebSocket: one request after the other, each answered by the events of a stream.

The form: https://platform.openai.com/docs/guides/websocket-mode. Each response has its own usage; they are summed.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.openai_responses import OpenAIResponses
from proxy.interpret.dialects.several import Several
from proxy.interpret.meaning import Meaning
from proxy.interpret.values import mapping, string

_ENDS = ("response.completed", "response.failed", "response.incomplete", "response.cancelled", "error")


class OpenAIResponsesSocket(Dialect):
    """Complete when no response is under way."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai",))
    ROUTES: ClassVar[tuple[Route, ...]] = (Route(re.compile(r".*/responses/?"), "responses", ("GET",)),)

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._answers = Several(self)
        self._under_way: OpenAIResponses | None = None

    def read_message(self, sent: bool, data: Any, at_us: int) -> None:
        message = mapping(data)
        if sent:
            if message.get("type") == "response.create":
                self._begin(message.get("response") or message)
            return
        if self._under_way is None:
            self._begin({})
        inner = self._under_way
        assert inner is not None
        inner.span = self.span
        inner.read_event("message", data, at_us)
        if message.get("type") in _ENDS:
            self._end(inner, at_us)

    def _begin(self, asked: Any) -> None:
        if self._under_way is None:
            self._under_way = OpenAIResponses(Meaning(operation="responses"))
        self._under_way.read_request(asked)
        meaning, model = self.meaning, string(mapping(asked).get("model"))
        meaning.model_asked = model or meaning.model_asked
        for role, text in self._under_way.meaning.prompts:
            self.prompt(role, text)
        self._under_way.meaning.prompts = []
        meaning.terminated, meaning.terminator, meaning.terminal_event_us = False, None, None

    def _end(self, inner: OpenAIResponses, at_us: int) -> None:
        self._close(inner, at_us)
        self.terminate(inner.meaning.terminator or "error", at_us)

    def _close(self, inner: OpenAIResponses, at_us: int) -> None:
        self._under_way = None
        if inner.counts.seen:
            self.counts.add(inner.counts.last, keep=True)
        inner.finish()
        self._answers.add(inner.meaning, at_us)

    def finish(self) -> None:
        if self._under_way is not None and self._under_way.meaning.response_id is not None:
            self._close(self._under_way, 0)
        self._answers.finish()
        super().finish()

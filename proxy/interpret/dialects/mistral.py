"""What Mistral has beside the form of OpenAI's chat: conversations with agents, and reading of documents.

The form: https://docs.mistral.ai/api. A conversation's events have the type in the data and in the event's name.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import MAX_WORD, Dialect, Route
from proxy.interpret.failures import MAX_MESSAGE
from proxy.interpret.meaning import Failure, Usage
from proxy.interpret.usage import added
from proxy.interpret.values import listed, mapping, string

_CALL = ("function.call.delta", "function.call")


class MistralConversations(Dialect):
    """Usage comes with `conversation.response.done`; what connectors used is in it."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("mistral",))
    OPERATION: ClassVar[str | None] = "conversation"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/conversations(?:/[^/]+)?(?:/restart)?(?:#stream)?/?"), "conversation"),
    )

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return str(body.get("type")).startswith(("conversation.response.", "message.output.")) or (
            "conversation_id" in body and "outputs" in body
        )

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or string(asked.get("agent_id"))
        self.meaning.streaming = asked.get("stream") is True
        self.prompt("system", asked.get("instructions"))
        self.inputs(asked.get("inputs"), "content", "result")

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict:
            return
        kind = data.get("type") or name
        if kind == "conversation.response.error":
            message = string(data.get("message"))
            code = data.get("code")
            code = code if type(code) is int else string(code) and str(code)[:MAX_WORD]
            self.meaning.error = Failure(
                type=kind, code=code, message=message and message[:MAX_MESSAGE], midstream=True
            )
            self.failed = True
            self.terminate("error", at_us)
        elif kind == "conversation.response.started":
            self.meaning.response_id = string(data.get("conversation_id"))
        elif kind == "conversation.response.done":
            self.counts.add(data.get("usage"))
            self.terminate("conversation.response.done", at_us)
        else:
            self._output(kind, data, at_us)

    def _output(self, kind: Any, data: dict[str, Any], at_us: int) -> None:
        self.meaning.response_model = string(data.get("model")) or self.meaning.response_model
        if kind in ("message.output.delta", "message.output"):
            content = data.get("content")
            for part in content if type(content) is list else [content]:
                if type(part) is str:
                    self.say(part, at_us)
                    continue
                part = mapping(part)
                for thought in listed(part.get("thinking")):
                    self.think(mapping(thought).get("text"), at_us)
                self.say(part.get("text"), at_us)
        elif kind in _CALL:
            self.show(at_us)
            called = string(data.get("tool_call_id")) or string(data.get("id"))
            self.call(called, called, data.get("name"), data.get("arguments"))

    def read_plain_event(self, name: str, data: str, at_us: int) -> None:
        if data.strip() == "[DONE]":
            self.terminate("[DONE]", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        answer = mapping(body)
        if "outputs" not in answer:
            self.meaning.usage_state = "none"  # OpenAI's conversations are made, but not had, under the same path
            return
        self.meaning.response_id = string(answer.get("conversation_id"))
        for each in listed(answer.get("outputs")):
            self._output(mapping(each).get("type"), mapping(each), at_us)
        self.counts.add(answer.get("usage"))

    def finish(self) -> None:
        get = self.counts.get
        given, made, tools = get("prompt_tokens"), get("completion_tokens"), get("connector_tokens")
        if self.counts.seen:
            total = get("total_tokens")
            self.meaning.usage = Usage(
                added(given, tools) if total is not None and total == added(given, made, tools) else given,
                made,
                added(given, made) if total is None else total,
                tool_prompt_tokens=tools,
            )
        super().finish()
        if self.meaning.tool_calls and self.meaning.finish_reason is None:
            self.meaning.finish_reason_norm = "tool_calls"


class MistralOCR(Dialect):
    """Billed by the page."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("mistral",))
    OPERATION: ClassVar[str | None] = "ocr"
    ROUTES: ClassVar[tuple[Route, ...]] = (Route(re.compile(r".*/ocr/?"), "ocr"),)

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return "usage_info" in body and "pages" in body

    def read_request(self, body: Any) -> None:
        self.meaning.model_asked = string(mapping(body).get("model"))

    def read_body(self, body: Any, at_us: int) -> None:
        answer = mapping(body)
        self.meaning.response_model = string(answer.get("model"))
        for number, page in enumerate(listed(answer.get("pages"))):
            self.say(mapping(page).get("markdown"), at_us, number)
            for picture in listed(mapping(page).get("images")):
                encoded = mapping(picture).get("image_base64")
                if type(encoded) is str:
                    self.medium("image", len(encoded))
        self.counts.add(answer.get("usage_info"))

    def finish(self) -> None:
        pages = self.counts.get("pages_processed")
        if pages is not None:
            self.meaning.usage = Usage(others={"pages": pages})
        super().finish()

"""OpenAI's Responses: streams of named events that end with the whole response, and the same in one piece.

The form: https://platform.openai.com/docs/api-reference/responses. Types of events that are not known are passed over.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.openai_chat import reported_pico
from proxy.interpret.dialects.openai_usage import openai_usage
from proxy.interpret.failures import MAX_MESSAGE
from proxy.interpret.meaning import Failure, Meaning, Rating, Usage
from proxy.interpret.values import count, listed, mapping, string

_CALLS = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "mcp_call": "arguments",
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
    "code_interpreter_call": "code",
}
"""Type of an output item -> where it has the arguments of a call."""


class OpenAIResponses(Dialect):
    """Text and calls come from deltas as they arrive; the terminal event's output replaces them, it is complete also in
    a stream that was taken up midway."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai",))
    OPERATION: ClassVar[str | None] = "responses"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/responses/?"), "responses"),
        Route(re.compile(r".*/responses/compact/?"), "responses.compact"),
        Route(re.compile(r".*/responses/(?!input_tokens)[^/]+/cancel/?"), "responses.cancel", billed=False),
        Route(re.compile(r".*/responses/[^/]+/?"), "responses.retrieve", ("GET",), billed=False),
    )

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._output: list[Any] | None = None

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        kind = body.get("type")
        return body.get("object") == "response" or (type(kind) is str and kind.startswith("response."))

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream") is True
        if asked.get("instructions"):
            self.prompt("system", asked["instructions"])
        self.inputs(asked.get("input"), "content", "output")

    def read_plain_event(self, name: str, data: str, at_us: int) -> None:
        if data.strip() == "[DONE]":  # OpenRouter's
            self.terminate("[DONE]", at_us)

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict:
            return
        kind = data.get("type") or name
        if kind == "response.output_text.delta" or kind == "response.refusal.delta":  # noqa: PLR1714 - it is hot
            self.say(data.get("delta"), at_us)
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            self.think(data.get("delta"), at_us)
        elif kind in ("response.completed", "response.failed", "response.incomplete", "response.cancelled"):
            self._whole(mapping(data.get("response")), at_us)
            self.terminate(kind, at_us)
        elif kind in ("response.created", "response.in_progress", "response.queued"):
            self._head(mapping(data.get("response")))
        elif kind == "error" or ("error" in data and not str(kind).startswith("response.")):
            self._error(data, at_us)
        elif kind == "response.output_item.added":
            self._item_added(mapping(data.get("item")), data.get("output_index"), at_us)
        elif type(kind) is str and kind.endswith(("_arguments.delta", "_call_input.delta", "_call_code.delta")):
            self.call(_key(data), arguments=data.get("delta"))
        elif kind == "response.audio.transcript.delta":
            self.say(data.get("delta"), at_us)
        elif kind in ("response.audio.delta", "response.image_generation_call.partial_image"):
            media = data.get("delta") or data.get("partial_image_b64")
            if type(media) is str:
                self.show(at_us)
                self.medium("audio" if kind == "response.audio.delta" else "image", len(media))

    def read_body(self, body: Any, at_us: int) -> None:
        self._whole(mapping(body), at_us)

    def _head(self, response: dict[str, Any]) -> None:
        meaning = self.meaning
        meaning.response_id = string(response.get("id")) or meaning.response_id
        meaning.response_model = string(response.get("model")) or meaning.response_model
        meaning.service_tier = string(response.get("service_tier")) or meaning.service_tier
        self.counts.add(response.get("usage"))

    def _whole(self, response: dict[str, Any], at_us: int) -> None:
        """The response as it is at its end, or at the time when it was asked for."""
        self._head(response)
        meaning = self.meaning
        output = response.get("output")
        if type(output) is list and output:
            self._output = output
            if meaning.first_visible_us is None and any(mapping(item).get("type") == "message" for item in output):
                meaning.first_visible_us = at_us
        status = string(response.get("status"))
        if status in ("queued", "in_progress"):
            return
        reason = string(mapping(response.get("incomplete_details")).get("reason"))
        meaning.finish_reason = f"{status}:{reason}" if status == "incomplete" and reason else status
        error = mapping(response.get("error"))
        if error:
            code, message = error.get("code"), (string(error.get("message")) or "")[:MAX_MESSAGE] or None
            known = code if type(code) in (str, int) else None
            meaning.error = Failure(type=string(error.get("type")), code=known, message=message, midstream=True)
        for each in listed(response.get("content_filters")):
            self._rate(mapping(each))

    def _error(self, data: dict[str, Any], at_us: int) -> None:
        """An event `error`, flat or with the error inside."""
        if not self.fail(data if type(data.get("error")) is dict else {**data, "type": "error"}, at_us):
            return
        error = self.meaning.error
        if error is not None and type(data.get("error")) is not dict:
            error.type = string(data.get("type")) or "error"

    def _item_added(self, item: dict[str, Any], index: Any, at_us: int) -> None:
        where = _CALLS.get(str(item.get("type")))
        if where is None:
            return
        self.show(at_us)
        key = count(index)
        self.call(key if key is not None else item.get("id"), item.get("call_id") or item.get("id"), item.get("name"))

    def _rate(self, filtered: dict[str, Any]) -> None:
        """Azure's content filters."""
        side: Any = "prompt" if filtered.get("source_type") == "prompt" else "completion"
        for category, said in mapping(filtered.get("content_filter_results")).items():
            said = mapping(said)
            blocked = said.get("filtered")
            if said and len(self.meaning.ratings) < 100:
                level = string(said.get("severity"))
                rating = Rating(side, category[:512], level, None, blocked if type(blocked) is bool else None)
                self.meaning.ratings.append(rating)

    def finish(self) -> None:
        meaning = self.meaning
        if self._output is not None:
            self._replace(self._output)
        if self.counts.seen:
            meaning.usage = self._usage()
            meaning.cost_reported_pico = reported_pico(self.counts.last)
        super().finish()
        if meaning.finish_reason_norm == "stop" and meaning.tool_calls:
            meaning.finish_reason_norm = "tool_calls"  # it says `completed` all the same

    def _replace(self, output: list[Any]) -> None:
        """The terminal event's output is the whole answer, whatever the deltas were."""
        marks = self.meaning.first_visible_us, self.meaning.first_reasoning_us
        self.forget()
        at = self.meaning.terminal_event_us or 0
        for number, item in enumerate(output):
            item = mapping(item)
            kind = str(item.get("type"))
            if kind == "message":
                for part in listed(item.get("content")):
                    part = mapping(part)
                    self.say(part.get("text") or part.get("refusal"), at)
            elif kind == "reasoning":
                for part in (*listed(item.get("summary")), *listed(item.get("content"))):
                    self.think(mapping(part).get("text"), at)
            elif kind in _CALLS:
                arguments = item.get(_CALLS[kind])
                self.call(number, item.get("call_id") or item.get("id"), item.get("name") or kind, arguments)
            elif kind == "image_generation_call" and type(item.get("result")) is str:
                self.medium("image", len(item["result"]))
        visible, reasoning = marks
        self.meaning.first_visible_us = visible
        self.meaning.first_reasoning_us = reasoning

    def _usage(self) -> Usage:
        usage = openai_usage(self.counts)
        searches = sum(map(_searches, self._output or ()))
        if searches:
            usage.others["web_searches"] = searches
        files = sum(mapping(item).get("type") == "file_search_call" for item in self._output or ())
        if files:
            usage.others["file_searches"] = files
        return usage


def _searches(item: Any) -> bool:
    """Whether it is a search; opening and looking through a page that was found is not billed as one."""
    action = mapping(mapping(item).get("action")).get("type")
    return mapping(item).get("type") == "web_search_call" and action in (None, "search")


def _key(data: dict[str, Any]) -> object:
    index = count(data.get("output_index"))
    return index if index is not None else string(data.get("item_id"))

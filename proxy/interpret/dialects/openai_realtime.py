"""OpenAI's realtime sessions: JSON messages through a WebSocket, in both directions; Azure's and xAI's as well.

The form: https://platform.openai.com/docs/api-reference/realtime. Each response has its own usage, and they are summed;
what turns the speaker's words into text is another model, with a bill of its own.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.openai_audio import milliseconds, usage_of
from proxy.interpret.dialects.openai_usage import openai_usage
from proxy.interpret.dialects.several import Shares, share
from proxy.interpret.failures import failure_of
from proxy.interpret.meaning import Meaning, RateLimit, Usage
from proxy.interpret.usage import Counts
from proxy.interpret.values import HIGHEST, count, listed, mapping, number, string

_SAID = frozenset(
    f"response.{kind}.delta"
    for kind in ("output_text", "text", "output_audio_transcript", "audio_transcript", "refusal")
)
_SESSIONS = tuple(f"{kind}.{what}" for kind in ("session", "transcription_session") for what in ("created", "updated"))
_SOUND = ("response.output_audio.delta", "response.audio.delta")
_HEARD = "conversation.item.input_audio_transcription.completed"


class OpenAIRealtime(Dialect):
    """Complete when no response is under way."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai",))
    ROUTES: ClassVar[tuple[Route, ...]] = (Route(re.compile(r".*/realtime/?"), "realtime", ("GET",)),)
    OPERATION: ClassVar[str | None] = "realtime"

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._listener: str | None = None  # the model that turns what was heard into text
        self._answers = 0
        self._open = False
        self._shares, self._beside = Shares(), Shares()

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return body.get("type") in _SESSIONS

    def read_query(self, query: dict[str, str]) -> None:
        self.meaning.model_asked = query.get("model") or query.get("deployment") or self.meaning.model_asked

    def read_message(self, sent: bool, data: Any, at_us: int) -> None:
        if type(data) is not dict:
            return
        kind = string(data.get("type"))
        if sent:
            self._sent(kind, data)
        elif kind in _SAID:
            self.say(data.get("delta"), at_us, self._answers)
        elif kind in _SOUND:
            if type(data.get("delta")) is str:
                self.show(at_us)
                self.medium("audio", len(data["delta"]))
        else:
            self._received(kind, data, at_us)

    def _sent(self, kind: Any, data: dict[str, Any]) -> None:
        if kind == "input_audio_buffer.append":
            if type(data.get("audio")) is str:
                self.sent_medium("audio", len(data["audio"]))
        elif kind == "session.update":
            self.prompt("system", mapping(data.get("session")).get("instructions"))
        elif kind == "conversation.item.create":
            item = mapping(data.get("item"))
            self.prompt(item.get("role") or item.get("type"), item.get("content") or item.get("output"))
        elif kind == "response.create":
            self.prompt("system", mapping(data.get("response")).get("instructions"))

    def _received(self, kind: Any, data: dict[str, Any], at_us: int) -> None:
        meaning = self.meaning
        if kind in _SESSIONS:
            self._session(mapping(data.get("session")))
        elif kind == "response.created":
            self._open = True
            meaning.response_id = string(mapping(data.get("response")).get("id")) or meaning.response_id
            meaning.terminated, meaning.terminator, meaning.terminal_event_us = False, None, None
        elif kind == "response.output_item.added":
            item = mapping(data.get("item"))
            if item.get("type") in ("function_call", "mcp_call"):
                self.show(at_us)
                self.call(_key(data), item.get("call_id") or item.get("id"), item.get("name"))
        elif kind in ("response.function_call_arguments.delta", "response.mcp_call_arguments.delta"):
            self.call(_key(data), data.get("call_id"), arguments=data.get("delta"))
        elif kind == "response.done":
            self._done(data, at_us)
        elif kind == _HEARD:
            self._heard(data)
            if not self._open:
                self.terminate(_HEARD, at_us)
        elif kind == "rate_limits.updated":
            self._limits(listed(data.get("rate_limits")))
        elif kind == "error" and (failure := failure_of(data)) is not None:
            failure.midstream = True  # the session goes on
            meaning.error = meaning.error or failure

    def _session(self, session: dict[str, Any]) -> None:
        self.meaning.response_model = string(session.get("model")) or self.meaning.response_model
        heard = mapping(mapping(session.get("audio")).get("input")).get("transcription")
        listener = mapping(heard or session.get("input_audio_transcription")).get("model")
        self._listener = string(listener) or self._listener

    def _done(self, data: dict[str, Any], at_us: int) -> None:
        meaning, response = self.meaning, mapping(data.get("response"))
        self._open = False
        self._answers += 1
        meaning.response_id = string(response.get("id")) or meaning.response_id
        meaning.finish_reason = string(response.get("status")) or meaning.finish_reason
        reason = mapping(response.get("status_details")).get("reason")
        if meaning.finish_reason == "incomplete" and string(reason):
            meaning.finish_reason = f"incomplete:{reason}"
        counts = Counts()
        said = response.get("usage") or data.get("usage")  # xAI has it beside the response
        counts.add(said)
        if counts.seen:
            self.counts.add(said, keep=True)
            usage = openai_usage(counts)
            if (seconds := milliseconds(mapping(said).get("billable_audio_seconds"))) is not None:
                usage.others["audio_ms"] = seconds
            self._shares.add("answer", meaning.response_model, usage)
        error = mapping(mapping(response.get("status_details")).get("error"))
        if error and meaning.error is None and (failure := failure_of({"error": error})) is not None:
            failure.midstream = True
            meaning.error = failure
        self.terminate("response.done", at_us)

    def _heard(self, data: dict[str, Any]) -> None:
        self.prompt("user", data.get("transcript"))
        usage: Usage | None = usage_of(data.get("usage"), Counts())
        if usage is not None:
            self._beside.add("transcription", self._listener, usage)

    def _limits(self, limits: list[Any]) -> None:
        found = []
        for each in limits[:64]:
            limit = mapping(each)
            name, reset = string(limit.get("name")), number(limit.get("reset_seconds"))
            if name is not None:
                reset_us = None if reset is None or reset < 0 else min(int(reset * 1e6), HIGHEST)
                found.append(RateLimit(name, count(limit.get("limit")), count(limit.get("remaining")), reset_us))
        self.meaning.rate_limits = found or self.meaning.rate_limits

    def read_closed(self) -> None:
        if self._open:
            self.meaning.problem = self.meaning.problem or "the session ended while a response was under way"

    def finish(self) -> None:
        if self._answers:
            share(self.meaning, self._shares)
            self.meaning.parts = self._beside.parts()
        else:  # a session that only listens: what it heard is all there is to pay
            share(self.meaning, self._beside)
        super().finish()
        if self.meaning.tool_calls and self.meaning.finish_reason_norm == "stop":
            self.meaning.finish_reason_norm = "tool_calls"


def _key(data: dict[str, Any]) -> object:
    return string(data.get("item_id")) or string(mapping(data.get("item")).get("id")) or count(data.get("output_index"))

"""AWS Bedrock's invoke: each model's own form, whole, or in pieces that an event stream carries in base64.

The form: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html. Tokens come from the model's own
usage, else from the metrics in the last piece, else from the response's headers.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, ClassVar

from proxy.interpret.dialects.anthropic import Anthropic
from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.bedrock_converse import BEDROCK, BedrockConverse, tell_by_headers, usage_of
from proxy.interpret.dialects.cohere_v1 import CohereV1
from proxy.interpret.dialects.openai_chat import OpenAIChat
from proxy.interpret.headers import value_of
from proxy.interpret.meaning import Meaning, Pairs
from proxy.interpret.usage import Counts
from proxy.interpret.values import NotJson, amounts, count, decoded, listed, mapping, string

_READ: tuple[type[Dialect], ...] = (Anthropic, OpenAIChat, CohereV1)
_METRICS = "amazon-bedrock-invocationMetrics"
_HEADER = "x-amzn-bedrock-%s-token-count"
_HEADERS = {
    "input": "inputTokens",
    "output": "outputTokens",
    "cache-read-input": "cacheReadInputTokens",
    "cache-write-input": "cacheWriteInputTokens",
}
_NOVA = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")
_TEXTS = ("outputText", "generation", "completion", "text")  # Titan, Llama, old Claude, Cohere
_REASONS = ("completionReason", "stop_reason", "finish_reason")
_COUNTS = {
    "inputTextTokenCount": "inputTokens",
    "prompt_token_count": "inputTokens",
    "totalOutputTextTokenCount": "outputTokens",
    "tokenCount": "outputTokens",
    "generation_token_count": "outputTokens",
}


class BedrockInvoke(Dialect):
    """Reads with the dialect of the model, where there is one; else what the families of AWS have in common."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("bedrock",))
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(BEDROCK + r"invoke/?"), "invoke", streams=False),
        Route(re.compile(BEDROCK + r"invoke-with-response-stream/?"), "invoke", streams=True),
    )

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._inner: Dialect | None = None
        self._asked: Any = None
        self._own = Counts()

    def read_request(self, body: Any) -> None:
        self._asked = asked = mapping(body)
        self.prompt("system", asked.get("system"))
        self.prompts(listed(asked.get("messages")))
        for name in ("inputText", "prompt", "texts", "message"):
            self.prompt("user", asked.get(name))

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        packed = mapping(data).get("bytes")
        if name != "chunk" or type(packed) is not str:
            return
        try:
            event = decoded(base64.b64decode(packed, validate=True))
        except (NotJson, binascii.Error, ValueError):
            self.meaning.problem = self.meaning.problem or "a piece of the stream is no JSON in base64"
            return
        if type(event) is not dict:
            return
        metrics = event.pop(_METRICS, None)
        inner = self._dialect(event)
        if inner is not None:
            inner.span = self.span
            named = next((each for each in _NOVA if each in event), None)
            inner.read_event(named or "message", event[named] if named else event, at_us)
        else:
            self._native(event, at_us)
        if type(metrics) is dict:
            self._own.add(metrics)
            self.fact("timings_ms", amounts(metrics, {"invocationLatency": "total", "firstByteLatency": "first_byte"}))
            if inner is None or not inner.ENDS_BY_EVENT or not self.meaning.terminated:
                self.terminate("invocationMetrics", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        answer = mapping(body)
        inner = self._dialect(answer)
        if inner is not None:
            inner.read_body(answer, at_us)
        else:
            self._native(answer, at_us)

    def _dialect(self, answer: dict[str, Any]) -> Dialect | None:
        if self._inner is None:
            known: Any = next((each for each in _READ if each.knows(answer)), None)
            if known is None and (any(name in answer for name in _NOVA) or "message" in mapping(answer.get("output"))):
                known = BedrockConverse
            if known is not None:
                self._inner = known(self.meaning)
                self._inner.listener = self.listener
        return self._inner

    def _native(self, answer: dict[str, Any], at_us: int) -> None:
        """Titan, Llama, Mistral and DeepSeek, which have no more in common than this."""
        for each in (
            answer,
            *map(mapping, listed(answer.get("results"))),
            *map(mapping, listed(answer.get("outputs"))),
        ):
            self._texts(each, at_us)
        for choice in map(mapping, listed(answer.get("choices"))):
            self._texts({**choice, "text": choice.get("text") or mapping(choice.get("message")).get("content")}, at_us)
        for picture in listed(answer.get("images")):
            if type(picture) is str:
                self.show(at_us)
                self.medium("image", len(picture))

    def _texts(self, answer: dict[str, Any], at_us: int) -> None:
        self.say(next((answer[name] for name in _TEXTS if type(answer.get(name)) is str), None), at_us)
        reason = next((found for name in _REASONS if (found := string(answer.get(name)))), None)
        self.meaning.finish_reason = reason or self.meaning.finish_reason
        for theirs, ours in _COUNTS.items():
            if count(answer.get(theirs)) is not None:
                self._own.add({ours: answer[theirs]})

    def read_headers(self, headers: Pairs) -> None:
        found = {ours: value_of(headers, _HEADER % theirs) for theirs, ours in _HEADERS.items()}
        known = {
            ours: int(said) for ours, said in found.items() if said is not None and re.fullmatch(r"\d{1,15}", said)
        }
        if not self._own.seen:
            self._own.add(known)
        tell_by_headers(self.meaning, headers)

    def finish(self) -> None:
        inner = self._inner
        if inner is not None:
            self.counts, self.failed = inner.counts, self.failed or inner.failed
            prompts = self.meaning.prompts
            inner.finish()
            self.meaning.prompts = prompts
        else:
            super().finish()
        if self.meaning.usage is None and self._own.seen:
            self.counts = self._own
            self.meaning.usage = usage_of(self._own, {})

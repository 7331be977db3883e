"""llama.cpp's own completions: events without a name, the last with `stop` and the counts; no `[DONE]`.

The form: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md. `tokens_cached` is the cache's size
after the run; what was read from it is in the timings.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.openai_chat import TIMINGS_MS
from proxy.interpret.meaning import Usage
from proxy.interpret.usage import added
from proxy.interpret.values import amounts, mapping, string


class LlamaCpp(Dialect):
    """`completion`, `infill`, and `embedding`, which counts nothing."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai",))
    OPERATION: ClassVar[str | None] = "text"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/(?:completion|infill)/?"), "text"),
        Route(re.compile(r".*/embedding/?"), "embeddings"),
    )

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return "tokens_predicted" in body or ("stop_type" in body and "content" in body)

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.streaming = asked.get("stream") is True
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        for name in ("input_prefix", "prompt", "input_suffix", "content"):
            self.prompt("user", asked.get(name))

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict or self.fail(data, at_us):
            return
        self._read(data, at_us)
        if data.get("stop") is True:
            self.terminate("stop:true", at_us)

    def read_plain_event(self, name: str, data: str, at_us: int) -> None:
        if data.strip() == "[DONE]":
            self.terminate("[DONE]", at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        for each in body if type(body) is list else [body]:  # several prompts, several answers
            self._read(mapping(each), at_us)

    def _read(self, data: dict[str, Any], at_us: int) -> None:
        meaning, last = self.meaning, data.get("stop") is True or "timings" in data
        self.say(data.get("content"), at_us)
        if not last:
            return
        meaning.response_model = string(data.get("model")) or meaning.response_model
        meaning.finish_reason = string(data.get("stop_type")) or meaning.finish_reason
        said = {key: data[key] for key in ("tokens_evaluated", "tokens_predicted") if key in data}
        timings = mapping(data.get("timings"))
        self.counts.add({**said, "cache_n": timings.get("cache_n")} if said else None)
        self.fact("timings_ms", amounts(timings, TIMINGS_MS))

    def finish(self) -> None:
        get = self.counts.get
        given, made = get("tokens_evaluated"), get("tokens_predicted")
        if self.counts.seen:
            self.meaning.usage = Usage(given, made, added(given, made), cache_read_tokens=get("cache_n"))
        super().finish()

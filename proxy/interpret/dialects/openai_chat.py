"""OpenAI's chat completions, legacy completions and embeddings, and all that speak the same form under another name.

The form: https://platform.openai.com/docs/api-reference/chat. What others do differently is told at the line.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, ClassVar

from proxy.interpret.dialects.base import MAX_CALLS, Dialect, Route
from proxy.interpret.meaning import Meaning, Part, Rating, Usage
from proxy.interpret.usage import Counts, added
from proxy.interpret.values import HIGHEST, amounts, count, listed, mapping, media_in, number, string

TIMINGS_MS = {"prompt_ms": "prompt", "predicted_ms": "predicted"}
"""llama.cpp's names of how long it took -> ours."""

_MAX_SHARES = 64
_TIMES = {"queue_time": "queue", "prompt_time": "prompt", "completion_time": "completion"}  # seconds
_TICK_PICO = 100  # xAI: 10^10 ticks to the dollar
_DEPLOYMENT = r"(?:.*/deployments/(?P<model>[^/]+))?.*"  # Azure has the model in the path


class OpenAIChat(Dialect):
    """Streams of `chat.completion.chunk` that end with `[DONE]`, and the same in one piece."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai", "mistral"))
    OPERATION: ClassVar[str | None] = "chat"
    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(_DEPLOYMENT + r"/chat/completions/?"), "chat"),
        Route(re.compile(r".*/(?:fim|agents)/completions/?"), "chat"),
        Route(
            re.compile(r".*/publishers/(?!anthropic/|google/)[^/]+/models/(?P<model>[^/:]+):(?:streamR|r)awPredict"),
            "chat",
        ),
        Route(re.compile(r".*/chat/completions/[^/]+/?"), "chat.retrieve", ("GET",), billed=False),
        Route(re.compile(_DEPLOYMENT + r"/completions/?"), "text"),
        Route(re.compile(_DEPLOYMENT + r"/embeddings/?"), "embeddings"),
        Route(re.compile(r".*/(?:rerank|score|classify|pooling)/?"), "rerank"),
    )

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._timings: dict[str, Any] = {}
        self._latest_call: dict[tuple[int, int], object] = {}

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        kind = body.get("object")
        return type(kind) is str and kind.startswith(("chat.completion", "text_completion"))

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream") is True
        self.prompts(listed(asked.get("messages")))
        for key in ("prompt", "input"):
            if key in asked and "messages" not in asked:
                self.prompt("user", asked[key])

    def read_plain_event(self, name: str, data: str, at_us: int) -> None:
        if data.strip() == "[DONE]":
            self.terminate("[DONE]", at_us)

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict:
            return
        if "error" in data and self.fail(data, at_us):
            pass  # OpenRouter's last chunk has choices beside its error
        self._read(data, at_us, "delta")

    def read_body(self, body: Any, at_us: int) -> None:
        self._read(mapping(body), at_us, "message")

    def read_refusal(self, body: Any) -> None:
        """Azure's filter of prompts answers 400 and has its ratings in the error."""
        error = mapping(mapping(body).get("error"))
        inner = mapping(error.get("innererror"))
        self._rate("prompt", inner.get("content_filter_result") or inner.get("content_filter_results"))
        if error.get("code") == "content_filter":
            self.meaning.prompt_block_reason = string(inner.get("code")) or "content_filter"

    def _read(self, chunk: dict[str, Any], at_us: int, kind: str) -> None:
        meaning = self.meaning
        if chunk.get("id"):
            meaning.response_id = string(chunk["id"]) or meaning.response_id
        if chunk.get("model"):
            meaning.response_model = string(chunk["model"]) or meaning.response_model
        if chunk.get("service_tier"):
            meaning.service_tier = string(chunk["service_tier"]) or meaning.service_tier
        choices = chunk.get("choices")
        if choices:
            for place, choice in enumerate(listed(choices)):
                if type(choice) is dict:
                    self._choice(choice, place, at_us, kind)
        if chunk.get("usage"):
            self.counts.add(chunk["usage"])
        self._extras(chunk)

    def _extras(self, chunk: dict[str, Any]) -> None:
        """What only some of those have that speak this form."""
        if "x_groq" in chunk:  # Groq's last chunk, also when no usage was asked for
            groq = mapping(chunk["x_groq"])
            self.counts.add(groq.get("usage"))
            self.fact("provider_request_id", string(groq.get("id")))
            self._share(groq.get("usage_breakdown"))
        if "usage_breakdown" in chunk:
            self._share(chunk["usage_breakdown"])
        if "timings" in chunk:  # llama.cpp
            self._timings = mapping(chunk["timings"]) or self._timings
        if "time_info" in chunk:  # Cerebras
            self.fact("timings_s", amounts(chunk["time_info"], _TIMES))
        if "provider" in chunk:  # OpenRouter: who served it
            self.fact("upstream_provider", string(chunk["provider"]))
        if "prompt_filter_results" in chunk:  # Azure
            for each in listed(chunk["prompt_filter_results"]):
                self._rate("prompt", mapping(each).get("content_filter_results"))

    def _share(self, breakdown: Any) -> None:
        """Groq's compound systems tell what each of their models used; each has its own price."""
        shares = []
        for each in listed(mapping(breakdown).get("models"))[:_MAX_SHARES]:
            counts = Counts()
            counts.add(mapping(each).get("usage"))
            if counts.seen:
                shares.append(Part("model", string(mapping(each).get("model")), self._usage(counts)))
        self.meaning.shares = shares or self.meaning.shares

    def _choice(self, choice: dict[str, Any], place: int, at_us: int, kind: str) -> None:
        index = count(choice.get("index"))
        index = place if index is None else index
        delta = choice.get(kind) or choice.get("message") or choice.get("delta")
        if type(delta) is dict:
            self._delta(delta, index, at_us)
        elif "text" in choice:  # legacy; Together repeats the delta there
            self.say(choice["text"], at_us, index)
        reason = choice.get("finish_reason")
        if type(reason) is str and reason and (index == 0 or self.meaning.finish_reason is None):
            self.meaning.finish_reason = reason
        if "usage" in choice:  # Moonshot
            self.counts.add(choice["usage"])
        if "native_finish_reason" in choice and index == 0:  # OpenRouter
            self.fact("native_finish_reason", string(choice["native_finish_reason"]))
        if "content_filter_results" in choice:
            self._rate("completion", choice["content_filter_results"])

    def _delta(self, delta: dict[str, Any], index: int, at_us: int) -> None:
        content = delta.get("content")
        if type(content) is str:
            self.say(content, at_us, index)
        elif content is not None:
            self._parts(content, index, at_us)
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning:
            self.think(reasoning, at_us)
        if delta.get("refusal"):
            self.say(delta["refusal"], at_us, index)
        if delta.get("tool_calls"):
            for place, each in enumerate(listed(delta["tool_calls"])):
                self._tool_call(mapping(each), place, index, at_us)
        if delta.get("function_call"):
            called = mapping(delta["function_call"])
            self.show(at_us)
            self.call(("function", index), None, called.get("name"), called.get("arguments"))
        if delta.get("audio"):
            audio = mapping(delta["audio"])
            self.say(audio.get("transcript"), at_us, index)
            if type(audio.get("data")) is str and audio["data"]:
                self.show(at_us)
                self.medium("audio", len(audio["data"]))
        if delta.get("images"):  # OpenRouter
            for kind, size in media_in(delta["images"]):
                self.show(at_us)
                self.medium(kind, size)

    def _parts(self, content: Any, index: int, at_us: int) -> None:
        """Mistral's content: a list of texts and thoughts."""
        for part in listed(content):
            part = mapping(part)
            if part.get("type") == "thinking":
                thoughts = part.get("thinking")
                for thought in listed(thoughts):
                    self.think(mapping(thought).get("text"), at_us)
                self.think(thoughts, at_us)
            else:
                self.say(part.get("text"), at_us, index)

    def _tool_call(self, call: dict[str, Any], place: int, choice: int, at_us: int) -> None:
        """Pieces of a call have its index; some servers give all calls the same one, and each an id of its own."""
        self.show(at_us)
        index = count(call.get("index"))
        slot = (choice, place if index is None else index)
        identity = string(call.get("id"))
        latest = self._latest_call.get(slot)
        if len(self._latest_call) >= MAX_CALLS and latest is None:
            return
        if latest is None or (identity is not None and latest not in ((slot, identity), (slot, None))):
            latest = self._latest_call[slot] = (slot, identity)
        called = mapping(call.get("function")) or mapping(call.get("custom"))
        arguments = called.get("arguments")
        self.call(latest, identity, called.get("name"), called.get("input") if arguments is None else arguments)

    def _rate(self, side: Any, results: Any) -> None:
        for category, said in mapping(results).items():
            said = mapping(said)
            if said and len(self.meaning.ratings) < 100:
                blocked = said.get("filtered")
                level = string(said.get("severity")) or ("detected" if said.get("detected") is True else None)
                rating = Rating(side, category[:512], level, None, blocked if type(blocked) is bool else None)
                self.meaning.ratings = [r for r in self.meaning.ratings if r[:2] != rating[:2]] + [rating]

    def finish(self) -> None:
        if self.counts.seen:
            self.meaning.usage = self._usage(self.counts)
            self.meaning.cost_reported_pico = reported_pico(self.counts.last)
            if "queue_time" in mapping(self.counts.last):  # Groq
                self.fact("timings_s", amounts(self.counts.last, _TIMES))
        elif self._timings:
            self._derive()
        self.fact("timings_ms", amounts(self._timings, TIMINGS_MS))
        super().finish()

    def _usage(self, counts: Counts) -> Usage:
        get = counts.get
        prompt, completion, total = get("prompt_tokens"), get("completion_tokens"), get("total_tokens")
        reasoning = get("completion_tokens_details.reasoning_tokens", "reasoning_tokens")
        if prompt is None and self.meaning.operation in ("embeddings", "rerank"):
            prompt = total  # Voyage has but a total
        if prompt is not None and completion is not None and total is not None:
            hidden = total - prompt - completion
            if hidden > 0 and reasoning in (None, hidden):
                # xAI's reasoning is beside the completion, Gemini's thoughts are only in the total.
                completion, reasoning = completion + hidden, hidden
        usage = Usage(
            input_tokens=prompt,
            output_tokens=completion,
            total_tokens=added(prompt, completion) if total is None else total,
            cache_read_tokens=get(
                "prompt_tokens_details.cached_tokens",
                "prompt_cache_hit_tokens",  # DeepSeek
                "cached_tokens",  # Together
                "num_cached_tokens",  # Mistral
            ),
            cache_write_tokens=get("prompt_tokens_details.cache_write_tokens"),
            reasoning_tokens=reasoning,
            input_audio_tokens=get("prompt_tokens_details.audio_tokens"),
            input_image_tokens=get("prompt_tokens_details.image_tokens"),
            output_audio_tokens=get("completion_tokens_details.audio_tokens"),
            output_image_tokens=get("completion_tokens_details.image_tokens"),
        )
        for kind in ("accepted_prediction_tokens", "rejected_prediction_tokens"):
            value = get(f"completion_tokens_details.{kind}")
            if value:
                usage.others[kind] = value
        if sources := get("num_sources_used"):
            usage.others["sources"] = sources
        if searches := get("num_search_queries"):  # Perplexity
            usage.others["web_searches"] = searches
        if seconds := get("prompt_audio_seconds"):  # Mistral
            usage.others["audio_ms"] = seconds * 1000
        return usage

    def _derive(self) -> None:
        """llama.cpp says what it timed even where nobody asked for usage."""
        prompt, cached = count(self._timings.get("prompt_n")), count(self._timings.get("cache_n"))
        predicted = count(self._timings.get("predicted_n"))
        if prompt is not None or predicted is not None:
            whole = added(prompt, cached)
            self.meaning.usage = Usage(whole, predicted, added(whole, predicted), cache_read_tokens=cached)
            self.meaning.usage_state = "derived"


def reported_pico(usage: Any) -> int | None:
    """What the provider says the exchange cost, in 10^-12 USD: xAI's ticks, OpenRouter's and Perplexity's `cost`."""
    said = mapping(usage)
    ticks = count(said.get("cost_in_usd_ticks"))
    if ticks is not None:
        return min(ticks * _TICK_PICO, HIGHEST)
    cost = said.get("cost")
    if type(cost) is dict:
        cost = cost.get("total_cost")
    amount = number(cost)
    if amount is None or amount < 0:
        return None
    return min(int((Decimal(str(amount)) * 10**12).to_integral_value()), HIGHEST)

"""Counts as all dialects keep them: per field the last one that was said, never a sum; finish reasons in one language.

Pure; must not know any one provider's field names.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

from proxy.interpret.meaning import FinishNorm, Usage
from proxy.interpret.values import count

FIELDS = tuple(each.name for each in fields(Usage) if each.name != "others")
"""The counts of a Usage, in order."""

_INPUT_PARTS = ("cache_read_tokens", "cache_write_tokens", "tool_prompt_tokens", "input_audio_tokens")
_OUTPUT_PARTS = ("reasoning_tokens", "output_audio_tokens", "output_image_tokens")

_NORMS: dict[FinishNorm, str] = {
    "stop": "stop chat.end eos end_turn stop_sequence COMPLETE FINISH STOP_SEQUENCE STOP completed word endoftext",
    "length": "length max_tokens MAX_TOKENS budget_exceeded LENGTH model_length model_context_window_exceeded limit"
    " incomplete:max_output_tokens incomplete:max_tokens",
    "tool_calls": "tool_calls function_call tool_use TOOL_CALL requires_action",
    "content_filter": "content_filter refusal SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY"
    " IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION guardrail_intervened content_filtered"
    " CONTENT_FILTERED MODEL_ARMOR JAILBREAK incomplete:content_filter",
    "error": "error ERROR ERROR_TOXIC ERROR_LIMIT TIMEOUT insufficient_system_resource MALFORMED_FUNCTION_CALL"
    " MALFORMED_RESPONSE malformed_model_output malformed_tool_use failed UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS"
    " MISSING_THOUGHT_SIGNATURE",
    "cancelled": "cancelled USER_CANCEL",
}
_NORM_OF: dict[str, FinishNorm] = {word: norm for norm, words in _NORMS.items() for word in words.split()}


def normalised(reason: str | None) -> FinishNorm | None:
    """The finish reason in the language that all providers' share; `other` for a word that is not known."""
    if reason is None:
        return None
    return _NORM_OF.get(reason, "other")


class Counts:
    """Collects a provider's usage objects: per key the last value that is a count.

    `seen` is whether any object came. Keys are the provider's own, nested ones joined by dots. `raw` is the last object
    as it came, or the list of it and the ones before it that say what it leaves out.
    """

    def __init__(self) -> None:
        self.seen = False
        self.values: dict[str, int] = {}
        self.last: Any = None
        self._kept: list[Any] = []

    @property
    def raw(self) -> Any:
        kept = self._kept if self._kept and self._kept[-1] is self.last else [*self._kept, self.last]
        return kept if len(kept) > 1 else kept[0]

    def add(self, usage: Any, *, keep: bool = False) -> None:
        """Take in one usage object; what is no object, or empty, says nothing. `keep`: no later one repeats it."""
        if type(usage) is not dict or not usage:
            return
        self.seen = True
        self.last = usage
        if keep:
            self._kept.append(usage)
        self._add("", usage, 0)

    def _add(self, prefix: str, usage: dict[str, Any], depth: int) -> None:
        for key, value in usage.items():
            if type(value) is dict and depth < 3:
                self._add(f"{prefix}{key}.", value, depth + 1)
            elif (found := count(value)) is not None:
                self.values[prefix + key] = found

    def get(self, *keys: str) -> int | None:
        """The value of the first of these keys that has one."""
        for key in keys:
            found = self.values.get(key)
            if found is not None:
                return found
        return None


def added(*values: int | None) -> int | None:
    """The sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def summed(*usages: Usage | None) -> Usage | None:
    """Usages together, of answers that each counted by itself: what none of them knows stays unknown."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < 2:
        return known[0] if known else None
    total = Usage()
    for name in FIELDS:
        setattr(total, name, added(*(getattr(usage, name) for usage in known)))
    others: Counter[str] = Counter()
    for usage in known:
        others.update(usage.others)
    total.others = dict(others)
    return total


def conflicts(usage: Usage) -> bool:
    """Whether parts exceed their total, or input and output exceed the total of both."""

    def exceeds(parts: tuple[str, ...], total: int | None) -> bool:
        return total is not None and any((getattr(usage, part) or 0) > total for part in parts)

    read_and_written = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    both = added(usage.input_tokens, usage.output_tokens)
    return (
        exceeds(_INPUT_PARTS, usage.input_tokens)
        or exceeds(_OUTPUT_PARTS, usage.output_tokens)
        or (usage.input_tokens is not None and read_and_written > usage.input_tokens)
        or (usage.total_tokens is not None and both is not None and both > usage.total_tokens)
    )

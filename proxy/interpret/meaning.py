"""The nouns of interpretation: what is read (Recording) and what it means (Meaning). Pure data, no I/O, no clock.

Must not know tables, prices or any one provider. Field names are those that `show --format json` prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Pairs = Sequence[tuple[str, str]]
"""Header names and values in order, as they were recorded."""

Pieces = Iterable[tuple[int, bytes]]
"""A body as it crossed the wire, transfer framing removed: (microseconds since the exchange began, bytes)."""

UsageState = Literal["complete", "partial", "derived", "missing", "none", "non_token"]
FinishNorm = Literal["stop", "length", "tool_calls", "content_filter", "error", "cancelled", "other"]


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded exchange, to be read once. `target` is what the upstream was asked for: path and query without the
    upstream's name in front. `whole`: the response came to its end by its own framing; `sent`: the request went out."""

    dialect: str
    method: str
    target: str
    request_headers: Pairs
    status: int | None
    response_headers: Pairs
    request: Pieces
    response: Pieces
    whole: bool
    sent: bool = True


@dataclass(slots=True)
class Usage:
    """Tokens as the provider counted them; None is unknown, never zero.

    `input_tokens` includes cache reads, cache writes and tool prompts; `output_tokens` includes reasoning and audio;
    all others are subsets. `others` are the kinds without a field: counts of searches, seconds, predictions, ...
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    tool_prompt_tokens: int | None = None
    cache_audio_read_tokens: int | None = None
    others: dict[str, int] = field(default_factory=dict)


class Part(NamedTuple):
    """What one model did of an exchange: beside the usage (compaction, advisor, transcription of what was heard), or a
    share of it (answers of a session, results of a batch). `size`: the largest input of one answer, where several are
    added up: prices depend on it."""

    kind: str
    model: str | None
    usage: Usage
    size: int | None = None


class Media(NamedTuple):
    """An image, sound or file, which stays where it was recorded: in the chunks `first` to `last` (counted from 0) of
    one side's body. `kind` is the media type or the provider's word; `size` in bytes, or characters of base64."""

    side: Literal["request", "response"]
    kind: str
    first: int
    last: int
    size: int


class Estimate(NamedTuple):
    """Tokens that nobody counted, guessed from the texts; None where there is nothing to guess from."""

    input_tokens: int | None
    output_tokens: int | None


class RateLimit(NamedTuple):
    """One limit as the response's headers told it, e.g. `requests`; `reset_us`: microseconds until it is full again."""

    kind: str
    limit: int | None
    remaining: int | None
    reset_us: int | None


class Rating(NamedTuple):
    """One safety rating. `level` is the provider's word (`NEGLIGIBLE`, `medium`)."""

    side: Literal["prompt", "completion"]
    category: str
    level: str | None = None
    score: float | None = None
    blocked: bool | None = None


class ToolCall(NamedTuple):
    """`arguments` is JSON as the provider wrote it, or as it would be written where an object came."""

    id: str | None
    name: str | None
    arguments: str


class Text(NamedTuple):
    """One prompt message. `role` is the provider's word."""

    role: str
    text: str


@dataclass(slots=True)
class Failure:
    """What went wrong, in the provider's words; `status` is the HTTP status or the provider's name for it."""

    type: str | None = None
    code: str | int | None = None
    message: str | None = None
    status: str | int | None = None
    retry_after_s: float | None = None
    midstream: bool = False


@dataclass(slots=True)
class Meaning:
    """What an exchange meant. Marks are microseconds since it began.

    `terminated`: the dialect's own terminal event was seen, the response is complete whatever happened to the
    connection later. `complete`: terminated, or whole where the dialect has no terminal event, and not failed midway.
    `events` are dispatched events, lines, array elements (None where the body is one JSON). `problem` says why the
    meaning is partial or missing. `usage_raw` is the provider's usage object, verbatim; of a session the array of all.
    `shares` add up to the usage where several models, or prices, had a part in it; `parts` come on top. `facts` is what
    has no field: the provider's timings, what was counted for nothing, the results of a batch. `billed_as`: under which
    name tokens count that have no single response's id. `estimate` is there where the usage should be and is not.
    """

    operation: str | None = None
    model_asked: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    streaming: bool | None = None
    retry_count: int | None = None
    finish_reason: str | None = None
    finish_reason_norm: FinishNorm | None = None
    service_tier: str | None = None
    usage: Usage | None = None
    usage_state: UsageState | None = None
    usage_raw: str | None = None
    usage_conflict: bool = False
    parts: list[Part] = field(default_factory=list)
    shares: list[Part] = field(default_factory=list)
    estimate: Estimate | None = None
    billed_as: str | None = None
    media: list[Media] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    cost_reported_pico: int | None = None
    rate_limits: list[RateLimit] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    prompt_block_reason: str | None = None
    error: Failure | None = None
    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    prompts: list[Text] = field(default_factory=list)
    events: int | None = None
    comment_lines: int = 0
    terminator: str | None = None
    terminated: bool = False
    complete: bool = False
    first_event_us: int | None = None
    first_reasoning_us: int | None = None
    first_visible_us: int | None = None
    terminal_event_us: int | None = None
    problem: str | None = None

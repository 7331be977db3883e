"""What goes into the store and comes out of it: plain rows, with text where the tables have ids.

Knows the shared nouns only; must not know tables or connections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from proxy.exchange import Origin, Outcome, WireEnd

Pairs = Sequence[tuple[str, str]]
"""Names and values in order: headers (latin-1 decoded, case kept, duplicates kept) or tags."""


class ChunkRow(NamedTuple):
    """One chunk. `side` is a Side; `seq` the record's sequence in its exchange, over all sides."""

    exchange: UUID
    side: int
    seq: int
    at_us: int
    data: bytes


class HeadRow(NamedTuple):
    """A request head, a response head (also 1xx), or trailers; `status` and `reason` for responses only."""

    exchange: UUID
    side: int
    seq: int
    at_us: int
    status: int | None
    reason: str | None
    headers: Pairs


class ChangeRow(NamedTuple):
    """What was sent otherwise than it came; `data` is the change record's text."""

    exchange: UUID
    seq: int
    at_us: int
    data: str


class GapRow(NamedTuple):
    """Bytes of one side that passed unrecorded."""

    exchange: UUID
    seq: int
    at_us: int
    side: int
    bytes: int
    reason: str | None


@dataclass(slots=True)
class JournalRow:
    """How far one journal has been stored. `id` is set once the row is in the database."""

    worker: UUID
    node: str
    started_us: int
    segment: int = 0
    offset: int = 0
    stored: int = 0
    highest_ordinal: int = 0
    lost_records: int = 0
    ended: bool = False
    id: int | None = None

    @property
    def missing(self) -> int:
        """Request heads that the journal numbered and that were not stored: ordinals begin at 1 and have no holes."""
        return self.highest_ordinal - self.stored


@dataclass(slots=True)
class ExchangeRow:
    """How an exchange was carried: what ingest collects, writes and takes up again after a restart.

    `outcome` is None while it is open. Marks are microseconds since it began. `tags` holds each pair once, sorted, when
    it comes from the store. `record` is 0 for everything, 1 for everything but bodies. `replay_of`: the one it sent
    again.
    """

    id: UUID
    journal: int | None
    started_us: int
    ordinal: int | None = None
    origin: Origin = Origin.LIVE
    node: str | None = None
    upstream: str | None = None
    dialect: str | None = None
    method: str | None = None
    target: str | None = None
    client: str | None = None
    client_kind: str | None = None
    credential: str | None = None
    session: str | None = None
    tags: Pairs = ()
    record: int = 0
    http_version: str | None = None
    status: int | None = None
    reason: str | None = None
    wire_end: WireEnd | None = None
    error: str | None = None
    outcome: Outcome | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    request_chunks: int = 0
    response_chunks: int = 0
    unrecorded_bytes: int = 0
    lost_records: int = 0
    masked: int = 0
    request_sent_us: int | None = None
    head_us: int | None = None
    first_byte_us: int | None = None
    last_byte_us: int | None = None
    end_us: int | None = None
    overhead_us: int | None = None
    request_hash: bytes | None = None
    response_hash: bytes | None = None
    request_out_hash: bytes | None = None
    response_out_hash: bytes | None = None
    replay_of: UUID | None = None


@dataclass(slots=True)
class Exchange(ExchangeRow):
    """Everything that is known of an exchange: its carriage and, as far as it was interpreted, its meaning."""

    operation: str | None = None
    virtual_key: str | None = None
    retry_count: int | None = None
    model_asked: str | None = None
    model_served: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    billed_as: str | None = None
    streaming: bool | None = None
    finish_reason: str | None = None
    finish_reason_norm: str | None = None
    service_tier: str | None = None
    terminated: bool | None = None
    first_event_us: int | None = None
    first_reasoning_us: int | None = None
    first_visible_us: int | None = None
    terminal_event_us: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    usage_state: str | None = None
    cost_pico: int | None = None
    cost_reported_pico: int | None = None
    cost_status: str | None = None
    price: int | None = None
    interpretation_error: str | None = None
    interpreter: int | None = None
    failed: bool | None = None
    counted: bool | None = None


class RatingRow(NamedTuple):
    """One safety rating; `side` is 0 for the prompt's, 1 for the answer's."""

    side: int
    category: str
    level: str | None
    score: float | None
    blocked: bool | None


class TextRow(NamedTuple):
    """A prompt message or (`answer`) a part of the answer, with the role it was written in."""

    role: str
    data: str
    answer: bool = False


@dataclass(slots=True)
class MeaningRow:
    """What an ended exchange meant, to be written in one transaction; None is unknown, never zero.

    Fields named like columns of `exchanges` are those; `outcome` is corrected by what was understood. `retrieves`: a
    copy of a response that another exchange made, or no generation at all. `billed_as`: under which name its tokens
    count instead of the response's id. `data` is the JSON of `meanings`; `price` the JSON of `prices`;
    `usage` the kinds without a column; `rate_limits` (kind, limit, remaining, reset_us).
    `bodiless`: the stored bodies go in the same transaction.
    """

    exchange: UUID
    interpreter: int
    outcome: Outcome | None
    failed: bool = False
    retrieves: bool = False
    bodiless: bool = False
    interpretation_error: str | None = None
    operation: str | None = None
    retry_count: int | None = None
    model_asked: str | None = None
    model_served: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    billed_as: str | None = None
    streaming: bool | None = None
    finish_reason: str | None = None
    finish_reason_norm: str | None = None
    service_tier: str | None = None
    terminated: bool | None = None
    first_event_us: int | None = None
    first_reasoning_us: int | None = None
    first_visible_us: int | None = None
    terminal_event_us: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    usage_state: str | None = None
    cost_pico: int | None = None
    cost_reported_pico: int | None = None
    cost_status: str | None = None
    price: str | None = None
    data: str | None = None
    usage_raw: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    rate_limits: Sequence[tuple[str, int | None, int | None, int | None]] = ()
    ratings: Sequence[RatingRow] = ()
    texts: Sequence[TextRow] = ()

    @property
    def carries_usage(self) -> bool:
        """Whether it tells what was used, so that a second copy of it must not count."""
        if self.usage_state in (None, "none", "missing"):
            return False
        counts = (self.input_tokens, self.output_tokens, self.total_tokens, self.cost_reported_pico)
        return bool(self.usage) or any(each is not None for each in counts)

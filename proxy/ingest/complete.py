"""What an exchange's end means: its outcome, and (once there are dialects) its interpretation. Pure."""

from __future__ import annotations

from proxy.exchange import Outcome, WireEnd
from proxy.store.rows import ExchangeRow

_OUTCOMES = {
    WireEnd.UPSTREAM_END: Outcome.COMPLETED,
    WireEnd.CLIENT_LEFT: Outcome.CLIENT_LEFT,
    WireEnd.UPSTREAM_ERROR: Outcome.UPSTREAM_FAILED,
    WireEnd.JOURNAL_ERROR: Outcome.INTERRUPTED,
    WireEnd.WORKER_DIED: Outcome.INTERRUPTED,
    WireEnd.REFUSED: Outcome.REFUSED,
}


def outcome(row: ExchangeRow) -> Outcome:
    """The one outcome of an ended exchange; it speaks of carriage only, an HTTP 429 that came through is completed."""
    assert row.wire_end is not None, "only ended exchanges have an outcome"
    return _OUTCOMES[row.wire_end]

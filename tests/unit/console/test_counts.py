"""The arithmetic that makes a loss show."""

from __future__ import annotations

import pytest

from proxy.console.counts import Counts, count
from proxy.console.facts import IngestFacts, JournalCounts

J = JournalCounts


@pytest.mark.parametrize(
    ("ingest", "workers", "expected"),
    [
        pytest.param(None, {}, Counts(0, 0, 0, 0), id="nothing yet"),
        pytest.param(None, {"a": 3, "b": 4}, Counts(7, 0, 7, 0), id="ingest has not spoken: all waits"),
        pytest.param(IngestFacts(ended=J(5, 5)), {}, Counts(5, 5, 0, 0), id="all stored, its worker gone"),
        pytest.param(IngestFacts(ended=J(4, 5)), {}, Counts(5, 4, 0, 1), id="a hole in an ended journal"),
        pytest.param(IngestFacts(journals={"a": J(2, 2)}), {"a": 3}, Counts(3, 2, 1, 0), id="one waits"),
        pytest.param(IngestFacts(journals={"a": J(3, 3)}), {"a": 2}, Counts(3, 3, 0, 0), id="forward spoke earlier"),
        pytest.param(IngestFacts(journals={"a": J(1, 3)}), {"a": 4}, Counts(4, 1, 1, 2), id="a hole, and one waits"),
        pytest.param(IngestFacts(journals={"a": J(2, 2)}), {}, Counts(2, 2, 0, 0), id="its worker said nothing"),
        pytest.param(
            IngestFacts(ended=J(10, 10), journals={"a": J(1, 1)}),
            {"a": 1, "b": 2},
            Counts(13, 11, 2, 0),
            id="a worker that ingest has not met yet",
        ),
        pytest.param(
            IngestFacts(ended=J(10, 10), over=("old",)),
            {"old": 10, "new": 1},
            Counts(11, 10, 1, 0),
            id="the status of a worker whose journal is complete does not count twice",
        ),
    ],
)
def test_count(ingest: IngestFacts | None, workers: dict[str, int], expected: Counts) -> None:
    assert count(ingest, workers) == expected


def test_more_stored_than_numbered_is_not_less_than_nothing() -> None:
    assert count(IngestFacts(ended=J(3, 2)), {}) == Counts(2, 3, 0, 0)

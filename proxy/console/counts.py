"""How many exchanges there are, and where: the arithmetic that makes a loss show. Pure; must not know files or HTTP.

Forward counts what it accepted, ingest what it stored and the highest ordinal of each journal; the two must meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.console.facts import IngestFacts


@dataclass(frozen=True, slots=True)
class Counts:
    """Exchanges. `missing` have an ordinal that ingest passed and never found."""

    accepted: int
    stored: int
    waiting: int
    missing: int


def count(ingest: IngestFacts | None, workers: Mapping[str, int]) -> Counts:
    """`workers`: what each forward worker says it accepted, by its id; `ingest` None: it has not spoken yet.

    A worker's own count and its journal's highest ordinal are one number, read at two times: the greater holds.
    """
    known = IngestFacts() if ingest is None else ingest
    accepted, stored = known.ended.highest, known.ended.stored
    missing = max(0, known.ended.highest - known.ended.stored)
    for worker, journal in known.journals.items():
        accepted += max(journal.highest, workers.get(worker, 0))
        stored += journal.stored
        missing += max(0, journal.highest - journal.stored)
    accepted += sum(said for worker, said in workers.items() if worker not in {*known.journals, *known.over})
    return Counts(accepted, stored, max(0, accepted - stored - missing), missing)

"""The metrics page for Prometheus, made from status files at each scrape. Must not know HTTP, and asks no database."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from proxy.console.counts import count
from proxy.console.facts import Forward, Picture, look

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# No reason for being turned away is written with a blank.
_FAILURES = "journal failures"
_WRITE = "journal write "  # and the bound of a bucket
_WRITE_NS = "journal write ns"


class Metrics:
    """The metrics of one home. What workers that are gone had counted stays in the sums: a counter never falls."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._last: dict[str, Counter[str]] = {}
        self._gone: Counter[str] = Counter()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """The text of a scrape."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing: to be registered is no reason to read files."""
        return []

    def collect(self) -> Iterator[Metric]:
        picture = look(self._home)
        yield from _exchanges(picture)
        yield from _journal(picture)
        with self._lock:
            totals = self._totals(picture.forwards)
        yield _write_times(totals)
        yield CounterMetricFamily(
            "wiretape_journal_failures", "Failed attempts to write the journal.", totals.pop(_FAILURES, 0)
        )
        refused = CounterMetricFamily(
            "wiretape_turned_away", "Requests refused before an exchange began.", labels=["reason"]
        )
        for reason, number in sorted(totals.items()):
            refused.add_metric([reason], number)
        yield refused

    def _totals(self, forwards: tuple[Forward, ...]) -> Counter[str]:
        now = {
            f"{item.status.pid} {item.facts.worker}": Counter(
                {
                    **item.facts.turned_away,
                    **{_WRITE + bound: number for bound, number in item.facts.journal_writes.items()},
                    _WRITE_NS: item.facts.journal_write_ns,
                    _FAILURES: item.facts.journal_failures,
                }
            )
            for item in forwards
        }
        for worker, counted in self._last.items():
            if worker not in now:
                self._gone += counted
        self._last = now
        totals = Counter(self._gone)
        for counted in now.values():
            totals.update(counted)
        return totals


def _write_times(totals: Counter[str]) -> Metric:
    """Takes what it is made of out of `totals`."""
    spent = totals.pop(_WRITE_NS, 0) / 1e9
    found = {name.removeprefix(_WRITE): totals.pop(name) for name in list(totals) if name.startswith(_WRITE)}
    counted = 0
    buckets = []
    for bound in sorted(found, key=float):
        counted += found[bound]
        buckets.append((bound, counted))
    if not buckets:
        buckets = [("+Inf", 0)]
    help_text = "How long writes to the journal took."
    return HistogramMetricFamily("wiretape_journal_write_seconds", help_text, buckets, sum_value=spent)


def _exchanges(picture: Picture) -> Iterator[Metric]:
    ingest = None if picture.ingest is None else picture.ingest.facts
    counts = count(ingest, {item.facts.worker: item.facts.accepted for item in picture.forwards})
    yield CounterMetricFamily("wiretape_exchanges_accepted", "Exchanges that forward began.", counts.accepted)
    yield CounterMetricFamily("wiretape_exchanges_stored", "Exchanges that are in the database.", counts.stored)
    yield GaugeMetricFamily("wiretape_exchanges_waiting", "Exchanges that wait in the journal.", counts.waiting)
    yield GaugeMetricFamily("wiretape_exchanges_missing", "Exchanges that the journal lost.", counts.missing)
    active = sum(item.facts.active for item in picture.forwards if item.status.alive)
    yield GaugeMetricFamily("wiretape_exchanges_active", "Exchanges under way.", active)


def _journal(picture: Picture) -> Iterator[Metric]:
    if picture.ingest is not None:
        facts = picture.ingest.facts
        lag_bytes, lag_seconds, damage = facts.lag_bytes, facts.lag_seconds, facts.damage
    else:
        lag_bytes = max((item.facts.waiting_bytes for item in picture.forwards), default=0)
        lag_seconds, damage = 0.0, 0
    yield GaugeMetricFamily("wiretape_journal_lag_bytes", "Bytes of the journal that are not stored yet.", lag_bytes)
    yield GaugeMetricFamily("wiretape_journal_lag_seconds", "How long the oldest of them has waited.", lag_seconds)
    unread = 0 if picture.ingest is None else picture.ingest.facts.unread
    yield GaugeMetricFamily("wiretape_exchanges_unread", "Stored exchanges that wait to be interpreted.", unread)
    yield CounterMetricFamily("wiretape_journal_damage", "Damaged places found in journals.", damage)
    storing = picture.storing
    up = storing is not None and storing.facts.database == "ok"
    yield GaugeMetricFamily("wiretape_database_up", "1 while ingest runs and reaches the database.", float(up))

"""Proves that wiretape recorded all that the load client sent, from its metrics and from its SQLite file.

Reads only what wiretape shows to anyone: /metrics on the console port and the database. Imports nothing of it.
"""

from __future__ import annotations

import http.client
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import WiretapeError
from tests.bench.load import Tally

_METRICS = {
    "accepted": "wiretape_exchanges_accepted_total",
    "stored": "wiretape_exchanges_stored_total",
    "waiting": "wiretape_exchanges_waiting",
    "missing": "wiretape_exchanges_missing",
    "unread": "wiretape_exchanges_unread",
}
_WRITES = "wiretape_journal_write_seconds_bucket"
_QUIET = 1.5  # seconds without any change after which the times of writes are all told; they come once a second
_PATIENCE = 30.0  # seconds without any change after which waiting ends
_POLL = 0.2
_REQUEST_SIDE, _RESPONSE_SIDE = 0, 1


@dataclass(frozen=True)
class Counts:
    """What the console says of exchanges."""

    accepted: int
    stored: int
    waiting: int
    missing: int
    unread: int = 0

    def all_stored(self, sent: int) -> bool:
        """Whether it is stored, and interpreted: that too is work of the phase that sent it."""
        return self.accepted == self.stored == sent and self.waiting == self.missing == self.unread == 0


@dataclass(frozen=True)
class Proof:
    """What was sent beside what was recorded; `faults()` is empty when they agree. Bytes are those of bodies."""

    sent: int
    counts: Counts
    rows: int
    request_bytes: tuple[int, int]
    response_bytes: tuple[int, int]

    def faults(self) -> list[str]:
        """One sentence for each thing that does not agree."""
        faults = []
        if not self.counts.all_stored(self.sent):
            faults.append(f"{self.sent} requests sent, but the console says {self.counts}")
        if self.rows != self.sent:
            faults.append(f"{self.sent} requests sent, but the database holds {self.rows} exchanges")
        for side, (sent, recorded) in (("request", self.request_bytes), ("response", self.response_bytes)):
            if sent != recorded:
                faults.append(f"{sent} bytes of {side} bodies were carried, but the database holds {recorded}")
        return faults

    def sentence(self) -> str:
        """The result for people, one line."""
        if faults := self.faults():
            return "recording NOT proven: " + "; ".join(faults)
        carried = (self.request_bytes[1] + self.response_bytes[1]) / 1e6
        return f"recording proven: {self.sent} sent = accepted = stored = rows; {carried:.1f} MB of bodies to the byte"


class Recorder:
    """A wiretape under load: what it has been sent so far, and what it says that it has stored."""

    def __init__(self, home: Path, console_port: int) -> None:
        self._database = home / "wiretape.db"
        self._console_port = console_port
        self._sent = self._request_bytes = self._response_bytes = 0

    def expect(self, tally: Tally) -> None:
        """Add what a phase has sent."""
        self._sent += tally.sent
        self._request_bytes += tally.request_bytes
        self._response_bytes += tally.response_bytes

    def settle(self) -> Counts:
        """Wait until all that was sent is stored or nothing moves any more; WiretapeError when there are no counts."""
        counts, changed = None, time.monotonic()
        while True:
            latest = self._read_counts()
            if latest is not None and latest.all_stored(self._sent):
                return latest
            if latest != counts:
                counts, changed = latest, time.monotonic()
            elif time.monotonic() - changed > _PATIENCE:
                break
            time.sleep(_POLL)
        if counts is None:
            names = ", ".join(_METRICS.values())
            raise WiretapeError(f"/metrics on the console port {self._console_port} does not give all of: {names}")
        return counts

    def prove(self) -> Proof:
        """Settle, then compare with the database once every exchange has ended there: what is counted as stored has its
        head in the database, its last chunks may be a moment behind."""
        counts = self.settle()
        deadline = time.monotonic() + _PATIENCE
        while (found := self._read_database())[0] and time.monotonic() < deadline:
            time.sleep(_POLL)
        _, rows, sides = found
        return Proof(
            sent=self._sent,
            counts=counts,
            rows=rows,
            request_bytes=(self._request_bytes, sides.get(_REQUEST_SIDE, 0)),
            response_bytes=(self._response_bytes, sides.get(_RESPONSE_SIDE, 0)),
        )

    def write_times(self) -> WriteTimes:
        """How long the writes to the journal have taken so far, once no more are told."""
        times, changed = self._read_write_times(), time.monotonic()
        while time.monotonic() - changed < _QUIET:
            time.sleep(_POLL)
            if (latest := self._read_write_times()) != times:
                times, changed = latest, time.monotonic()
        return times

    def _read_write_times(self) -> WriteTimes:
        return parse_write_times(self._read_metrics() or "")

    def _read_counts(self) -> Counts | None:
        text = self._read_metrics()
        return None if text is None else parse_counts(text)

    def _read_metrics(self) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._console_port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _read_database(self) -> tuple[int, int, dict[int, int]]:
        """The numbers of exchanges that have not ended and of all, and the bytes of their chunks by side."""
        try:
            with closing(sqlite3.connect(f"{self._database.as_uri()}?mode=ro", uri=True, timeout=10)) as database:
                query = "select count(*) - count(outcome), count(*) from exchanges"
                still_open, rows = database.execute(query).fetchone()
                sides = database.execute("select side, sum(length(data)) from chunks group by side").fetchall()
        except sqlite3.Error as error:
            raise WiretapeError(f"cannot count what {self._database} holds: {error}") from error
        return still_open, rows, dict(sides)


def parse_counts(metrics: str) -> Counts | None:
    """The counts in a Prometheus text, summed over labels; None unless all are there."""
    found: dict[str, int] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            for field, name in _METRICS.items():
                if sample.name == name:
                    found[field] = found.get(field, 0) + int(sample.value)
    return Counts(**found) if len(found) == len(_METRICS) else None


WriteTimes = dict[float, int]
"""Writes by the number of seconds that they took at most."""


def parse_write_times(metrics: str) -> WriteTimes:
    """The counts of each bucket, without those of the buckets before it."""
    found: dict[float, int] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == _WRITES:
                bound = float(sample.labels["le"])
                found[bound] = found.get(bound, 0) + int(sample.value)
    before = 0
    times = {}
    for bound in sorted(found):
        times[bound], before = found[bound] - before, found[bound]
    return times

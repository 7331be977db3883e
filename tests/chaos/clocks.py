"""A machine's clock is set forward and back while requests go on: each is stored once, in its order, and none is lost.

Forward and ingest see the same clock, as on one machine; the database server has its own.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.chaos import sites
from tests.chaos.ledger import Ledger
from tests.chaos.metered import Askers, Meter, check_answered, check_sums
from tests.chaos.sites import PostgresSite
from tests.chaos.traffic import PATIENCE
from tests.support.databases import Site
from tests.support.rawhttp import RawUpstream
from tests.support.running import ROOT, serving, wait_for

DAY = 86_400
ANSWERS = 12  # behind each change of the clock
_SHIM = Path(__file__).with_name("clock")
_NEVER_PACKED = "[retention]\npack_after = 'never'\n"


class Jump(NamedTuple):
    """The clock is so many days ahead from now on; `anew`: forward dies and begins again, and with it its ids."""

    days: float
    anew: bool = False


SMALL = (Jump(3), Jump(-5, anew=True), Jump(0))
"""What a clock does that is set by hand, or by a network that was away."""

ABSURD = (Jump(-36 * 365, anew=True), Jump(100), Jump(80 * 365, anew=True), Jump(0, anew=True))
"""A machine without a battery, and times for which nobody has made a partition."""


@dataclass(slots=True)
class Figures:
    """`strayed`: exchanges in the partition for times that have none."""

    exchanges: int = 0
    journals: int = 0
    strayed: int | None = None
    spent: dict[str, int] = field(default_factory=dict)


class Clock:
    """The clock of the processes that are started with `variables`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        self._path.write_bytes(bytes(8))
        paths = [str(_SHIM), str(ROOT), os.environ.get("PYTHONPATH", "")]
        self.variables = {"TEST_CLOCK": str(self._path), "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def set(self, days: float) -> None:
        with self._path.open("r+b", buffering=0) as file:  # in place: they have it in memory
            file.write(struct.pack("q", int(days * DAY * 1e9)))


def campaign(folder: Path, site: Site, jumps: Sequence[Jump], *, retention: str = "") -> Figures:
    """Let the clock jump, and ingest begin anew each time, so that retention looks at once; then judge.

    `retention` are lines of its section.
    """
    figures = Figures()
    clock = Clock(folder)
    with (
        RawUpstream(Meter(), deadline=PATIENCE) as upstream,
        serving(
            folder,
            *("--upstream", f"up={upstream.url}"),
            config=_NEVER_PACKED + retention,
            variables={**sites.told(site), **clock.variables},
        ) as wiretape,
    ):
        ledger = Ledger(wiretape.home, site)
        begun = time.time()
        answered = []
        for number, jump in enumerate((Jump(0), *jumps)):
            clock.set(jump.days)
            if jump.anew:
                wiretape.successor("forward", wiretape.kill("forward"))
            port = int(wiretape.url.rpartition(":")[2])
            with Askers(port, f"j{number}c", clients=2) as askers:
                wait_for(lambda: askers.done >= ANSWERS or askers.failures, "answers")
            answered += askers.answered
            ledger.wait_stored(len(answered))
            wiretape.successor("ingest", wiretape.kill("ingest"))
            _check_times(ledger, [each.id for each in askers.answered], begun, jump)
        ledger.wait_understood()
        # Not all of them are told of: what an ingest before this one brought to its end is, on Postgres, not its own.
        wait_for(lambda: wiretape.metrics()["wiretape_exchanges_waiting"] == 0, "all counts to agree")
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
        assert wiretape.stop() == 0
    ledger.check()
    check_answered(ledger, answered)
    figures.spent = check_sums(ledger, answered)
    figures.exchanges = ledger.count()
    assert figures.exchanges == len(answered)
    figures.journals = _check_order(ledger)
    if isinstance(site, PostgresSite):
        figures.strayed = ledger.one("SELECT count(*) FROM exchanges_default")
    return figures


def _check_times(ledger: Ledger, ids: list[str], begun: float, jump: Jump) -> None:
    """They are said to have begun when the clock said so."""
    started = dict(ledger.query("SELECT id, started_us FROM exchange_list"))
    for each in ids:
        at = started[each] / 1e6 - jump.days * DAY
        assert begun - 1 <= at <= time.time() + 1, f"{each} began {at - begun:.1f} s after all"


def _check_order(ledger: Ledger) -> int:
    """Within a worker ids never go back; how many workers there were."""
    rows = ledger.query("SELECT journal, ordinal, id FROM exchanges ORDER BY journal, ordinal")
    assert rows == sorted(rows, key=lambda row: (row[0], row[2]))
    return len({row[0] for row in rows})

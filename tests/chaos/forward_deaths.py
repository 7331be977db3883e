"""Forward workers are killed while streams run; what a client received must be stored, whatever died when."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.ledger import Ledger
from tests.chaos.sites import told
from tests.chaos.traffic import Crowd, Provider
from tests.support.databases import Site
from tests.support.rawhttp import RawUpstream
from tests.support.running import Running, alive, born, serving, wait_for


@dataclass(slots=True)
class Figures:
    """`kills` broke a stream each, at least; `exchanges` are all there were."""

    kills: int = 0
    exchanges: int = 0
    clients: dict[str, int] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)


def campaign(
    folder: Path,
    *,
    kills: int,
    workers: int = 4,
    streams: int = 6,
    uploads: int = 2,
    seed: int = 1,
    site: Site | None = None,
) -> Figures:
    """Kill a worker in the midst of streams, again and again. Raises AssertionError for a broken promise."""
    figures = Figures()
    chance = random.Random(seed)
    provider = Provider()
    with (
        RawUpstream(provider) as upstream,
        serving(
            folder, "--workers", str(workers), "--upstream", f"up={upstream.url}", variables=told(site)
        ) as wiretape,
    ):
        wait_for(lambda: len(wiretape.statuses("forward")) == workers, "all workers")
        port = int(wiretape.url.rpartition(":")[2])
        with Crowd(port, provider.finish.set, streams=streams, uploads=uploads) as crowd:
            while figures.kills < kills:
                figures.kills += _kill_one(wiretape, crowd, chance)
        wiretape.wait_stored(1)
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
        assert wiretape.stop() == 0
    ledger = Ledger(wiretape.home, site)
    ledger.check()
    figures.clients = ledger.check_heard(crowd.heard)
    ledger.check_uploads(provider.uploads, b"/up")
    figures.outcomes = ledger.outcomes()
    figures.exchanges = ledger.count()
    _check_ends(ledger, crowd, figures)
    return figures


def _kill_one(wiretape: Running, crowd: Crowd, chance: random.Random) -> bool:
    """Whether the worker that was killed had a stream to break."""
    streams = crowd.wait_flowing(chance.randint(1, 6))
    pids = wait_for(lambda: [status.pid for status in wiretape.statuses("forward")], "a worker")
    pid = min(pids)  # the oldest, as a rule: who dies young again and again is started later and later
    since = born(pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid, since), "the worker's end")
    crowd.wait_flowing(1)  # who was cut off has noticed it by then
    return any(each.over and not each.complete for each in streams)


def _check_ends(ledger: Ledger, crowd: Crowd, figures: Figures) -> None:
    """Who was cut off was cut off by a death, and is told as such; nothing else was."""
    assert set(figures.outcomes) <= {("completed", "upstream_end"), ("interrupted", "worker_died")}
    for heard in crowd.heard:
        if heard.id is not None and not heard.complete:
            assert ledger.exchange(heard.id)["wire_end"] == "worker_died"

"""Everything is killed at once under load and started again: what is promised of single deaths holds of this too."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.ledger import Ledger
from tests.chaos.sites import told
from tests.chaos.traffic import PATIENCE, Crowd, Heard, Provider
from tests.support.databases import Site
from tests.support.rawhttp import RawUpstream
from tests.support.running import Running, alive, serving, wait_for


@dataclass(slots=True)
class Figures:
    rounds: int = 0
    processes: int = 0
    exchanges: int = 0
    clients: dict[str, int] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)


def campaign(folder: Path, *, rounds: int, workers: int = 2, seed: int = 1, site: Site | None = None) -> Figures:
    """Kill all processes of a wiretape under load, `rounds` times, then judge what the next one stores."""
    figures = Figures()
    chance = random.Random(seed)
    heard: list[Heard] = []
    uploads: dict[bytes, bytearray] = {}
    for _ in range(rounds):
        provider = Provider()
        with (
            RawUpstream(provider, deadline=PATIENCE) as upstream,
            serving(
                folder, "--workers", str(workers), "--upstream", f"up={upstream.url}", variables=told(site)
            ) as wiretape,
        ):
            _await_workers(wiretape, workers)
            port = int(wiretape.url.rpartition(":")[2])
            with Crowd(port, provider.finish.set, streams=4, uploads=2, name=f"r{figures.rounds}") as crowd:
                crowd.wait_flowing(chance.randint(20, 100))
                figures.processes += kill_all(wiretape, chance)
                for caller in crowd.callers:
                    caller.stop()
            heard += crowd.heard
            uploads |= provider.uploads
            figures.rounds += 1
    with serving(folder, "--workers", str(workers), variables=told(site)) as wiretape:
        wiretape.wait_stored(1)
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
        assert wiretape.stop() == 0
    ledger = Ledger(wiretape.home, site)
    ledger.check()
    figures.clients = ledger.check_heard(heard)
    ledger.check_uploads(uploads, b"/up")
    figures.outcomes = ledger.outcomes()
    figures.exchanges = ledger.count()
    assert set(figures.outcomes) <= {("completed", "upstream_end"), ("interrupted", "worker_died")}
    assert not list((wiretape.home / "journal").iterdir())
    return figures


def _await_workers(wiretape: Running, workers: int) -> None:
    wait_for(lambda: len(wiretape.statuses("forward")) == workers, "all workers")


def kill_all(wiretape: Running, chance: random.Random) -> int:
    """In no certain order, without a pause; how many there were."""
    family = wiretape.family()
    pids = sorted(family)
    chance.shuffle(pids)
    for pid in pids:
        with suppress(ProcessLookupError):  # whose parent's death was enough for it
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(*each) for each in family.items()), "the end of all")
    return len(pids)

"""The server dies in the midst of a COPY while ingest stores a backlog: each record is stored once, none is missing.

Commits that the server had not yet written down go with it; the position that they moved must go with them.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos import ingest_deaths, sites
from tests.chaos.copying import Catcher
from tests.chaos.ingest_deaths import WAITING, Backlog
from tests.chaos.sites import PostgresSite
from tests.support.forked import forkserver
from tests.support.running import alive, born, wait_for

PATIENCE = 120.0


@dataclass(slots=True)
class Figures:
    """`deaths` of the server, all of them in the midst of a COPY; `records` that were stored."""

    deaths: int = 0
    records: int = 0


def backend_dies(site: PostgresSite, pid: int) -> None:
    """One process of the server is killed: it ends all connections then, and recovers."""
    since = born(pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid, since), "the end of a process")
    wait_for(lambda: _lets_in(site), "the server to recover")


def crashes(site: PostgresSite, pid: int) -> None:
    sites.crash(site.server)
    site.server.start()


def is_killed(site: PostgresSite, pid: int) -> None:
    sites.kill(site.server)
    site.server.start()


Way = Callable[[PostgresSite, int], None]
WAYS: tuple[Way, ...] = (backend_dies, crashes, is_killed)


def _lets_in(site: PostgresSite) -> bool:
    with suppress(psycopg.OperationalError):
        return bool(site.server.query("postgres", "SELECT 1"))
    return False


def campaign(home: Path, site: PostgresSite, *, deaths: int, seed: int = 1) -> Figures:
    """Let the server die so many times. Raises AssertionError for a broken promise."""
    figures = Figures()
    chance = random.Random(seed)
    backlog = Backlog(home, site)
    context = forkserver(ingest_deaths.__name__)
    with ingest_deaths.ingesting(context, backlog) as process:
        while figures.deaths < deaths:
            while backlog.waiting < WAITING:
                backlog.add()
            if _dies_once(site, backlog, chance.choice(WAYS)):
                figures.deaths += 1
        wait_for(lambda: not backlog.waiting, "the backlog to be stored", PATIENCE)
        os.kill(process.pid or 0, signal.SIGTERM)
        process.join(PATIENCE)
        assert process.exitcode == 0, (home / "ingest.err").read_text()
    figures.records = ingest_deaths.judge(backlog)
    return figures


def _dies_once(site: PostgresSite, backlog: Backlog, way: Way) -> bool:
    """False where all was stored before a COPY was seen."""
    with Catcher(site) as catcher:
        pid = catcher.caught(lambda: not backlog.waiting)
        if pid is None:
            return False
        way(site, pid)
        return True

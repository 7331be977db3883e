"""Runs the long form of the campaigns, on both databases: `make chaos`, `make chaos ARGS="ingest --rounds 500"`,
`make chaos ARGS="soak --seconds 3600 --database postgres"`; figures to stdout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import (
    away,
    clocks,
    forward_deaths,
    full,
    hardships,
    ingest_deaths,
    nodes,
    server_deaths,
    sites,
    soak,
    whole_deaths,
)
from tests.chaos.sites import PostgresSite
from tests.support.databases import KINDS, Site


@dataclass(frozen=True, slots=True)
class Asked:
    """How long a campaign is to be, and what repeats its choices."""

    rounds: int
    seconds: float
    seed: int


Campaign = Callable[[Path, Site, Asked], object]
"""From an empty folder and an empty database to figures. Raises AssertionError for a broken promise."""


def _forward(folder: Path, site: Site, asked: Asked) -> object:
    return forward_deaths.campaign(folder, kills=asked.rounds, seed=asked.seed, site=site)


def _ingest(folder: Path, site: Site, asked: Asked) -> object:
    home = folder / "home"
    return ingest_deaths.campaign(home, kills=asked.rounds, inside=asked.rounds // 5, seed=asked.seed, site=site)


def _whole(folder: Path, site: Site, asked: Asked) -> object:
    return whole_deaths.campaign(folder, rounds=max(1, asked.rounds // 10), seed=asked.seed, site=site)


def _locked(folder: Path, site: Site, asked: Asked) -> object:
    return hardships.campaign(folder, site, hardships.locked(1000 * asked.rounds), seed=asked.seed)


def _renamed(folder: Path, site: Site, asked: Asked) -> object:
    return away.campaign(folder, away.renamed, records=1000 * asked.rounds, site=site)


def _renamed_with_its_log(folder: Path, site: Site, asked: Asked) -> object:
    return away.campaign(folder, away.renamed_with_its_log, records=1000 * asked.rounds, site=site)


def _let_nobody_in(folder: Path, site: Site, asked: Asked) -> object:
    assert isinstance(site, PostgresSite)
    return away.campaign(folder, lambda _: site.closed(), records=1000 * asked.rounds, site=site)


def _no_room(folder: Path, site: Site, asked: Asked) -> object:
    with hardships.small_site(site.kind) as (small, place):
        return hardships.campaign(folder, small, hardships.no_room(place, 50 * asked.rounds), seed=asked.seed)


def _stopped(folder: Path, site: Site, asked: Asked) -> object:
    return hardships.campaign(folder, site, hardships.stopped(500 * asked.rounds), seed=asked.seed)


def _restarted(folder: Path, site: Site, asked: Asked) -> object:
    return hardships.campaign(folder, site, hardships.restarted(max(1, asked.rounds // 20)), seed=asked.seed)


def _killed_in_copy(folder: Path, site: Site, asked: Asked) -> object:
    return hardships.campaign(folder, site, hardships.killed_in_copy(max(1, asked.rounds // 20)), seed=asked.seed)


def _server(folder: Path, site: Site, asked: Asked) -> object:
    assert isinstance(site, PostgresSite)
    return server_deaths.campaign(folder / "home", site, deaths=asked.rounds // 4, seed=asked.seed)


def _nodes(folder: Path, site: Site, asked: Asked) -> object:
    assert isinstance(site, PostgresSite)
    return nodes.campaign(folder, site, deaths=max(1, asked.rounds // 20), seed=asked.seed)


def _clock(folder: Path, site: Site, asked: Asked) -> object:
    return clocks.campaign(folder, site, clocks.SMALL, retention="exchanges = '30d'")


def _absurd_clock(folder: Path, site: Site, asked: Asked) -> object:
    return clocks.campaign(folder, site, clocks.ABSURD)


def _max_journal(folder: Path, site: Site, asked: Asked) -> object:
    return full.refusing(folder, lambda _: site.locked(), "record.max_journal = '1MiB'", site)


def _file_size(folder: Path, site: Site, asked: Asked) -> object:
    return full.refusing(folder, full.files_end_here, site=site)


def _journal_disk(folder: Path, site: Site, asked: Asked) -> object:
    with full.small_disk(folder / "home" / "journal", 1024 * 1024):
        return full.refusing(folder, lambda _: site.locked(), site=site)


def _pass(folder: Path, site: Site, asked: Asked) -> object:
    return full.passing(folder, 10 * asked.rounds, site, lambda _: site.locked())


def _soak(folder: Path, site: Site, asked: Asked) -> object:
    return soak.campaign(folder, seconds=asked.seconds, seed=asked.seed, site=site)


CAMPAIGNS: dict[str, tuple[Campaign, ...]] = {
    "forward": (_forward,),
    "ingest": (_ingest,),
    "whole": (_whole,),
    "away": (_locked, _no_room),
    "away-sqlite": (_renamed, _renamed_with_its_log),
    "away-postgres": (_let_nobody_in, _stopped, _restarted, _killed_in_copy),
    "server-postgres": (_server,),
    "nodes-postgres": (_nodes,),
    "clock": (_clock, _absurd_clock),
    "full": (_max_journal, _file_size, _journal_disk, _pass),
    "soak": (_soak,),
}
"""By name; what is one database's own ends with the name of that."""


def _carry_out(campaign: Campaign, kind: str, asked: Asked) -> None:
    """Run one in a folder of its own, and write its figures down."""
    sys.stdout.write(f"{campaign.__name__.strip('_')} on {kind}: {asked}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="wiretape-chaos-") as folder, sites.site(kind, Path(folder)) as site:
        begun = time.monotonic()
        try:
            figures = campaign(Path(folder), site, asked)
        except pytest.skip.Exception as skipped:
            figures = skipped
        sys.stdout.write(f"  {time.monotonic() - begun:.0f} s  {figures}\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…", description=__doc__)
    parser.add_argument("campaign", nargs="*", help=f"any of {', '.join(CAMPAIGNS)}; without one, all of them")
    parser.add_argument("--database", choices=KINDS, help="the only one to run them on; else both")
    parser.add_argument("--rounds", type=int, default=200, help="kills, or thousands of records; a part for some")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the soak's traffic; an hour for a long look")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats a campaign's choices")
    chosen = parser.parse_args()
    if unknown := set(chosen.campaign) - set(CAMPAIGNS):
        parser.error(f"no campaign is named {', '.join(sorted(unknown))}")
    asked = Asked(chosen.rounds, chosen.seconds, chosen.seed)
    for name in chosen.campaign or CAMPAIGNS:
        own = name.rpartition("-")[2]
        for kind in [chosen.database] if chosen.database else KINDS:
            for campaign in CAMPAIGNS[name] if own not in KINDS or own == kind else ():
                _carry_out(campaign, kind, asked)


if __name__ == "__main__":
    main()

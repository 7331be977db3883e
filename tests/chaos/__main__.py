"""Runs the long form of the campaigns: `make chaos`, `make chaos ARGS="ingest --rounds 500"`, `make chaos ARGS="soak
--seconds 3600"`; figures to stdout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import away, forward_deaths, full, ingest_deaths, soak, whole_deaths


@dataclass(frozen=True, slots=True)
class Asked:
    """How long a campaign is to be, and what repeats its choices."""

    rounds: int
    seconds: float
    seed: int


Campaign = Callable[[Path, Asked], object]
"""From an empty folder to figures. Raises AssertionError for a broken promise."""

_FULL: dict[str, tuple[full.Limit, str]] = {
    "max_journal": (full.never_stored, "record.max_journal = '1MiB'"),
    "file size": (full.files_end_here, ""),
    "disk": (full.never_stored, ""),
}


def _forward(folder: Path, asked: Asked) -> object:
    return forward_deaths.campaign(folder, kills=asked.rounds, seed=asked.seed)


def _ingest(folder: Path, asked: Asked) -> object:
    return ingest_deaths.campaign(folder, kills=asked.rounds, inside=asked.rounds // 5, seed=asked.seed)


def _whole(folder: Path, asked: Asked) -> object:
    return whole_deaths.campaign(folder, rounds=max(1, asked.rounds // 10), seed=asked.seed)


def _away(folder: Path, asked: Asked) -> object:
    figures = []
    for number, how in enumerate((away.locked, away.renamed, away.renamed_with_its_log)):
        place = folder / str(number)
        place.mkdir()
        figures.append(away.campaign(place, how, records=1000 * asked.rounds))
    return figures


def _full(folder: Path, asked: Asked) -> object:
    figures = {}
    for name, (limit, config) in _FULL.items():
        place = folder / name
        place.mkdir()
        try:
            with full.small_disk(place / "home" / "journal", 1024 * 1024) if name == "disk" else nullcontext():
                figures[name] = full.refusing(place, limit, config)
        except pytest.skip.Exception as skipped:
            sys.stdout.write(f"{skipped}\n")
    (folder / "pass").mkdir()
    figures["pass"] = full.passing(folder / "pass", 10 * asked.rounds)
    return figures


def _soak(folder: Path, asked: Asked) -> object:
    return soak.campaign(folder, seconds=asked.seconds, seed=asked.seed)


CAMPAIGNS: dict[str, Campaign] = {
    "forward": _forward,
    "ingest": _ingest,
    "whole": _whole,
    "away": _away,
    "full": _full,
    "soak": _soak,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…", description=__doc__)
    parser.add_argument("campaign", nargs="*", help=f"any of {', '.join(CAMPAIGNS)}; without one, all of them")
    parser.add_argument("--rounds", type=int, default=200, help="kills, or thousands of records; a tenth for `whole`")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the soak's traffic; an hour for a long look")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats a campaign's choices")
    chosen = parser.parse_args()
    if unknown := set(chosen.campaign) - set(CAMPAIGNS):
        parser.error(f"no campaign is named {', '.join(sorted(unknown))}")
    asked = Asked(chosen.rounds, chosen.seconds, chosen.seed)
    for name in chosen.campaign or CAMPAIGNS:
        sys.stdout.write(f"{name}: {asked}\n")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory(prefix="wiretape-chaos-") as folder:
            begun = time.monotonic()
            figures = CAMPAIGNS[name](Path(folder), asked)
            sys.stdout.write(f"  {time.monotonic() - begun:.0f} s  {figures}\n")


if __name__ == "__main__":
    main()

"""What befalls a database while requests go on: they succeed, forward holds no more than before, all is stored once.

Each hardship is a function that lets something happen to the database of a Scene, and ends when the database works.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos import sites
from tests.chaos.copying import Catcher
from tests.chaos.full import small_disk
from tests.chaos.ledger import Ledger
from tests.chaos.memory import watched
from tests.chaos.metered import Askers, Meter, check_answered, check_sums
from tests.chaos.server_deaths import WAYS
from tests.chaos.sites import PostgresSite
from tests.chaos.traffic import PACE, PATIENCE, Crowd
from tests.support.databases import SQLITE, Site, SqliteDatabase
from tests.support.rawhttp import RawUpstream
from tests.support.running import Running, serving, wait_for

WARM = 200  # answers before forward's memory is looked at
GENTLE = 0.03  # seconds between two requests of a client, where others need the machine too
SMALL = 96 << 20  # bytes of a database's file system
LONG = 600.0  # seconds for the whole of a long backlog


@dataclass(slots=True)
class Figures:
    """`waited`: the most records that were written while the database was away; `deaths` of the server.

    `catching_up`: seconds from the end of the hardship until all was stored and understood.
    """

    waited: int = 0
    deaths: int = 0
    exchanges: int = 0
    records: int = 0
    seconds: float = 0.0
    catching_up: float = 0.0
    resident_kib: tuple[int, int] = (0, 0)
    spent: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Scene:
    """A wiretape under load, and the database it stores into."""

    wiretape: Running
    site: Site
    askers: Askers
    figures: Figures
    chance: random.Random

    @property
    def postgres(self) -> PostgresSite:
        assert isinstance(self.site, PostgresSite)
        return self.site

    def written(self) -> int:
        """Records that forward has written, as of a second ago."""
        return sum(int(status.facts["journal_records"]) for status in self.wiretape.statuses("forward"))

    def stored(self) -> int:
        """How far the journals are stored, in bytes."""
        found = self.site.query('SELECT CAST(coalesce(sum("offset" + 67108864 * segment), 0) AS BIGINT) FROM journals')
        return int(found[0][0])

    def wait_written(self, records: int) -> None:
        """Until so many records more are written; they wait, as the database is away."""
        begun = self.written()
        wait_for(lambda: self.written() - begun >= records or self.askers.failures, f"{records} records", LONG)
        self.askers.check()
        self.figures.waited = max(self.figures.waited, self.written() - begun)

    def wait_answered(self, more: int) -> None:
        goal = self.askers.done + more
        wait_for(lambda: self.askers.done >= goal or self.askers.failures, f"{more} answers", PATIENCE)
        self.askers.check()

    def wait_progress(self) -> None:
        """Until more is stored than is now."""
        before = self.stored()
        wait_for(lambda: self.stored() > before or self.askers.failures, "progress", PATIENCE)
        self.askers.check()


Hardship = Callable[[Scene], None]


def locked(records: int) -> Hardship:
    """Somebody holds a lock while so many records wait."""

    def suffer(scene: Scene) -> None:
        with scene.site.locked():
            scene.wait_written(records)

    return suffer


def stopped(records: int) -> Hardship:
    """The server is stopped until so many records wait."""

    def suffer(scene: Scene) -> None:
        sites.shut_down(scene.postgres.server)
        scene.figures.deaths += 1
        scene.wait_written(records)
        scene.postgres.server.start()

    return suffer


def restarted(times: int) -> Hardship:
    """The server ends in one way after the other, and comes back when some more was recorded."""

    def suffer(scene: Scene) -> None:
        server = scene.postgres.server
        for _, end in zip(range(times), cycle((sites.shut_down, sites.crash, sites.kill)), strict=False):
            scene.wait_progress()
            end(server)
            scene.figures.deaths += 1
            scene.wait_answered(scene.chance.randint(0, 200))
            server.start()
        scene.wait_progress()

    return suffer


def killed_in_copy(times: int) -> Hardship:
    """A process of the server, or all of it, dies in the midst of a COPY."""

    def suffer(scene: Scene) -> None:
        for _, die in zip(range(times), cycle(WAYS), strict=False):
            scene.wait_progress()
            with Catcher(scene.postgres) as catcher:
                pid = catcher.caught()
                assert pid is not None
                die(scene.postgres, pid)
            scene.figures.deaths += 1
        scene.wait_progress()
        log = (scene.postgres.server.folder / "log").read_text(errors="replace")
        assert log.count("Failed process was running: COPY") == (times + 2) // 3, log[-5000:]

    return suffer


def no_room(place: Path, records: int) -> Hardship:
    """Something else takes all the room of the database's file system while so many records are written."""

    def suffer(scene: Scene) -> None:
        with filled(place):
            wait_for(lambda: _problem(scene.wiretape) or scene.askers.failures, "ingest to notice", PATIENCE)
            scene.wait_written(records)
        wait_for(lambda: not _problem(scene.wiretape), "ingest to have room again", PATIENCE)

    return suffer


@contextmanager
def small_site(kind: str) -> Iterator[tuple[Site, Path]]:
    """A database on a file system of its own, and where that is. Skips where none is to be had."""
    with TemporaryDirectory(prefix="wiretape-small-") as folder:
        place = Path(folder) / "disk"
        with small_disk(place, SMALL):
            if kind == SQLITE:
                yield SqliteDatabase(place / "wiretape.db"), place
                return
            # The server is not the user that all of this belongs to.
            Path(folder).chmod(0o711)
            place.chmod(0o711)
            inside = place / "tables"
            inside.mkdir()
            if os.geteuid() == 0:
                shutil.chown(inside, "nobody")
            with sites.postgres_site(inside) as made:
                yield made, place


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """A file system without room."""
    path = place / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    yield
    path.unlink()


def _problem(wiretape: Running) -> bool:
    return any(status.facts["database"] != "ok" for status in wiretape.statuses("ingest"))


def campaign(folder: Path, site: Site, hardship: Hardship, *, pace: float = PACE, seed: int = 1) -> Figures:
    """Let it happen under load, then judge. Raises AssertionError for a broken promise."""
    figures = Figures()
    begun = time.monotonic()
    provider = Meter()
    with (
        RawUpstream(provider, deadline=PATIENCE) as upstream,
        serving(folder, "--upstream", f"up={upstream.url}", variables=sites.told(site)) as wiretape,
    ):
        port = int(wiretape.url.rpartition(":")[2])
        forward = wiretape.pid("forward")
        with Crowd(port, provider.finish.set, streams=2, uploads=1) as crowd, Askers(port, "a", pace=pace) as askers:
            crowd.wait_flowing()
            wait_for(lambda: askers.done >= WARM or askers.failures, "the first answers")
            with watched([forward]) as resident:
                hardship(Scene(wiretape, site, askers, figures, random.Random(seed)))
            crowd.wait_flowing()
        ended = time.monotonic()
        expected = askers.done + len(crowd.heard)
        wiretape.wait_stored(expected, LONG)
        figures.catching_up = time.monotonic() - ended
        assert wiretape.pid("forward") == forward, "forward has died"
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
        figures.records = sum(status.facts["journal_records"] for status in wiretape.statuses("forward"))
        assert wiretape.stop() == 0
    figures.resident_kib = (resident.begun, resident.most)
    resident.check_flat()
    ledger = Ledger(wiretape.home, site)
    _judge(ledger, crowd, askers, provider, figures)
    assert figures.exchanges == expected
    figures.seconds = time.monotonic() - begun
    return figures


def _judge(ledger: Ledger, crowd: Crowd, askers: Askers, provider: Meter, figures: Figures) -> None:
    """No request has failed, each is stored once and whole, and what was spent is the sum of what the clients got."""
    ledger.check()
    assert ledger.check_heard(crowd.heard) == {"complete": len(crowd.heard), "cut": 0, "refused": 0, "nothing": 0}
    uploads = {target: body for target, body in provider.uploads.items() if target.startswith(b"/upload")}
    ledger.check_uploads(uploads, b"/up")
    check_answered(ledger, askers.answered)
    figures.spent = check_sums(ledger, askers.answered)
    figures.exchanges = ledger.count()
    assert ledger.outcomes() == {("completed", "upstream_end"): figures.exchanges}

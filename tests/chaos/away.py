"""The database is locked, or its file is elsewhere, while requests go on: they succeed, and all is stored later."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.ledger import REQUEST, RESPONSE, Ledger
from tests.chaos.sites import told
from tests.chaos.traffic import PACE, PATIENCE, Clients, Provider
from tests.support.databases import Site
from tests.support.rawhttp import RawUpstream, connect
from tests.support.running import Running, serving, wait_for

ANSWER = b'{"answer": "' + b"word " * 40 + b'"}'
CLIENTS = 3


@dataclass(slots=True)
class Figures:
    """`waited` are the records that were written while the database was away, `lags` what the metrics said of them."""

    waited: int
    lags: list[tuple[float, float]]
    exchanges: int = 0


class Requests(Clients):
    """Clients that send one request after the other on connections of their own; each must be answered with 200."""

    def __init__(self, port: int, answer: bytes, clients: int = CLIENTS) -> None:
        super().__init__(clients, self._ask)
        self._answer = answer
        self._counts = [0] * clients
        self._port = port

    @property
    def done(self) -> int:
        """Requests that were answered."""
        return sum(self._counts)

    def _ask(self, client: int) -> None:
        with connect(self._port, deadline=PATIENCE) as peer:
            while not self.stop.is_set():
                body = b'{"client": %d, "number": %d}' % (client, self._counts[client])
                head = b"POST /up/once HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
                answer = peer.send(head % len(body), body).read_message()
                assert (answer.status, answer.body) == (200, self._answer), answer
                self._counts[client] += 1
                self.stop.wait(PACE)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    with closing(sqlite3.connect(home / "wiretape.db", timeout=10, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def renamed(home: Path, endings: tuple[str, ...] = ("",)) -> Iterator[None]:
    """The file under another name, in the same folder; nothing is added to it there, and none is made in its place."""
    here, there = home / "wiretape.db", home / "elsewhere.db"
    held = _content(here)
    for ending in endings:
        Path(f"{here}{ending}").rename(f"{there}{ending}")
    yield
    assert not here.exists()
    assert _content(there) == held
    for ending in endings:
        if Path(f"{there}{ending}").exists():
            Path(f"{there}{ending}").rename(f"{here}{ending}")


def _content(path: Path) -> list[str]:
    """Every row of every table, as text."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return list(database.iterdump())


def renamed_with_its_log(home: Path) -> AbstractContextManager[None]:
    return renamed(home, ("", "-wal", "-shm"))


Away = Callable[[Path], AbstractContextManager[None]]


def campaign(folder: Path, away: Away, *, records: int, site: Site | None = None) -> Figures:
    """Let `records` records wait until the database is back, then judge what was stored."""
    with (
        RawUpstream(Provider(ANSWER), deadline=PATIENCE) as upstream,
        serving(folder, "--upstream", f"up={upstream.url}", variables=told(site)) as wiretape,
    ):
        port = int(wiretape.url.rpartition(":")[2])
        with Requests(port, ANSWER) as requests:
            wait_for(lambda: requests.done >= 20 or requests.failures, "the first answers")
        Ledger(wiretape.home, site).wait_stored(requests.done)
        wait_for(lambda: _told(wiretape, "accepted") == requests.done, "forward's word, which is a second old")
        begun = _written(wiretape)
        with away(wiretape.home):
            with Requests(port, ANSWER) as more:
                lags = _watch(wiretape, lambda: _written(wiretape) - begun >= records or bool(more.failures))
            figures = Figures(_written(wiretape) - begun, lags)
            assert wiretape.client.get(f"{wiretape.url}/-/ready").status_code == 200
            wait_for(
                lambda: wiretape.client.get(f"{wiretape.console}/-/ready").status_code == 503, "the console's word"
            )
        wiretape.wait_stored(requests.done + more.done, PATIENCE)
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
        assert wiretape.stop() == 0
    figures.exchanges = requests.done + more.done
    ledger = Ledger(wiretape.home, site)
    ledger.check()
    assert ledger.outcomes() == {("completed", "upstream_end"): figures.exchanges}
    sides = dict(ledger.query("SELECT side, count(*) FROM chunks GROUP BY 1"))
    assert sides == {REQUEST: figures.exchanges, RESPONSE: figures.exchanges}
    return figures


def _written(wiretape: Running) -> int:
    """Records that forward has written, as of a second ago."""
    return _told(wiretape, "journal_records")


def _told(wiretape: Running, fact: str) -> int:
    return sum(status.facts[fact] for status in wiretape.statuses("forward"))


def _watch(wiretape: Running, enough: Callable[[], bool]) -> list[tuple[float, float]]:
    """What the metrics say of the lag, in bytes and seconds, from its first growth until `enough`; at least twice."""
    lags: list[tuple[float, float]] = []

    def grown() -> bool:
        metrics = wiretape.metrics()
        lag = (metrics["wiretape_journal_lag_bytes"], metrics["wiretape_journal_lag_seconds"])
        if lag > (lags[-1] if lags else (0.0, 0.0)):
            lags.append(lag)
        return enough() and len(lags) >= 2

    wait_for(grown, "a growing lag", PATIENCE)
    return lags

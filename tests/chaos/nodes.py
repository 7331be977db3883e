"""Several nodes, each with a home of its own, store into one Postgres; one of them dies and comes back under load.

Every exchange of every node is stored once, what is spent is the sum of all, and no node has anything to complain of.
"""

from __future__ import annotations

import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from proxy.exchange import Origin
from proxy.journal.writer import JournalWriter
from tests.chaos import sites
from tests.chaos.ledger import Ledger
from tests.chaos.metered import Answered, Askers, Meter, check_answered, check_sums
from tests.chaos.sites import PostgresSite
from tests.chaos.traffic import PATIENCE, Crowd, Heard
from tests.chaos.whole_deaths import kill_all
from tests.support import journals
from tests.support.rawhttp import RawUpstream
from tests.support.running import Running, serving, wait_for

LONG = 300.0
OLD = 60  # exchanges that retention takes out
_DAY_US = 86_400 * 10**6
_KEY = {"WIRETAPE_FINGERPRINT_KEY": "0123456789abcdef" * 4}
_KEPT = "[retention]\nexchanges = '400d'\npack_after = {}\n"
_COMPLAINT = re.compile(r" (?:warning|error) (?!supervise: |ingest: the previous ingest died)")
_FAULTS = re.compile("deadlock|duplicate key|violates")


@dataclass(slots=True)
class Figures:
    """`unsure`: requests that were cut off by the death of their node. `packed`: chunks, by all nodes at once."""

    deaths: int = 0
    exchanges: int = 0
    answered: list[int] = field(default_factory=list)
    unsure: int = 0
    pruned: int = 0
    packed: int = 0
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)


class Node:
    """One machine. `strict`: none of its requests may fail; else it is the one that dies."""

    def __init__(
        self,
        folder: Path,
        site: PostgresSite,
        provider: Meter,
        upstream: str,
        *,
        pace: float,
        workers: int = 1,
        strict: bool = True,
    ) -> None:
        self.folder = folder
        folder.mkdir()
        self.strict = strict
        self.heard: list[Heard] = []
        self.answered: list[Answered] = []
        self.unsure = 0
        self.running: list[Running] = []
        self._provider = provider
        self._upstream = upstream
        self._variables = {**sites.told(site), **_KEY}
        self._port = 0
        self._workers = workers
        self._pace = pace

    def serving(self) -> AbstractContextManager[Running]:
        return serving(
            self.folder,
            *("--workers", str(self._workers), "--upstream", f"up={self._upstream}"),
            config=_KEPT.format("'never'"),
            ports={"forward": self._port},
            variables=self._variables,
        )

    def ingesting(self, pack_after: str = "'never'") -> AbstractContextManager[Running]:
        """One more ingest on the same home."""
        return serving(self.folder, command="ingest", config=_KEPT.format(pack_after), variables=self._variables)

    def up(self, wiretape: Running) -> None:
        """It has begun; from now on it has this port, also when it is started again."""
        self.running.append(wiretape)
        wait_for(lambda: len(wiretape.statuses("forward")) == self._workers, "all workers", LONG)
        self._port = int(wiretape.url.rpartition(":")[2])

    def load(self, stack: ExitStack) -> tuple[Askers, Crowd]:
        name = self.folder.name
        crowd = stack.enter_context(
            Crowd(self._port, self._provider.finish.set, streams=1, uploads=1 - self.strict, name=name)
        )
        askers = stack.enter_context(Askers(self._port, name, clients=2, strict=self.strict, pace=self._pace))
        stack.callback(self._note, askers, crowd)
        return askers, crowd

    def _note(self, askers: Askers, crowd: Crowd) -> None:
        self.heard, self.answered, self.unsure = crowd.heard, askers.answered, askers.unsure

    @property
    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("wiretape-*.err")))


def campaign(
    folder: Path,
    site: PostgresSite,
    *,
    deaths: int,
    answers: int = 100,
    pack: bool = True,
    pace: float = 0.02,
    seed: int = 1,
) -> Figures:
    """A node that dies, one with several ingests, and another; `answers` of each go by before each death, and `pack` is
    what all nodes do at once in the end. `pace`: seconds between a client's requests."""
    figures = Figures()
    chance = random.Random(seed)
    provider = Meter()
    with RawUpstream(provider, deadline=PATIENCE) as upstream:
        nodes = [
            Node(folder / "dies", site, provider, upstream.url, strict=False, pace=pace),
            Node(folder / "shared", site, provider, upstream.url, workers=2, pace=pace),
            Node(folder / "other", site, provider, upstream.url, pace=pace),
        ]
        old = _store_old(nodes[1], site)
        with ExitStack() as stack:
            _start(stack, nodes)
            more = [stack.enter_context(nodes[1].ingesting()) for _ in range(2)]
            with ExitStack() as load:
                loads = [node.load(load) for node in nodes]
                for _ in range(deaths):
                    _wait_answers([askers for askers, _ in loads], answers)
                    kill_all(nodes[0].running[-1], chance)
                    nodes[0].up(stack.enter_context(nodes[0].serving()))
                    figures.deaths += 1
                more[0].kill("ingest")
                _wait_answers([askers for askers, _ in loads], answers)
            ledger = Ledger(nodes[0].running[-1].home, site)
            _stop(nodes, ledger)
            more[0].process.wait()
            assert more[1].stop() == 0
        _judge(nodes, ledger, old, figures)
        figures.packed = _pack(nodes, ledger) if pack else 0
    return figures


def _start(stack: ExitStack, nodes: list[Node]) -> None:
    """All at once: each finds the same work to do."""
    with ThreadPoolExecutor(len(nodes)) as threads:
        started = list(threads.map(lambda node: stack.enter_context(node.serving()), nodes))
    for node, wiretape in zip(nodes, started, strict=True):
        node.up(wiretape)


def _wait_answers(askers: list[Askers], more: int) -> None:
    goals = [each.done + more for each in askers]

    def enough() -> bool:
        return all(each.done >= goal or each.failures for each, goal in zip(askers, goals, strict=True))

    wait_for(enough, f"{more} answers of each node", LONG)
    for each in askers:
        each.check()


def _store_old(node: Node, site: PostgresSite) -> bytes:
    """Exchanges that are older than they may be and that nobody was charged for; the id of the worker of all."""
    began = time.time_ns() // 1000 - 500 * _DAY_US
    worker = journals.worker(1)
    home = node.folder / "home"
    home.mkdir(mode=0o700)
    writer = JournalWriter(home / "journal", node="old", worker=worker, fsync_every=None)
    for number in range(1, OLD + 1):
        key = UUID(int=(began // 1000 + number) << 80 | 0x7 << 76 | 0x2 << 62 | number).hex.encode()
        entries = journals.exchange(number, started_us=began, origin=int(Origin.PLAYBACK))
        journals.append(writer, [entry._replace(exchange=key) for entry in entries])
    writer.close()
    with serving(node.folder, command="ingest", config="", variables=node._variables) as ingest:
        Ledger(ingest.home, site).wait_stored(OLD)
        assert ingest.stop() == 0
    return worker.bytes


def _stop(nodes: list[Node], ledger: Ledger) -> None:
    """Once all is stored that was asked of each, and nothing is missing anywhere."""
    for node in nodes:
        wiretape = node.running[-1]
        wiretape.wait_stored(1, LONG)
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
    ledger.wait_understood(LONG)
    for node in nodes:
        assert node.running[-1].stop() == 0


def _judge(nodes: list[Node], ledger: Ledger, old: bytes, figures: Figures) -> None:
    ledger.check(pruned=[old])
    for node in nodes:
        counts = ledger.check_heard(node.heard)
        if node.strict:
            assert counts == {"complete": len(node.heard), "cut": 0, "refused": 0, "nothing": 0}
    figures.answered = [len(node.answered) for node in nodes]
    figures.unsure = sum(node.unsure for node in nodes)
    check_answered(ledger, [each for node in nodes for each in node.answered])
    figures.spent = check_sums(ledger)
    figures.outcomes = ledger.outcomes()
    figures.exchanges = ledger.count()
    assert set(figures.outcomes) <= {("completed", "upstream_end"), ("interrupted", "worker_died")}
    _check_logs(nodes, ledger)
    told = [line for node in nodes for line in node.log.splitlines() if " retention: " in line]
    assert len(told) == 1, told
    assert f"exchanges of {OLD} exchanges taken out" in told[0]
    figures.pruned = OLD


def _check_logs(nodes: list[Node], ledger: Ledger) -> None:
    """Nobody has met what it could not do, nor has the server."""
    for node in nodes:
        complaints = [line for line in node.log.splitlines() if _COMPLAINT.search(line)]
        assert not complaints, complaints
        assert "Traceback" not in node.log
    site = ledger.site
    assert isinstance(site, PostgresSite)
    found = [
        line for line in (site.server.folder / "log").read_text(errors="replace").splitlines() if _FAULTS.search(line)
    ]
    assert not found, found


def _pack(nodes: list[Node], ledger: Ledger) -> int:
    """Let all nodes pack what is there at once; how many chunks that were, each of which is in a tape then."""
    before = ledger.one("SELECT count(*), CAST(sum(length(data)) AS BIGINT) FROM chunks")
    with ExitStack() as stack:
        with ThreadPoolExecutor(len(nodes)) as threads:
            started = list(threads.map(lambda node: stack.enter_context(node.ingesting("'1s'")), nodes))
        wait_for(lambda: ledger.one("SELECT count(*) FROM chunks") == 0, "all chunks to be packed", LONG)
        for ingest in started:
            assert ingest.stop() == 0
    assert ledger.one("SELECT CAST(sum(chunks) AS BIGINT), CAST(sum(bytes) AS BIGINT) FROM tapes") == before
    _check_logs(nodes, ledger)
    return int(before[0])

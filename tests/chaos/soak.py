"""Mixed traffic for as long as is wanted: nothing is lost or changed, and what forward holds does not grow.

The time is cut into rounds. Behind each the traffic rests, and all that it was is compared with what is stored; then
what forward holds is measured.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.measure import resident_kib
from tests.chaos.ledger import REQUEST, RESPONSE, Ledger
from tests.chaos.mix import Met, Plan, Way, draw
from tests.chaos.mixed_clients import Client, fault
from tests.chaos.mixed_upstream import MixedUpstream
from tests.chaos.sites import told
from tests.support.databases import Site
from tests.support.running import Running, serving, wait_for

CLIENTS = 12
ROUND = 30.0  # seconds
LEAST = 20  # exchanges of each client, however slow the machine; with them a seed has some of everything
MEMORY_KIB = 6 * 1024
"""How much more forward may hold in the end than behind the first third. Its memory of header lines alone (4096 of each
kind, which this traffic fills) comes to one and a half MiB, and a run of seconds is not warm after its first third (3.4
MiB were seen); a kibibyte kept of each exchange shows all the same within a minute or two.
"""
DESCRIPTORS = 1
"""How many more than before all traffic may be open while it rests: the journal's live segment."""


@dataclass(frozen=True, slots=True)
class Held:
    """What forward holds while nothing is under way; `exchanges` are those until then."""

    exchanges: int
    resident_kib: int
    descriptors: int


@dataclass(slots=True)
class Figures:
    exchanges: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)


def campaign(
    folder: Path, *, seconds: float, clients: int = CLIENTS, seed: int = 1, site: Site | None = None
) -> Figures:
    """Raises AssertionError for a broken promise."""
    with closing(socket.socket()) as dead:
        dead.bind(("127.0.0.1", 0))  # and never listens
        return asyncio.run(_campaign(folder, seconds, clients, seed, dead.getsockname()[1], site))


async def _campaign(folder: Path, seconds: float, clients: int, seed: int, dead: int, site: Site | None) -> Figures:
    rounds = max(3, round(seconds / ROUND))
    async with MixedUpstream() as upstream:
        addresses = {"up": upstream.port, "dead": dead}
        options = [f"--upstream={name}=http://127.0.0.1:{port}" for name, port in addresses.items()]
        with serving(folder, *options, variables=told(site)) as wiretape:
            soak = _Soak(wiretape, upstream, clients, seed, Ledger(wiretape.home, site))
            for _ in range(rounds):
                await soak.round(seconds / rounds)
                soak.judge()
            assert wiretape.pid("forward") == soak.forward, "forward has died"
            assert wiretape.stop() == 0
            assert "internal error" not in wiretape.log, wiretape.log
    soak.ledger.check()
    soak.figures.outcomes = soak.ledger.outcomes()
    _check_flat(soak.figures.held)
    return soak.figures


def _check_flat(held: list[Held]) -> None:
    """The first third is for warming up: caches fill, and the heap comes to the size that the traffic needs."""
    warm, end = held[len(held) // 3 - 1], held[-1]
    assert end.resident_kib - warm.resident_kib <= MEMORY_KIB, f"forward grows: {held}"


class _Soak:
    def __init__(self, wiretape: Running, upstream: MixedUpstream, clients: int, seed: int, ledger: Ledger) -> None:
        self.figures = Figures()
        self.ledger = ledger
        self.forward = wiretape.pid("forward")
        self._wiretape = wiretape
        self._upstream = upstream
        port = int(wiretape.url.rpartition(":")[2])
        self._callers = [
            _Caller(Client(port), upstream, f"{seed:x}-{number}", random.Random(f"{seed} {number}"))
            for number in range(clients)
        ]
        self._last = bytes(16)  # the exchange that was judged last
        self._unused = self._descriptors()

    async def round(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*[caller.call(until) for caller in self._callers])
        await self._upstream.close_all()

    def judge(self) -> None:
        """Compare what this round has met with what is stored, measure, and forget it."""
        mets, self._upstream.met = self._upstream.met, {}
        exchanges = [met for met in mets.values() if met.plan.outcome is not None]
        self.figures.exchanges += len(exchanges)
        self.figures.ways.update(met.plan.way.value for met in exchanges)
        self.figures.left.update(met.plan.leave.value for met in mets.values() if met.plan.leave is not None)
        faults = [f"{found}: {met.plan}" for met in exchanges if (found := fault(met)) is not None]
        faults += self._upstream.faults
        assert not faults, "\n".join(faults)
        self._wait_idle()
        self._wiretape.wait_stored(self.figures.exchanges)
        self.ledger.wait_stored(self.figures.exchanges)
        metrics = self._wiretape.metrics()
        assert metrics["wiretape_exchanges_accepted_total"] == self.figures.exchanges
        assert metrics["wiretape_exchanges_missing"] == 0
        self._check_stored(exchanges)
        self._measure()

    def _check_stored(self, exchanges: list[Met]) -> None:
        """Each once, with the outcome that it must have, and all that its client and its upstream got."""
        columns = "exchange_id, id, target, outcome, wire_end, request_out_hash, response_out_hash"
        rows = self.ledger.query(f"SELECT {columns} FROM exchange_list WHERE exchange_id > ? ORDER BY 1", self._last)  # noqa: S608 - the constants above
        bodies: dict[tuple[bytes, int], bytearray] = {}
        chunks = "SELECT exchange_id, side, data FROM chunks WHERE exchange_id > ? ORDER BY exchange_id, seq"
        for exchange, side, data in self.ledger.query(chunks, self._last):
            bodies.setdefault((exchange, side), bytearray()).extend(data)
        targets = [row[2] for row in rows]
        planned = [_target(met.plan) for met in exchanges]
        assert sorted(targets) == sorted(planned), set(targets) ^ set(planned)
        by_target = {_target(met.plan): met for met in exchanges}
        for exchange, *facts in rows:
            stored = [bytes(bodies.get((exchange, side), b"")) for side in (REQUEST, RESPONSE)]
            found = _difference(by_target[facts[1]], facts, *stored)
            assert found is None, f"{found}: {by_target[facts[1]].plan}, stored as {facts}"
        self._last = rows[-1][0]

    def _wait_idle(self) -> None:
        """Until forward says that nothing is under way any more."""
        now = time.time()

        def idle() -> bool:
            (status,) = self._wiretape.statuses("forward")
            return status.written > now and status.facts["active"] == 0

        wait_for(idle, "no exchange to be under way any more")

    def _measure(self) -> None:
        most = self._unused + DESCRIPTORS
        wait_for(lambda: self._descriptors() <= most, f"forward to have {most} descriptors at most")
        resident = resident_kib([self.forward])
        self.figures.held.append(Held(self.figures.exchanges, resident, self._descriptors()))

    def _descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.forward}/fd").iterdir()))


class _Caller:
    """A client that goes on with one plan after the other, as its seed says."""

    def __init__(self, client: Client, upstream: MixedUpstream, name: str, chance: random.Random) -> None:
        self._client = client
        self._upstream = upstream
        self._name = name
        self._chance = chance
        self._count = 0

    async def call(self, until: float) -> None:
        while time.monotonic() < until or self._count < LEAST:
            self._count += 1
            plan = draw(self._chance, f"{self._name}-{self._count}")
            met = self._upstream.met[plan.token] = Met(plan)
            try:
                await self._client.carry_out(met)
            except Exception as error:
                error.add_note(f"{plan}: status {met.status}, {len(met.body)} bytes")
                raise
        self._client.close()


def _target(plan: Plan) -> str:
    return f"/{'dead' if plan.way is Way.DEAD else 'up'}{plan.target.decode()}"


def _difference(met: Met, facts: list[Any], request: bytes, response: bytes) -> str | None:
    """What is wrong with what is stored of an exchange."""
    plan = met.plan
    id_, _, *outcome, request_out, response_out = facts
    if tuple(outcome) != plan.outcome:
        return f"the outcome is not {plan.outcome}"
    if met.id not in (None, id_):
        return "another exchange's id"
    if plan.way is Way.TUNNEL:
        if not plan.begins_with(request) or not request.startswith(met.body):
            return "what was stored of the client is not what it sent"
    elif not plan.uploaded.startswith(request) or not request.startswith(met.upload):
        return "the stored request is not what was sent and what arrived"
    if met.status == 502:
        return None if not response else "nothing came, but something is stored"
    if not plan.begins_with(response) or not response.startswith(met.body):
        return "the stored response is not what was sent and what arrived"
    if met.complete and (response != met.body or (request_out, response_out) != (None, None)):
        return "the stored response is longer than what arrived whole"
    return None

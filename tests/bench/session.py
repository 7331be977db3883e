"""Runs the phases against each target in turn and turns what was counted into figures.

Must not know how targets are started, nor how figures are shown.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import uvloop

from proxy.errors import WiretapeError
from tests.bench.disk import Busy, busy
from tests.bench.load import Phase, Tally, run_load
from tests.bench.measure import cpu_between, cpu_times, peak_resident_kib, resident_kib
from tests.bench.proof import WriteTimes
from tests.bench.targets import Target

PHASES = (
    Phase("ns1", 2, 1),  # one client: latency
    Phase("ns32", 4, 32),  # plain answers, as many as it takes
    Phase("paced10", 4, 10, chunks=100, pause_ms=20),  # 500 chunks/s offered
    Phase("paced50", 6, 50, chunks=150, pause_ms=20),  # 2,500 chunks/s offered
    Phase("burst20", 4, 20, chunks=500),  # as fast as they go
    Phase("hold", 0, 1000, chunks=4, pause_ms=1500, once=True),  # memory of an open stream
    Phase("ns1_after_hold", 2, 1),  # do a thousand connections, now idle, make a request dearer?
)
QUICK_PHASES = (
    Phase("ns1", 0.3, 1),
    Phase("ns32", 0.5, 32),
    Phase("paced10", 0.4, 10, chunks=20, pause_ms=20),
    Phase("paced50", 0.4, 50, chunks=20, pause_ms=20),
    Phase("burst20", 0.3, 20, chunks=100),
    Phase("hold", 0, 200, chunks=4, pause_ms=250, once=True),
    Phase("ns1_after_hold", 0.2, 1),
)
WARM_UP = (Phase("warm_up", 0.2, 4), Phase("warm_up_stream", 0.1, 4, chunks=10, pause_ms=1))
# A heap that has grown hides what a stream adds to it: these run once, on targets started afresh.
FRESH = frozenset({"hold", "ns1_after_hold"})
MEMORY = "memory"
DISK = "paced50_disk"
DISTURBED = "paced50"

Figures = dict[str, float]


@dataclass
class Results:
    """`runs`: target → one entry for each repetition: phase → figures. `problems`: a sentence each."""

    runs: dict[str, list[dict[str, Figures]]] = field(default_factory=dict)
    requests: int = 0
    perfect: int = 0
    problems: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)

    def add(self, target: Target, phase: Phase, tally: Tally) -> None:
        """Count a phase; whatever was not perfect becomes a problem."""
        self.requests += tally.sent
        self.perfect += tally.perfect
        if tally.perfect != tally.sent:
            errors = "; ".join(f"{count} x {error}" for error, count in tally.errors.most_common(3))
            self.problems.append(
                f"{target.name}, {phase.name}: of {tally.sent} requests {tally.failed} failed and {tally.imperfect} "
                f"came back changed: {errors}"
            )


def with_disk(phases: Sequence[Phase]) -> list[Phase]:
    """The phases, and one of them again with a busy disk, right behind itself."""
    changed: list[Phase] = []
    for phase in phases:
        if phase.name == DISTURBED:
            changed += [replace(phase, writes=True), replace(phase, name=DISK, writes=True, disk=True)]
        else:
            changed.append(phase)
    return changed


def run_session(
    targets: Sequence[Target], phases: Sequence[Phase], repetitions: int, settle: bool, results: Results
) -> None:
    """Every target in turn, `repetitions` times; then the proof. `settle`: let ingest finish after each phase."""
    for target in targets:
        for phase in WARM_UP:
            measure(target, phase, settle, results)
    for _ in range(repetitions):
        for target in targets:
            figures = {phase.name: measure(target, phase, settle, results) for phase in phases}
            results.runs.setdefault(target.name, []).append(figures)
    for target in targets:
        if not FRESH.issuperset(phase.name for phase in phases):
            peaks = {role: peak_resident_kib(pids) / 1024 for role, pids in target.roles().items()}
            peak_figures = {_of_role("peak_rss_mib", role, target): peak for role, peak in peaks.items()}
            results.runs[target.name][-1][MEMORY] = peak_figures
        if target.recorder:
            proof = target.recorder.prove()
            results.proofs.append(proof.sentence())
            results.problems += proof.faults()


def measure(target: Target, phase: Phase, settle: bool, results: Results) -> Figures:
    """Run one phase. Raises WiretapeError when a measured process ended meanwhile: its figures would be wrong."""
    roles = target.roles()
    before = {role: cpu_times(pids) for role, pids in roles.items()}
    resident = {role: resident_kib(pids) for role, pids in roles.items()}
    most = dict(resident)

    def watch_memory() -> None:
        for role, pids in roles.items():
            most[role] = max(most[role], resident_kib(pids))

    written = target.recorder.write_times() if target.recorder and phase.writes else {}
    with busy(target.log.parent) if phase.disk else nullcontext(Busy()) as disk:
        own_cpu = time.process_time()
        tally = uvloop.run(run_load(target.base_url, phase, watch_memory if phase.once else None))
        own_cpu = time.process_time() - own_cpu
    roles_after = target.roles()
    after = {role: cpu_times(pids) for role, pids in roles_after.items()}
    for role, pids in roles.items():
        if role != "all" and set(pids) != set(roles_after[role]):
            raise WiretapeError(f"{target.name}: process {role} ended during {phase.name}; see why before you measure")
    results.add(target, phase, tally)
    spent = {role: cpu_between(before[role], after[role]) for role in roles}
    figures = _figures(phase, tally) | {"client_cpu_share": own_cpu / tally.seconds}
    if phase.disk:
        figures["disk_mb_per_s"] = disk.mb_per_s
    if target.recorder:
        if phase.writes:
            figures |= write_figures(written, target.recorder.write_times())
        target.recorder.expect(tally)
        if settle:
            figures["settle_s"] = _settle(target, after, spent)
    units = max(1, tally.chunks if phase.chunks else tally.perfect)
    for role, seconds in spent.items():
        figures[_of_role(f"cpu_us_per_{phase.unit}", role, target)] = seconds / units * 1e6
        if phase.once:
            figures[_of_role("kib_per_stream", role, target)] = (most[role] - resident[role]) / phase.connections
            figures[_of_role("rss_mib", role, target)] = most[role] / 1024
    return figures


def _settle(target: Target, after: Mapping[str, Mapping[int, float]], spent: dict[str, float]) -> float:
    """Let ingest finish and add the CPU of that to `spent`, not that of the console, which is asked meanwhile."""
    start = time.monotonic()
    assert target.recorder is not None
    target.recorder.settle()
    late = cpu_between(after["ingest"], cpu_times(target.roles()["ingest"]))
    spent["ingest"] += late
    spent["all"] += late
    return time.monotonic() - start


def _of_role(name: str, role: str, target: Target) -> str:
    """The figure of the role that stands for the target has the plain name."""
    return name if role == next(iter(target.roles())) else f"{role}_{name}"


def _figures(phase: Phase, tally: Tally) -> Figures:
    figures: Figures = {
        "requests": tally.sent,
        "perfect": tally.perfect,
        "failed": tally.failed,
        "requests_per_s": tally.perfect / tally.seconds,
        "p50_ms": percentile_ms(tally.delays, 0.5),
        "p99_ms": percentile_ms(tally.delays, 0.99),
    }
    if phase.chunks:
        figures |= {
            "chunks": tally.chunks,
            "chunks_per_s": tally.chunks / tally.seconds,
            "chunks_per_read": tally.chunks / max(1, tally.reads),
            "first_p50_ms": percentile_ms(tally.first_delays, 0.5),
            "first_p99_ms": percentile_ms(tally.first_delays, 0.99),
        }
    return figures


def percentile_ms(delays: array[int], share: float) -> float:
    """The delay (ns in, ms out) that `share` of all delays do not exceed; 0 when there are none."""
    if not delays:
        return 0.0
    ordered = sorted(delays)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e6


def write_figures(before: WriteTimes, after: WriteTimes) -> Figures:
    """Of the writes between: how many, and what half, 99 % and all of them did not take longer than (ms; a power of two
    of some µs). Infinite where that is beyond the last bound."""
    times = {bound: count - before.get(bound, 0) for bound, count in sorted(after.items())}
    total = sum(times.values())
    figures: Figures = {"journal_writes": total}
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        seen = 0
        for bound, count in times.items():
            seen += count
            if total and seen >= total * share:
                figures[f"journal_write_{name}_ms"] = bound * 1000
                break
    return figures

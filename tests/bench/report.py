"""Medians, ratios, the table and the JSON file. Must not know how a figure was measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxy import __version__
from tests.bench.session import DISK, MEMORY, Figures, Results

_REQUEST_ROWS = (
    ("cpu_us_per_request", "CPU µs/request"),
    ("ingest_cpu_us_per_request", "· ingest"),
    ("all_cpu_us_per_request", "· all processes"),
    ("requests_per_s", "requests/s"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
)
_CHUNK_ROWS = (
    ("cpu_us_per_chunk", "CPU µs/chunk"),
    ("ingest_cpu_us_per_chunk", "· ingest"),
    ("all_cpu_us_per_chunk", "· all processes"),
    ("p50_ms", "chunk p50 ms"),
    ("p99_ms", "chunk p99 ms"),
)
_WRITE_ROWS = (
    ("disk_mb_per_s", "others' writes MB/s"),
    ("journal_write_p50_ms", "journal write p50 ≤ ms"),
    ("journal_write_p99_ms", "journal write p99 ≤ ms"),
    ("journal_write_max_ms", "journal write max ≤ ms"),
)
_ROWS = {
    "ns1": _REQUEST_ROWS,
    "ns32": _REQUEST_ROWS,
    "paced10": _CHUNK_ROWS,
    "paced50": (*_CHUNK_ROWS, *_WRITE_ROWS),
    DISK: (*_CHUNK_ROWS, *_WRITE_ROWS),
    "burst20": (*_CHUNK_ROWS, ("chunks_per_s", "chunks/s"), ("chunks_per_read", "chunks/read")),
    "hold": (
        ("kib_per_stream", "KiB/held stream"),
        ("all_kib_per_stream", "· all processes"),
        ("rss_mib", "RSS MiB"),
        ("first_p99_ms", "first chunk p99 ms"),
    ),
    "ns1_after_hold": (("cpu_us_per_request", "CPU µs/request"), ("p99_ms", "p99 ms")),
    MEMORY: (("peak_rss_mib", "peak RSS MiB"), ("all_peak_rss_mib", "· all processes")),
}

Medians = dict[str, dict[str, Figures]]


def medians(results: Results) -> Medians:
    """target → phase → figure: the median over the repetitions in which the phase ran."""
    found: Medians = {}
    for target, runs in results.runs.items():
        for phase in dict.fromkeys(phase for run in runs for phase in run):
            of_phase = [run[phase] for run in runs if phase in run]
            names = dict.fromkeys(name for figures in of_phase for name in figures)
            found.setdefault(target, {})[phase] = {
                name: statistics.median(figures[name] for figures in of_phase if name in figures) for name in names
            }
    return found


def table(median: Medians) -> str:
    """Markdown: a row for each figure, a column for each target, then the last target's ratio to each other one."""
    targets = list(median)
    if not targets:
        return "Nothing was measured."
    others = targets[-2::-1]
    head = ["phase", "figure", *targets, *(f"{targets[-1]}/{other}" for other in others)]
    lines = [head, ["---", "---", *("---:" for _ in head[2:])]]
    for phase, rows in _ROWS.items():
        for name, label in rows:
            values = [median[target].get(phase, {}).get(name) for target in targets]
            if any(value is not None for value in values):
                # The parts of wiretape have no counterpart; all of it is compared with the whole of the others.
                plain = name.removeprefix("all_")
                ratios = [_ratio(values[-1], median[other].get(phase, {}).get(plain)) for other in others]
                lines.append([phase, label, *map(_number, values), *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine_facts(nginx: Path | None) -> dict[str, str]:
    """What the figures depend on: cores, processor, kernel, versions, load."""
    facts = {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("uvloop", "httptools", "uvicorn")},
        "wiretape": __version__,
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    if nginx:
        answer = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr
        facts["nginx"] = answer.strip().rpartition("/")[2]
    return facts


def write_json(path: Path, results: Results, facts: Mapping[str, str], options: Mapping[str, object]) -> None:
    """Every figure of every repetition, the medians, and what they depend on."""
    whole = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": facts,
        "options": options,
        "requests": results.requests,
        "perfect": results.perfect,
        "problems": results.problems,
        "proofs": results.proofs,
        "median": medians(results),
        "runs": results.runs,
    }
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def full_text(results: Results, facts: Mapping[str, str], remarks: Sequence[str]) -> str:
    """What is printed at the end."""
    perfect = f"byte-perfect: {results.perfect} of {results.requests} requests"
    return "\n".join(
        [
            table(medians(results)),
            "",
            ", ".join(f"{name} {value}" for name, value in facts.items()),
            *remarks,
            perfect,
            *results.proofs,
            *(f"PROBLEM: {problem}" for problem in results.problems),
        ]
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace(",", " ")


def _ratio(value: float | None, reference: float | None) -> str:
    return "-" if value is None or not reference else f"{value / reference:.2f}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())

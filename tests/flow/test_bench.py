"""The benchmark measures what it says, and notices what it must: a changed byte, a broken stream, a missing record."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.bench.__main__ import main
from tests.bench.disk import SIZE, busy, file_system
from tests.bench.load import Phase, Tally, run_load
from tests.bench.measure import cpu_between, cpu_times, peak_resident_kib, process_tree, resident_kib
from tests.bench.proof import Counts, Proof, parse_counts, parse_write_times
from tests.bench.session import QUICK_PHASES, percentile_ms, write_figures
from tests.bench.targets import NGINX
from tests.bench.upstream import STAMP, Upstream
from tests.conftest import needs

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.bench", "--quick", "--reps", "1"]
DEADLINE = 120  # seconds; a quick run takes less than 25 on an idle machine

PLAIN = Phase("plain", 0, 3, once=True)
STREAM = Phase("stream", 0, 3, chunks=30, pause_ms=0.1, once=True)


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)


def read_json(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(path.read_text()))


def test_direct_and_nginx_are_byte_perfect(tmp_path: Path) -> None:
    needs(str(NGINX))
    run = bench("--no-serve", "--json", str(tmp_path / "bench.json"))
    assert run.returncode == 0, run.stdout + run.stderr
    whole = read_json(tmp_path / "bench.json")
    assert whole["perfect"] == whole["requests"] > 0
    assert list(whole["median"]) == ["direct", "nginx"]
    for phases in whole["median"].values():
        assert phases["ns32"]["cpu_us_per_request"] > 0
        assert phases["paced50"]["cpu_us_per_chunk"] > 0
        assert phases["hold"]["requests"] == next(each.connections for each in QUICK_PHASES if each.name == "hold")
    assert "| nginx/direct |" in run.stdout


def test_wiretape_is_byte_perfect_and_has_recorded_everything(tmp_path: Path) -> None:
    run = bench("--no-nginx", "--disk", "--json", str(tmp_path / "bench.json"))
    assert run.returncode == 0, run.stdout + run.stderr
    whole = read_json(tmp_path / "bench.json")
    assert whole["perfect"] == whole["requests"] > 0
    assert whole["proofs"]
    disturbed = whole["median"]["wiretape"]["paced50_disk"]
    assert disturbed["disk_mb_per_s"] > 0
    assert disturbed["journal_writes"] >= disturbed["requests"]
    assert all(sentence.startswith("recording proven: ") for sentence in whole["proofs"])
    assert whole["median"]["wiretape"]["paced50"]["cpu_us_per_chunk"] > 0


def test_it_stops_what_it_started_when_it_is_stopped() -> None:
    command = [*COMMAND, "--no-serve", "--no-nginx"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as harness:
        deadline = time.monotonic() + DEADLINE
        while not (children := process_tree(harness.pid)[1:]):
            assert harness.poll() is None
            assert time.monotonic() < deadline
        harness.send_signal(signal.SIGTERM)
        assert harness.wait(DEADLINE) == 128 + signal.SIGINT
    while any(process_tree(pid) for pid in children):  # at the latest the kernel ends them with their parent
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--phases", "ns1,nothing"], "no phase 'nothing'"),
        (["--phases", "ns1_after_hold"], "means nothing without hold"),
        (["--reps", "0"], "at least 1"),
        (["--phases", "ns1", "--disk"], "paced50 must be among the phases"),
    ],
)
def test_it_refuses_what_makes_no_sense(options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--quick", *options])
    assert refused.value.code == 2
    assert complaint in capsys.readouterr().err


# What the upstream's writes become: it is given the transport and the bytes.
Change = Callable[[asyncio.Transport, bytes], None]


class Changing:
    """A transport whose writes go through a change."""

    def __init__(self, transport: asyncio.Transport, change: Change) -> None:
        self._transport, self._change = transport, change

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._change(self._transport, data)


def load_through(change: Change, phase: Phase) -> Tally:
    """Run a phase against an upstream whose writes are changed."""

    class Changed(Upstream):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._transport = cast("asyncio.Transport", Changing(self._transport, change))

    async def run() -> Tally:
        server = await asyncio.get_running_loop().create_server(Changed, "127.0.0.1", 0)
        async with server:
            return await run_load(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/prefix", phase)

    return asyncio.run(run())


def unchanged(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(data)


def cut_everywhere(transport: asyncio.Transport, data: bytes) -> None:
    for start in range(0, len(data), 7):
        transport.write(data[start : start + 7])


def with_another_letter(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(data.replace(b"word", b"ward").replace(b"plain words", b"plain wards", 1))


def with_a_time_that_is_none(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(STAMP.sub(b"sent " + b"x" * 19, data))


def without_one_event(transport: asyncio.Transport, data: bytes) -> None:
    if b"word 00007" not in data:
        transport.write(data)


def with_bytes_behind(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(data + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def broken_off(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(data[: len(data) // 2])
    transport.close()


def with_an_error(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(data.replace(b"200 OK", b"502 Bad Gateway"))


def as_something_else(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(data.replace(b"HTTP/1.1 200", b"220 ready"))


@pytest.mark.parametrize("phase", [PLAIN, STREAM], ids=lambda phase: phase.name)
@pytest.mark.parametrize("change", [unchanged, cut_everywhere])
def test_what_comes_as_it_was_sent_is_perfect(change: Change, phase: Phase) -> None:
    tally = load_through(change, phase)
    assert (tally.sent, tally.perfect, tally.failed) == (phase.connections, phase.connections, 0)
    assert tally.chunks == phase.connections * phase.chunks
    assert len(tally.delays) == (tally.chunks or tally.sent)
    assert min(tally.delays) > 0


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        (with_another_letter, PLAIN),
        (with_another_letter, STREAM),
        (with_a_time_that_is_none, STREAM),
        (without_one_event, STREAM),
        (with_bytes_behind, PLAIN),
    ],
)
def test_a_body_that_was_changed_is_imperfect(change: Change, phase: Phase) -> None:
    tally = load_through(change, phase)
    assert (tally.perfect, tally.failed, tally.imperfect) == (0, 0, phase.connections)


@pytest.mark.parametrize("phase", [PLAIN, STREAM], ids=lambda phase: phase.name)
@pytest.mark.parametrize("change", [broken_off, with_an_error, as_something_else])
def test_an_answer_that_broke_has_failed(change: Change, phase: Phase) -> None:
    tally = load_through(change, phase)
    assert (tally.perfect, tally.failed) == (0, phase.connections)
    assert sum(tally.errors.values()) == phase.connections


def test_a_target_that_does_not_listen_has_failed() -> None:
    tally = asyncio.run(run_load("http://127.0.0.1:1", PLAIN))
    assert (tally.sent, tally.failed) == (3, 3)


def test_cpu_and_memory_are_those_of_the_process() -> None:
    pid = os.getpid()
    low = time.process_time()
    times = cpu_times([pid])
    high = time.process_time()
    assert low <= times[pid] <= high
    assert cpu_between({pid: times[pid] - 1, -1: 5}, {**times, 0: 2}) == pytest.approx(3)
    assert 0 < resident_kib([pid]) <= peak_resident_kib([pid])


def test_a_process_that_has_ended_is_left_out() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in process_tree(os.getpid())
    assert child.pid not in process_tree(os.getpid())
    assert process_tree(child.pid) == []
    assert cpu_times([child.pid]) == {}
    assert resident_kib([child.pid]) == 0


def test_percentiles_are_in_milliseconds() -> None:
    delays = array("q", [n * 1_000_000 for n in range(100, 0, -1)])
    assert [percentile_ms(delays, share) for share in (0.5, 0.99, 1)] == [51, 100, 100]
    assert percentile_ms(array("q"), 0.5) == 0


METRICS = """
# TYPE wiretape_exchanges_accepted counter
wiretape_exchanges_accepted_total{worker="a"} 3.0
wiretape_exchanges_accepted_total{worker="b"} 4.0
# TYPE wiretape_exchanges_stored counter
wiretape_exchanges_stored_total 7.0
wiretape_exchanges_waiting 0.0
wiretape_exchanges_unread 2.0
"""


def test_counts_are_summed_over_labels_and_all_there_or_none() -> None:
    assert parse_counts(METRICS) is None
    assert parse_counts(METRICS + "wiretape_exchanges_missing 1.0\n") == Counts(7, 7, 0, 1, 2)


HISTOGRAM = """
# TYPE wiretape_journal_write_seconds histogram
wiretape_journal_write_seconds_bucket{le="0.001"} 90.0
wiretape_journal_write_seconds_bucket{le="0.002"} 99.0
wiretape_journal_write_seconds_bucket{le="+Inf"} 100.0
wiretape_journal_write_seconds_count 100.0
wiretape_journal_write_seconds_sum 0.1
"""


def test_the_times_of_writes_are_those_between() -> None:
    after = parse_write_times(HISTOGRAM)
    assert after == {0.001: 90, 0.002: 9, float("inf"): 1}
    assert parse_write_times("") == {}
    figures = write_figures({0.001: 89}, after)
    assert figures["journal_writes"] == 11
    assert (figures["journal_write_p50_ms"], figures["journal_write_max_ms"]) == (2, float("inf"))
    assert write_figures(after, after) == {"journal_writes": 0}


def test_a_disk_is_kept_busy_and_left_as_it_was(tmp_path: Path) -> None:
    with busy(tmp_path) as figures:
        size = (tmp_path / "disturbance").stat().st_size
    assert size <= SIZE
    assert figures.mb_per_s > 0
    assert [path.name for path in tmp_path.iterdir()] == ["disturbance.log"]
    assert file_system(tmp_path) != "?"


def test_the_proof_names_everything_that_does_not_agree() -> None:
    sound = Proof(7, Counts(7, 7, 0, 0), 7, (70, 70), (700, 700))
    assert sound.faults() == []
    assert sound.sentence().startswith("recording proven: 7 sent")
    hole = Proof(7, Counts(7, 6, 0, 1), 6, (70, 60), (700, 699))
    assert len(hole.faults()) == 4
    assert hole.sentence().startswith("recording NOT proven: ")

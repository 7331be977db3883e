"""The benchmark's command line: `python -m tests.bench`. Ends with 1 when a body was changed, a request failed or the
recording is not proven.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from proxy.errors import WiretapeError
from tests.bench import meaning, targets
from tests.bench.disk import file_system
from tests.bench.load import Phase
from tests.bench.measure import require_linux
from tests.bench.report import full_text, machine_facts, write_json
from tests.bench.session import DISTURBED, FRESH, PHASES, QUICK_PHASES, Results, run_session, with_disk

_OPEN_FILES = 65536


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    options = _options(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    leaving = _Leaving()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leaving)
    try:
        require_linux()
        _raise_file_limit()
        code = _run(options)
        return 128 + signal.SIGINT if leaving.asked else code
    except WiretapeError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(options: argparse.Namespace) -> int:
    nginx = targets.NGINX if options.nginx and targets.NGINX.exists() else None
    remarks = [
        "CPU of direct: the fake upstream itself; of wiretape: the forward process, then ingest, then all of it."
    ]
    if options.nginx and nginx is None:
        remarks.append(f"No nginx at {targets.NGINX}: no ratios to it.")
    if options.quick:
        remarks.append("Quick: a check that all works; the figures are rough, ingest's may be cut off.")
    if options.disk:
        remarks.append(
            f"Disk: something else wrote to the same file system ({file_system(Path(tempfile.gettempdir()))})."
        )
    results = Results()
    once = [phase for phase in options.phases if phase.name in FRESH]
    repeated = [phase for phase in options.phases if phase.name not in FRESH]
    for phases, repetitions in ((repeated, options.reps), (once, 1)):
        if phases:
            _session(options, nginx is not None, phases, repetitions, results)
    facts = machine_facts(nginx)
    print(full_text(results, facts, remarks))
    if options.interpretation:
        print("\n" + meaning.table(quick=options.quick))
    if options.json:
        named = vars(options) | {"json": str(options.json), "phases": [phase.name for phase in options.phases]}
        write_json(options.json, results, facts, named)
    return 1 if results.problems else 0


def _session(
    options: argparse.Namespace, with_nginx: bool, phases: list[Phase], repetitions: int, results: Results
) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wiretape-bench-")))
        direct = stack.enter_context(targets.upstream(folder))
        started = [direct]
        if with_nginx:
            started.append(stack.enter_context(targets.nginx(direct.port, folder)))
        if options.serve:
            started.append(stack.enter_context(targets.wiretape(direct.port, folder)))
        try:
            run_session(started, phases, repetitions, settle=not options.quick, results=results)
        except WiretapeError as error:
            results.problems.append(str(error))
        if results.problems:
            for target in started:
                print(f"{target.name}, the end of its output:\n{targets.log_end(target.log)}", file=sys.stderr)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure wiretape beside nginx.")
    parser.add_argument("--quick", action="store_true", help="short phases, fewer held streams, one repetition")
    parser.add_argument("--reps", type=int, help="repetitions of which the median is taken (3; with --quick 1)")
    parser.add_argument("--phases", help="comma-separated: " + ",".join(phase.name for phase in PHASES))
    parser.add_argument("--disk", action="store_true", help="run paced50 once more while something keeps the disk busy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every repetition there")
    parser.add_argument("--no-nginx", dest="nginx", action="store_false", help="leave nginx out")
    parser.add_argument("--no-serve", dest="serve", action="store_false", help="leave wiretape out: references only")
    options = parser.parse_args(argv)
    options.interpretation = options.phases is None and options.serve
    if options.reps is None:
        options.reps = 1 if options.quick else 3
    if options.reps < 1:
        parser.error("--reps: at least 1")
    known = {phase.name: phase for phase in (QUICK_PHASES if options.quick else PHASES)}
    wanted = options.phases.split(",") if options.phases else list(known)
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"--phases: no phase {unknown[0]!r}; there are {', '.join(known)}")
    if "ns1_after_hold" in wanted and "hold" not in wanted:
        parser.error("--phases: ns1_after_hold means nothing without hold")
    options.phases = [phase for name, phase in known.items() if name in wanted]
    if options.disk:
        if DISTURBED not in wanted:
            parser.error(f"--disk: {DISTURBED} must be among the phases")
        options.phases = with_disk(options.phases)
    return options


def _raise_file_limit() -> None:
    """A thousand held streams take more files than most shells allow; the children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Leaving:
    """Leaves as on Ctrl-C, for which the event loop unwinds. What a signal raises may be swallowed by what runs just
    then (a callback, a destructor): `asked` remembers it."""

    asked = False

    def __call__(self, _number: int, _frame: object) -> None:
        self.asked = True
        signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())

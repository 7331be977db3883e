"""The supervisor with small programs for roles: starting again, the order of stopping, what it does not wait for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy import children, supervise
from proxy.children import Role
from proxy.status import read_all
from proxy.supervise import Stage, Supervisor

# What all programs share: a word in the diary, the lifeline's end, a signal to the supervisor.
PRELUDE = """
import os, signal, sys, time
diary, name, lifeline = sys.argv[1], sys.argv[2], int(sys.argv[-1])
def note(word):
    with open(diary, "a") as out:
        out.write(f"{name} {word}\\n")
def times(word):
    return open(diary).read().count(f"{name} {word}\\n")
def wait():
    while os.read(lifeline, 1):
        pass
def ask_to_stop(signum=signal.SIGTERM):
    os.kill(os.getppid(), signum)
note("begins")
"""
STEADY = "wait(); note('ends')"
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); note('ready'); time.sleep(600)"
STOPPER = "ask_to_stop(); wait(); note('ends')"

MakeRole = Callable[[str, str], Role]


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    (tmp_path / "status").mkdir()
    path = tmp_path / "diary"
    path.touch()
    return path


@pytest.fixture
def role(diary: Path) -> MakeRole:
    def make(name: str, program: str) -> Role:
        return Role(name, (sys.executable, "-c", PRELUDE + textwrap.dedent(program), str(diary), name))

    return make


def run(home: Path, *stages: Stage, on_ready: Callable[[], None] = lambda: None) -> int:
    return Supervisor(home, "serve", stages, os.environ, on_ready).run()


def told(diary: Path) -> list[str]:
    return diary.read_text().splitlines()


def write_status(home: Path, role: str, pid: int, facts: dict[str, Any]) -> None:
    frame = {"role": role, "pid": pid, "born": "never", "written": 1.0, "facts": facts}
    (home / "status" / f"{role}-{pid}.json").write_bytes(msgspec.json.encode(frame))


def test_stages_stop_one_after_the_other(tmp_path: Path, diary: Path, role: MakeRole) -> None:
    late = "wait(); time.sleep(0.2); note('ends')"
    stages = [
        Stage((role("forward", late), role("forward", late)), 20),
        Stage((role("ingest", late),), 20),
        Stage((role("console", STOPPER),), 20),
    ]
    assert run(tmp_path, *stages) == 0
    assert [line for line in told(diary) if "ends" in line] == [
        "forward ends",
        "forward ends",
        "ingest ends",
        "console ends",
    ]


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(3)", "sys.exit(0)"])
def test_a_role_that_ends_is_started_again(
    tmp_path: Path, diary: Path, role: MakeRole, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    program = f"""
    if times("begins") < 3:
        {end}
    ask_to_stop()
    wait()
    """
    began = time.monotonic()
    assert run(tmp_path, Stage((role("forward", program),), 20)) == 0
    assert told(diary) == ["forward begins"] * 3
    assert time.monotonic() - began >= 0.2 + 0.4  # each time later
    said = [record.getMessage() for record in caplog.records]
    how = {"o": "was killed by SIGKILL", "s": f"ended (exit code {end[-2]})"}[end[0]]
    assert [line.split(" ", 2)[2] for line in said] == [
        f"{how}; its successor starts in 0.2 s",
        f"{how}; its successor starts in 0.4 s",
    ]


def test_a_role_reads_what_it_is_told_and_so_does_its_successor(tmp_path: Path, diary: Path, role: MakeRole) -> None:
    program = """
    note(str(len(sys.stdin.read())))
    if times("begins") < 2:
        sys.exit(1)
    ask_to_stop()
    wait()
    """
    told_much = replace(role("forward", program), told=b"x" * 1_000_000)  # more than a pipe holds
    assert run(tmp_path, Stage((told_much, role("ingest", "note('has ' + sys.stdin.read()); wait()")), 20)) == 0
    assert told(diary).count("forward 1000000") == 2
    assert "ingest has " in told(diary)


def test_the_wait_before_a_new_start_has_an_end_and_begins_anew(
    tmp_path: Path, diary: Path, role: MakeRole, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = """
    if times("begins") < 5:
        sys.exit(1)
    ask_to_stop()
    wait()
    """
    monkeypatch.setattr(children, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(children, "LAST_DELAY", 0.02)
    assert run(tmp_path, Stage((role("forward", program),), 20)) == 0
    assert len(told(diary)) == 5
    caplog.clear()
    diary.write_text("")
    monkeypatch.setattr(children, "LAST_DELAY", 600.0)
    monkeypatch.setattr(children, "YOUNG", 0.0)
    assert run(tmp_path, Stage((role("forward", program),), 20)) == 0
    assert all(record.getMessage().endswith("in 0.0 s") for record in caplog.records)


def test_a_usage_error_of_one_stops_all(tmp_path: Path, diary: Path, role: MakeRole) -> None:
    stages = [Stage((role("forward", STEADY),), 20), Stage((role("ingest", "sys.exit(2)"),), 20)]
    assert run(tmp_path, *stages) == 2
    assert told(diary).count("ingest begins") == 1


def test_a_program_that_cannot_be_started_is_tried_again(
    tmp_path: Path, role: MakeRole, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "FIRST_DELAY", 0.01)
    nowhere = Role("ingest", (str(tmp_path / "nowhere"),))
    stopper = role("forward", "time.sleep(0.3); ask_to_stop(); wait()")
    assert run(tmp_path, Stage((stopper,), 20), Stage((nowhere,), 20)) == 0
    assert sum("ingest cannot be started" in record.getMessage() for record in caplog.records) > 1


def test_who_does_not_stop_in_time_is_killed(
    tmp_path: Path, diary: Path, role: MakeRole, caplog: pytest.LogCaptureFixture
) -> None:
    stages = [Stage((role("forward", STUBBORN),), 0.3), Stage((role("console", STOPPER),), 20)]
    assert run(tmp_path, *stages) == 0
    assert "does not stop by itself" in caplog.text
    assert "killed by SIGKILL" in caplog.text
    assert told(diary)[-1] == "console ends"


def test_a_second_signal_ends_all_waiting(
    tmp_path: Path, diary: Path, role: MakeRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "HURRY", 0.3)
    twice = "wait(); note('patient'); ask_to_stop(signal.SIGINT); time.sleep(600)"
    stages = [
        Stage((role("forward", twice),), 600),
        Stage((role("ingest", STUBBORN),), 600),
        Stage((role("console", STOPPER),), 600),
    ]
    assert run(tmp_path, *stages) == 0
    assert "forward patient" in told(diary)


def test_a_second_signal_is_handed_on(tmp_path: Path, diary: Path, role: MakeRole) -> None:
    program = """
    signal.signal(signal.SIGTERM, lambda *_: (note("cut short"), sys.exit(0)))
    ask_to_stop()
    wait()
    ask_to_stop()
    time.sleep(600)
    """
    assert run(tmp_path, Stage((role("forward", program),), 600)) == 0
    assert told(diary)[-1] == "forward cut short"


def test_waiting_ends_where_nothing_moves(
    tmp_path: Path, role: MakeRole, monkeypatch: pytest.MonkeyPatch, diary: Path
) -> None:
    monkeypatch.setattr(supervise, "STALL", 0.3)
    moves = iter(range(20))
    stages = [
        Stage((role("ingest", STUBBORN),), 600, progress=lambda: next(moves, None)),
        Stage((role("console", STOPPER),), 20),
    ]
    assert run(tmp_path, *stages) == 0
    assert next(moves, None) is None


def test_while_one_stage_ends_the_later_ones_are_kept_running(tmp_path: Path, diary: Path, role: MakeRole) -> None:
    forward = """
    ask_to_stop()
    wait()
    while open(diary).read().count("ingest begins") < 2:
        time.sleep(0.02)
    """
    ingest = """
    while "forward" not in open(diary).read():
        time.sleep(0.02)
    if times("begins") < 2:
        sys.exit(1)
    wait()
    note("ends")
    """
    assert run(tmp_path, Stage((role("forward", forward),), 20), Stage((role("ingest", ingest),), 20)) == 0
    assert told(diary)[-1] == "ingest ends"


def test_what_stays_in_the_journal_is_said_where_ingest_could_not(
    tmp_path: Path, role: MakeRole, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "a-000000.journal").write_bytes(b"x" * 700)
    stages = [Stage((role("ingest", STUBBORN),), 0.1), Stage((role("console", STOPPER),), 20)]
    assert run(tmp_path, *stages) == 0
    assert "700 bytes stay in the journal and will be stored at the next start" in caplog.text
    caplog.clear()
    write_status(tmp_path, "ingest", 1, {"lag_bytes": 300})
    assert run(tmp_path, *stages) == 0
    assert "300 bytes stay in the journal" in caplog.text
    caplog.clear()
    assert run(tmp_path, Stage((role("ingest", STOPPER),), 20)) == 0
    assert "stay in the journal" not in caplog.text, "it ended by itself: it has said so itself"


def test_a_dead_process_leaves_no_status(tmp_path: Path, role: MakeRole) -> None:
    write_status(tmp_path, "console", 1, {})
    write_status(tmp_path, "ingest", 2, {})
    write_status(tmp_path, "forward", 3, {"journal_records": 0})
    write_status(tmp_path, "forward", 4, {"journal_records": 9})
    assert run(tmp_path, Stage((role("console", STOPPER),), 20)) == 0
    assert [(status.role, status.pid) for status in read_all(tmp_path)] == [("forward", 4)]


def test_it_is_ready_when_a_worker_of_its_own_answers(tmp_path: Path, role: MakeRole) -> None:
    write_status(tmp_path, "forward", 1, {"address": ["127.0.0.1", 1]})
    program = """
    from pathlib import Path
    from proxy.status import StatusFile
    status = StatusFile(Path(diary).parent, "forward")
    status.write({"address": None})
    status.write({"address": ["127.0.0.1", 2]})
    note("answers")
    wait()
    """
    ready: list[str] = []

    def on_ready() -> None:
        ready.extend(told(tmp_path / "diary"))
        os.kill(os.getpid(), signal.SIGTERM)

    assert run(tmp_path, Stage((role("forward", program),), 20), on_ready=on_ready) == 0
    assert ready[:1] == ["forward begins"]


def test_listeners_are_handed_on_and_closed_when_their_stage_stops(tmp_path: Path, diary: Path, role: MakeRole) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = role(
            "console",
            "import socket; note(socket.socket(fileno=int(sys.argv[3])).getsockname()[1]); ask_to_stop(); wait()",
        )
        handed = Role("console", (*plain.command, str(listener.fileno())), fds=(listener.fileno(),))
        port = listener.getsockname()[1]
        assert run(tmp_path, Stage((handed,), 20, listeners=(listener,))) == 0
        assert listener.fileno() == -1
    assert told(diary) == ["console begins", f"console {port}"]


def test_signal_handlers_are_put_back(tmp_path: Path, role: MakeRole, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    before = [signal.getsignal(signum) for signum in signals]
    assert run(tmp_path, Stage((role("forward", STOPPER),), 20)) == 0
    assert [signal.getsignal(signum) for signum in signals] == before

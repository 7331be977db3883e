"""`replay`: the very bytes, at their own pace, made visible only where a terminal would obey them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.recordings import EVENTS, HOSTILE, HOSTILE_CHUNKS, PACKED
from tests.unit.cli.conftest import ROOT, Command, tame

Ids = dict[str, UUID]


def test_the_bytes_of_a_response(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", ids["stream"], "--speed", "instant")
    assert (ran.code, ran.out, ran.err) == (0, b"".join(EVENTS), "")


def test_the_bytes_of_a_request(wiretape: Command, ids: Ids) -> None:
    assert wiretape("replay", "--request", ids["stream"]).out == b'{"model":"m"}'


def test_hostile_bytes_are_untouched_where_there_is_no_terminal(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", ids["hostile"], "--speed", "instant")
    assert ran.out == b"".join(HOSTILE_CHUNKS)
    assert wiretape("replay", ids["hostile"], "--request").out == HOSTILE.encode()


def test_a_terminal_shows_and_does_not_obey_them(terminal: Command, ids: Ids) -> None:
    ran = terminal("replay", ids["hostile"], "--speed", "instant")
    assert tame(ran.out)
    assert "\\x1b[31mred\\x07 \\x00 \\xff\\xfe \\x9b1m\\x0d\n\t\\x1b]0;owned" in ran.text
    assert "€ paid\n" in ran.text  # a character that was cut in two


def test_a_terminal_gets_them_raw_when_asked(terminal: Command, ids: Ids) -> None:
    ran = terminal("replay", ids["hostile"], "--speed", "instant", "--raw")
    assert b"\x1b[31mred\x07 \x00 \xff\xfe \x9b1m\r" in ran.out


@pytest.mark.parametrize(("speed", "least", "most"), [("1", 0.5, 10), ("0.5", 1.0, 10), ("5x", 0.1, 10)])
def test_its_own_time(wiretape: Command, ids: Ids, speed: str, least: float, most: float) -> None:
    began = time.monotonic()
    assert wiretape("replay", ids["stream"], "--speed", speed).out == b"".join(EVENTS)
    assert least <= time.monotonic() - began < most


def test_a_fast_replay_is_fast(wiretape: Command, ids: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    wiretape("replay", ids["stream"], "--speed", "instant")
    assert waits == []
    wiretape("replay", ids["stream"], "--speed", "10")
    assert 0 < max(waits) <= 0.05


@contextmanager
def piped(home: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command in a process of its own, and the end of the pipe that its output comes out of."""
    call = [sys.executable, "-m", "proxy", "--home", str(home), *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables)
    try:
        assert child.stdout is not None
        yield child, child.stdout.fileno()
    finally:
        child.kill()
        child.communicate()


def test_each_chunk_comes_when_it_is_due(home: Path, ids: Ids) -> None:
    began, came = time.monotonic(), []
    with piped(home, "replay", ids["stream"], "--speed", "0.2") as (child, out):
        for event in EVENTS:
            assert os.read(out, 1000) == event
            came.append(time.monotonic() - began)
        assert child.wait(30) == 0
    assert all(0.5 * number <= at < 0.5 * number + 10 for number, at in enumerate(came, 1))
    assert came[0] < came[-1] - 1


def test_the_database_is_not_held_while_it_waits(home: Path, ids: Ids) -> None:
    with piped(home, "replay", ids["stream"], "--speed", "0.05") as (child, out):
        assert os.read(out, 1000) == EVENTS[0]
        opened = {str(fd.readlink()) for fd in Path(f"/proc/{child.pid}/fd").iterdir()}
        assert not [file for file in opened if "wiretape.db" in file]


def test_ctrl_c_ends_it_quietly(home: Path, ids: Ids) -> None:
    with piped(home, "replay", ids["stream"], "--speed", "0.05") as (child, out):
        assert os.read(out, 1000) == EVENTS[0]
        child.send_signal(signal.SIGINT)
        more, said = child.communicate(timeout=30)
        assert b"".join(EVENTS[1:]).startswith(more), "what a slow machine was late to stop"
        assert (child.returncode, said) == (130, b"")


@pytest.mark.parametrize("name", ["bodiless", "refused"])
def test_a_body_that_is_not_there(wiretape: Command, ids: Ids, name: str) -> None:
    ran = wiretape("replay", ids[name], "--speed", "instant")
    assert (ran.code, ran.out) == (1, b"")
    assert str(ids[name]) in ran.err
    assert ran.err.count("\n") == 1


def test_a_request_without_body_is_empty(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", ids["lossy"], "--request")
    assert (ran.code, ran.out, ran.err) == (0, b"", "")


def test_a_body_of_which_a_part_is_missing(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", ids["lossy"], "--speed", "instant")
    assert (ran.code, ran.out) == (1, b"the first bytes")
    assert "70 bytes of the response body" in ran.err


def test_a_running_exchange_is_replayed_so_far(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", "last", "--speed", "instant")
    assert (ran.code, ran.out) == (0, b"data: so far\n\n")
    assert "still running" in ran.err


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan", "inf", ""])
def test_a_speed_that_is_none(wiretape: Command, speed: str) -> None:
    ran = wiretape("replay", "last", "--speed", speed)
    assert (ran.code, ran.out) == (2, b"")
    assert "instant" in ran.err


# From the midst, step by step, and to be read


def test_from_a_chunk_on(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", ids["stream"], "--speed", "instant", "--from-chunk", 2)
    assert (ran.code, ran.out) == (0, b"".join(EVENTS[2:]))
    beyond = wiretape("replay", ids["stream"], "--from-chunk", len(EVENTS))
    assert (beyond.code, beyond.out) == (2, b"")
    assert "from 0 to 4" in beyond.err


def test_from_a_chunk_on_nobody_waits_for_those_before(
    wiretape: Command, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    wiretape("replay", ids["stream"], "--from-chunk", 4)
    assert len(waits) == 1
    assert 0 < waits[0] <= 0.1


def test_step_by_step(wiretape: Command, ids: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n\nq\n"))
    ran = wiretape("replay", ids["stream"], "--step")
    assert (ran.code, ran.out) == (0, b"".join(EVENTS[:2]))
    assert ran.err == "[0  0.100 s] [1  0.200 s] [2  0.300 s] "
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert wiretape("replay", ids["stream"], "--step", "--from-chunk", 3).out == EVENTS[3], "until the input ends"


def test_to_be_read(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", ids["packed"], "--decoded", "--speed", "instant")
    assert ran.code == 0
    assert ran.lines[0] == "    0.100 s | event: message"
    assert [line[14:] for line in ran.lines] == PACKED.decode()[:-1].split("\n")


def test_a_coding_that_is_broken_is_said_where_it_broke(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", ids["broken"], "--decoded", "--speed", "instant")
    assert ran.lines[-1] == "    0.100 s ! the gzip data ends too early"


def test_what_is_read_is_never_obeyed(wiretape: Command, ids: Ids) -> None:
    for side in ((), ("--request",)):
        ran = wiretape("replay", ids["hostile"], "--decoded", "--speed", "instant", *side)
        assert tame(ran.out)
        assert "\\x1b" in ran.text


def test_bytes_are_either_raw_or_read(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("replay", ids["stream"], "--decoded", "--raw")
    assert (ran.code, ran.out) == (2, b"")

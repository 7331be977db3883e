"""The README's first commands, as they stand there: a stream that arrives event by event, and what was kept of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import needs
from tests.support.here import run_here
from tests.support.running import PATIENCE, ROOT, Running, environment, serving

README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = "http://127.0.0.1:8800/"
AT_ONCE = 0.02  # seconds; what comes closer together is one arrival


class Arrived(NamedTuple):
    """What a program printed, and when: seconds since its start for each piece."""

    text: bytes
    times: list[float]

    @property
    def spread(self) -> float:
        return self.times[-1] - self.times[0]

    @property
    def arrivals(self) -> int:
        return 1 + sum(later - sooner > AT_ONCE for sooner, later in zip(self.times, self.times[1:], strict=False))


class Demo(NamedTuple):
    """`asked`: how often until the machine let it arrive as it came."""

    wiretape: Running
    folder: Path
    curl: Arrived
    asked: int

    @property
    def recorded(self) -> float:
        """Seconds from the first piece of the response to the last, as they were recorded."""
        shown = json.loads(_command(self, "wiretape show last --format json"))
        times = [chunk["at_us"] for chunk in shown["chunks"] if chunk["side"] == "response"]
        return float(times[-1] - times[0]) / 1_000_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The first request of the README, made and stored."""
    needs("curl")
    folder = tmp_path_factory.mktemp("demo")
    with serving(folder, fresh=True) as wiretape:
        words = shlex.split(_documented(f"curl --no-buffer {PORT}demo/"))
        curl, asked = _steady(lambda: _run(folder, words, wiretape), _event_by_event)
        wiretape.wait_stored(asked)
        yield Demo(wiretape, folder, curl, asked)


def _event_by_event(arrived: Arrived) -> bool:
    return arrived.spread > 0.5 and arrived.arrivals > arrived.text.count(b"data: ") / 4


def _steady(run: Callable[[], Arrived], well: Callable[[Arrived], bool]) -> tuple[Arrived, int]:
    """What arrived at the first of three tries at which it did so well, or at the last, and how many there were: a
    machine that stands still for a moment does not do so each time, but what is wrong is."""
    tries = 1
    while not well(arrived := run()) and tries < 3:
        tries += 1
    return arrived, tries


def test_the_stream_arrives_event_by_event(demo: Demo) -> None:
    _, *events, done = demo.curl.text.split(b"data: ")
    assert done == b"[DONE]\n\n"
    said = "".join(choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"])
    assert len(said) > 20
    assert json.loads(events[-1])["usage"]["total_tokens"] > 0
    assert demo.curl.spread > 0.5
    assert demo.curl.arrivals > len(events) / 4, "not all at once, even where the machine has other things to do"


def test_what_was_kept_is_listed_and_shown(demo: Demo) -> None:
    listed, shown = (_command(demo, text) for text in _commands_below()[:2])
    lines = listed.splitlines()
    assert len(lines) == demo.asked
    assert all("\tdemo\tPOST\t/demo/v1/chat/completions\t200\tcompleted\t" in line for line in lines)
    for words in (
        rf"exchange +(?:{'|'.join(line.split()[1] for line in lines)})",
        "origin +demo",
        r"upstream +demo \(dialect openai\)",
        r"request +POST /demo/v1/chat/completions HTTP/1\.1",
        "response +200 OK",
        r"outcome +completed \(upstream_end\)",
        "recorded +everything",
        "content-type +text/event-stream",
        "identical +yes",
    ):
        assert re.search(words, shown, re.IGNORECASE), words
    assert re.search(r"^  request +\d.* B +\{\"model\": \"gpt-4o-mini\"", shown, re.MULTILINE)
    assert re.search(r"^  response +\d.* B +data: \{", shown, re.MULTILINE)


def test_the_replay_keeps_bytes_and_timing(demo: Demo) -> None:
    *_, text = _commands_below()
    command, recorded = [sys.executable, "-m", "proxy", *text.split()[1:]], demo.recorded

    def well(arrived: Arrived) -> bool:
        return arrived.spread > max(0.5, recorded / 2) and arrived.arrivals > demo.curl.arrivals / 4

    replayed, _ = _steady(lambda: _run(demo.folder, command, demo.wiretape), well)
    assert replayed.text == demo.curl.text
    assert replayed.spread > max(0.5, recorded / 2)
    assert replayed.arrivals > demo.curl.arrivals / 4


def test_the_replay_can_hurry(demo: Demo) -> None:
    hurried, recorded = [sys.executable, "-m", "proxy", "replay", "last", "--speed", "instant"], demo.recorded
    instant, _ = _steady(lambda: _run(demo.folder, hurried, demo.wiretape), lambda each: each.spread < recorded / 2)
    assert instant.text == demo.curl.text
    assert instant.spread < recorded / 2


def _documented(begin: str) -> str:
    """The one command of the README that begins so."""
    (found,) = re.findall(rf"^    ({re.escape(begin)}.*)$", README, re.MULTILINE)
    return str(found)


def _commands_below() -> list[str]:
    """The commands that the README gives next, without the folder they are in."""
    found = re.findall(r"^    \.venv/bin/(wiretape .*)$", README, re.MULTILINE)[:3]
    assert [text.split()[1] for text in found] == ["ls", "show", "replay"]
    return found


def _command(demo: Demo, text: str) -> str:
    done = run_here(demo.folder, *text.split()[1:], variables={"WIRETAPE_HOME": str(demo.wiretape.home)})
    assert (done.code, done.err) == (0, "")
    return done.out.decode()


def _run(folder: Path, command: Sequence[str], wiretape: Running) -> Arrived:
    """Run a program on the ports of this wiretape, and note when what it prints arrives."""
    words = [word.replace(PORT, f"{wiretape.url}/") for word in command]
    variables = {"WIRETAPE_HOME": str(wiretape.home)}
    pieces: list[bytes] = []
    times: list[float] = []
    with subprocess.Popen(
        words, cwd=folder, env=environment(folder, variables), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        while piece := os.read(process.stdout.fileno(), 65536):
            pieces.append(piece)
            times.append(time.monotonic())
        assert process.wait(PATIENCE) == 0
    return Arrived(b"".join(pieces), times)

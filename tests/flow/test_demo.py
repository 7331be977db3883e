"""The README's first commands, as they stand there: a stream that arrives event by event, and what was kept of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
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
    wiretape: Running
    folder: Path
    curl: Arrived


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The first request of the README, made and stored."""
    needs("curl")
    folder = tmp_path_factory.mktemp("demo")
    with serving(folder) as wiretape:
        curl = _run(folder, shlex.split(_documented(f"curl --no-buffer {PORT}demo/")), wiretape)
        wiretape.wait_stored(1)
        yield Demo(wiretape, folder, curl)


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
    (line,) = listed.splitlines()
    assert "\tdemo\tPOST\t/demo/v1/chat/completions\t200\tcompleted\t" in line
    for words in (
        rf"exchange +{line.split()[1]}",
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
    replayed = _run(demo.folder, [sys.executable, "-m", "proxy", *text.split()[1:]], demo.wiretape)
    assert replayed.text == demo.curl.text
    assert replayed.spread > max(0.5, demo.curl.spread / 2)
    assert replayed.arrivals > demo.curl.arrivals / 4


def test_the_replay_can_hurry(demo: Demo) -> None:
    hurried = [sys.executable, "-m", "proxy", "replay", "last", "--speed", "instant"]
    instant = _run(demo.folder, hurried, demo.wiretape)
    assert instant.text == demo.curl.text
    assert instant.spread < demo.curl.spread / 2


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

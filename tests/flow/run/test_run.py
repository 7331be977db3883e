"""`run`: a command in the foreground whose calls are recorded, and nothing of ours that outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.status import read_all
from tests.support.here import run_here
from tests.support.rawhttp import IDLE, Ended, Peer, RawUpstream
from tests.support.running import ROOT, environment, put_database, serving, starting, wait_for

CALL = """
import json, os, urllib.request
body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}).encode()
request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body)
print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
"""
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
    }
).encode()


def provider(peer: Peer) -> None:
    """Answers every request."""
    try:
        while True:
            peer.read_message()
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER))
            peer.send(ANSWER)
    except Ended:
        return


def run(folder: Path, *words: str, variables: Mapping[str, str] | None = None, typed: bytes = b"") -> Any:
    """`wiretape run` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", "--home", str(folder / "home"), "run", *words],
        cwd=folder,
        env=environment(folder, variables),
        input=typed,
        capture_output=True,
        timeout=120,
        check=False,
    )


def listed(folder: Path) -> list[dict[str, Any]]:
    ran = run_here(folder, "ls", "--format", "json", "--home", str(folder / "home"))
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


def nobody_is_left(folder: Path) -> None:
    wait_for(lambda: not any(each.alive for each in read_all(folder / "home")), "the end of all that was started")


def test_calls_are_recorded_and_summed_up(tmp_path: Path) -> None:
    with RawUpstream(provider, deadline=IDLE) as origin:
        words = [
            "--upstream",
            f"openai={origin.url}",
            "--session",
            "s 1",
            "--tag",
            "env=ci",
            "--",
            sys.executable,
            "-c",
            CALL,
        ]
        ran = run(tmp_path, *words)
    assert (ran.returncode, ran.stdout) == (0, b"hello\n")
    (exchange,) = listed(tmp_path)
    assert (exchange["model_served"], exchange["input_tokens"], exchange["output_tokens"]) == (
        "gpt-4o-mini-2024-07-18",
        1000,
        500,
    )
    assert (exchange["session"], exchange["tags"], exchange["cost_pico"]) == ("s 1", [["env", "ci"]], 450_000_000)
    assert b"recorded: 1 exchange, 1,000 tokens in, 500 out, $0.00045" in ran.stderr
    nobody_is_left(tmp_path)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ([sys.executable, "-c", "raise SystemExit(7)"], 7, "nothing was recorded"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 137, "nothing was recorded"),
        (["no-such-command-here"], 127, "there is no such command"),
        (["/"], 126, "cannot be run"),
        ([], 2, "say what to run"),
    ],
)
def test_the_exit_code_is_the_commands(tmp_path: Path, command: Sequence[str], code: int, says: str) -> None:
    put_database(tmp_path / "home")
    ran = run(tmp_path, "--", *command)
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert says in ran.stderr.decode()
    assert b"Traceback" not in ran.stderr
    nobody_is_left(tmp_path)


def test_what_the_command_sees(tmp_path: Path) -> None:
    """Its input, its arguments with their options, its variables; an address that it had is the upstream's."""
    script = "import json, os, sys; print(json.dumps([sys.argv[1:], sys.stdin.read(), dict(os.environ)]))"
    given = {"ANTHROPIC_BASE_URL": "https://gw.example/anthropic", "NO_PROXY": "internal", "MINE": "kept"}
    words = [sys.executable, "-c", script, "--home", "x", "--", "y"]
    ran = run(tmp_path, *words, variables=given, typed=b"typed\n")
    arguments, typed, seen = json.loads(ran.stdout)
    assert (arguments, typed) == (["--home", "x", "--", "y"], "typed\n")
    assert (seen["MINE"], seen["NO_PROXY"]) == ("kept", "internal,127.0.0.1,localhost")
    port = seen["OPENAI_BASE_URL"].removeprefix("http://127.0.0.1:").removesuffix("/openai/v1")
    assert int(port) > 0
    assert seen["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{port}/anthropic"


SIGNALS = """
import os, signal, sys
counts = {"SIGTERM": 0, "SIGINT": 0}
def note(number, _): counts[signal.Signals(number).name] += 1
signal.signal(signal.SIGTERM, note)
signal.signal(signal.SIGINT, note)
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while sys.stdin.readline():
    print(counts, flush=True)
raise SystemExit(5)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command_once(tmp_path: Path, signum: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "proxy",
        "--home",
        str(tmp_path / "home"),
        "run",
        "--",
        sys.executable,
        "-c",
        SIGNALS,
    ]
    ready = tmp_path / "ready"
    put_database(tmp_path / "home")
    with subprocess.Popen(
        [*command, str(ready)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        wait_for(ready.exists, "the command")
        child.send_signal(signum)

        def counted() -> bool:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("how many?\n")
            child.stdin.flush()
            said: str = child.stdout.readline()
            return f"'{signum.name}': 1" in said

        wait_for(counted, "one signal")
        assert counted(), "a second one came"
        child.stdin.close()
        assert child.wait(60) == 5
    nobody_is_left(tmp_path)


def test_beside_a_serve_of_the_same_home(tmp_path: Path) -> None:
    """Its ingest stores what the command's forward recorded."""
    with RawUpstream(provider, deadline=IDLE) as origin, serving(tmp_path) as wiretape:
        ran = run(tmp_path, "--upstream", f"openai={origin.url}", "--", sys.executable, "-c", CALL)
        assert (ran.returncode, ran.stdout) == (0, b"hello\n")
        assert b"recorded: 1 exchange, 1,000 tokens in, 500 out" in ran.stderr
        assert len(listed(tmp_path)) == 1
        assert wiretape.pid("ingest") > 0
        wiretape.stop()


def test_two_at_once(tmp_path: Path) -> None:
    """Each says what its own command took."""
    with RawUpstream(provider, deadline=IDLE) as origin:
        words = [
            sys.executable,
            "-m",
            "proxy",
            "--home",
            str(tmp_path / "home"),
            "run",
            "--upstream",
            f"openai={origin.url}",
        ]
        twice = [
            subprocess.Popen(
                [*words, "--", sys.executable, "-c", CALL * count],
                cwd=tmp_path,
                env=environment(tmp_path),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for count in (1, 2)
        ]
        said = [child.communicate(timeout=120)[1].decode() for child in twice]
    assert [child.returncode for child in twice] == [0, 0]
    assert "recorded: 1 exchange, 1,000 tokens" in said[0]
    assert "recorded: 2 exchanges, 2,000 tokens" in said[1]
    assert len(listed(tmp_path)) == 3
    nobody_is_left(tmp_path)


def test_when_it_is_killed_nothing_of_ours_is_left(tmp_path: Path) -> None:
    """The command itself goes on, as it would under a shell."""
    ready = tmp_path / "ready"
    waiting = "import os, signal, sys; open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"
    with starting(tmp_path, "run", "--", sys.executable, "-c", waiting, str(ready)) as started:
        wait_for(lambda: ready.exists() and ready.read_text(), "the command")
        wait_for(lambda: any(each.role == "forward" and each.alive for each in read_all(tmp_path / "home")), "forward")
        try:
            os.kill(started.process.pid, signal.SIGKILL)
            nobody_is_left(tmp_path)
        finally:
            os.kill(int(ready.read_text()), signal.SIGKILL)


def test_the_joke_of_the_readme(tmp_path: Path) -> None:
    """Without a key, in a folder of its own."""
    ran = run(tmp_path, "--", sys.executable, str(ROOT / "examples" / "joke.py"))
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.split()) > 5
    assert b"recorded: 1 exchange, 14 tokens in, 27 out, $0.0000183" in ran.stderr
    (exchange,) = listed(tmp_path)
    assert (exchange["origin"], exchange["counted"]) == ("demo", False)


def test_a_variable_that_is_no_address(tmp_path: Path) -> None:
    ran = run(tmp_path, "--", "true", variables={"OPENAI_BASE_URL": "nonsense here"})
    assert ran.returncode == 2
    assert ran.stderr.decode().strip() == (
        "wiretape: OPENAI_BASE_URL must not hold spaces, backslashes, control characters or letters outside ASCII:"
        " unset it, or set it to the address of openai"
    )


def test_what_was_recorded_answers_the_command(tmp_path: Path) -> None:
    """The provider is asked once; the second run gets the recording, and costs nothing."""
    asked: list[None] = []

    def counted(peer: Peer) -> None:
        asked.append(None)
        provider(peer)

    with RawUpstream(counted, deadline=IDLE) as upstream:
        (tmp_path / "wiretape.toml").write_text(
            f"[upstreams.openai]\nurl = '{upstream.url}'\nmode = 'playback_else_record'\n"
        )
        ran = [run(tmp_path, "--", sys.executable, "-c", CALL) for _ in range(2)]
    assert [each.stdout for each in ran] == [b"hello\n"] * 2, ran
    assert len(asked) == 1
    assert b"recorded: 1 exchange, 1,000 tokens in, 500 out" in ran[0].stderr
    assert (b"recorded:" in ran[1].stderr, b"played: 1 exchange" in ran[1].stderr) == (False, True)

"""The pytest plugin, as a user's tests have it: recorded once, played by several workers, held to the cassette."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rawhttp import IDLE, Ended, Peer, RawUpstream
from tests.support.running import PATIENCE, environment

TESTS = '''
import json, os, subprocess, sys, urllib.request
import pytest

CALL = """
import json, os, sys, urllib.request
data = json.dumps({"model": "m", "input": sys.argv[1]}).encode()
url = os.environ["OPENAI_BASE_URL"] + "/responses"
request = urllib.request.Request(url, data, {"content-type": "application/json"})
print(urllib.request.urlopen(request).read().decode())
"""

def ask(base, word):
    data = json.dumps({"model": "m", "input": word}).encode()
    request = urllib.request.Request(f"{base}/x", data, {"content-type": "application/json"})
    return urllib.request.urlopen(request).read().decode()

@pytest.mark.wiretape("shared/sdk")
def test_an_sdk_that_reads_the_environment():
    from openai import OpenAI
    said = OpenAI(max_retries=0).chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert said.choices[0].message.content == "hello"

@pytest.mark.parametrize("word", ["a", "b/c"])
def test_by_the_fixture(wiretape, word):
    assert "hello" in ask(wiretape.base_url("mine"), word)
    assert wiretape.report()["unmatched"] == []

@pytest.mark.wiretape(ignore_json=["input"])
def test_in_another_process():
    said = subprocess.run([sys.executable, "-c", CALL, WORD], capture_output=True, text=True, check=True)
    assert "hello" in said.stdout

def test_without_any():
    assert "OPENAI_BASE_URL" not in os.environ
'''
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"hello"}}]}'
)


class Suite:
    """A user's folder of tests, and the provider that they call."""

    def __init__(self, folder: Path, provider: RawUpstream, asked: list[bytes]) -> None:
        self.folder = folder
        self.asked = asked
        self._provider = provider
        options = f"wiretape_upstreams =\n    openai={provider.url}\n    mine={provider.url}/v1\n"
        (folder / "pytest.ini").write_text(f"[pytest]\naddopts = -p no:cacheprovider\n{options}")

    def run(self, *arguments: str, tests: str = TESTS, word: str = "x", key: str | None = None) -> tuple[str, int]:
        """What pytest says, and how often the provider was asked meanwhile."""
        (self.folder / "test_it.py").write_text(tests.replace("WORD", repr(word)))
        before = len(self.asked)
        variables = environment(self.folder, {} if key is None else {"OPENAI_API_KEY": key})
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *arguments],
            cwd=self.folder,
            env={name: value for name, value in variables.items() if not name.startswith(("PYTEST_", "CI"))},
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )
        return done.stdout + done.stderr, len(self.asked) - before

    def cassettes(self) -> dict[str, str]:
        found = (self.folder / "cassettes").rglob("*")
        return {str(path.relative_to(self.folder / "cassettes")): path.read_text() for path in found if path.is_file()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    asked: list[bytes] = []

    def answer(peer: Peer) -> None:
        try:
            while True:
                asked.append(peer.read_message().target)
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                peer.send(b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))
        except Ended:
            return

    with RawUpstream(answer, deadline=IDLE) as provider:
        folder = tmp_path_factory.mktemp("suite")
        temporary = folder / "tmp"
        temporary.mkdir()
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("TMPDIR", str(temporary))
            made = Suite(folder, provider, asked)
            said, times = made.run("--wiretape=record", key="sk-of-the-recorder-0123456789")
            assert ("5 passed" in said, times) == (True, 4), said
            yield made
            assert not list(temporary.glob("wiretape-*")), "servers leave nothing behind"


def test_what_was_recorded(suite: Suite) -> None:
    found = suite.cassettes()
    assert sorted(found) == [
        "shared/sdk.cassette",
        "test_it.test_by_the_fixture-a-.cassette",
        "test_it.test_by_the_fixture-b-c-.cassette",
        "test_it.test_in_another_process.cassette",
    ]
    assert suite.asked[0] == b"/v1/chat/completions"
    assert suite.asked[1] == b"/v1/x"
    assert "rule ignore_json input" in found["test_it.test_in_another_process.cassette"]
    assert "sk-of" not in "".join(found.values())


def test_played_by_several_workers(suite: Suite) -> None:
    """With another word in the place that does not count."""
    said, times = suite.run("-n", "2", word="y")
    assert ("5 passed" in said, times) == (True, 0), said


FAILING = """
import json, urllib.request
import pytest

def ask(base, word):
    data = json.dumps({"model": "m", "input": word}).encode()
    request = urllib.request.Request(f"{base}/x", data, {"content-type": "application/json"})
    return urllib.request.urlopen(request).read().decode()

@pytest.mark.wiretape("test_it.test_by_the_fixture-a-")
def test_asks_something_else(wiretape):
    ask(wiretape.base_url("mine"), "other")

@pytest.mark.wiretape("test_it.test_by_the_fixture-a-")
def test_asks_and_does_not_mind(wiretape):
    ask(wiretape.base_url("mine"), "a")
    with pytest.raises(OSError):
        ask(wiretape.base_url("mine"), "a")

@pytest.mark.wiretape("test_it.test_by_the_fixture-a-")
def test_asks_nothing():
    pass

@pytest.mark.wiretape("test_it.test_by_the_fixture-a-", strict=False)
def test_may_ask_nothing():
    pass

@pytest.mark.wiretape("nobody")
def test_without_a_cassette():
    pass

@pytest.mark.wiretape("../up")
def test_with_a_bad_name():
    pass

@pytest.mark.wiretape(ignore="x")
def test_with_a_bad_rule():
    pass

@pytest.mark.wiretape("shared/sdk", ignore_json=["["])
def test_with_a_bad_path():
    pass
"""


def test_held_to_the_cassette(suite: Suite) -> None:
    said, times = suite.run(tests=FAILING)
    assert ("3 failed, 1 passed, 4 errors" in said, times) == (True, 0), said
    assert 'body input: asked "other", recorded "a"' in said
    assert "POST /x was recorded once and has been played as often" in said
    assert "never asked for, and so outdated: POST /x" in said
    assert "record it by --wiretape=record" in said
    assert "'../up' names no cassette" in said
    assert "the marker wiretape takes a name, strict, and ignore_json" in said
    assert "'[' names no place in JSON" in said
    assert "Traceback" not in said.partition("test_asks_nothing")[2]


MORE = """
import json, urllib.request
import pytest

@pytest.mark.wiretape("test_it.test_by_the_fixture-a-")
def test_more(wiretape):
    for word in ("a", "new"):
        data = json.dumps({"model": "m", "input": word}).encode()
        base = wiretape.base_url("mine")
        request = urllib.request.Request(f"{base}/x", data, {"content-type": "application/json"})
        assert urllib.request.urlopen(request).status == 200

@pytest.mark.wiretape("shared/sdk")
def test_that_fails(wiretape):
    urllib.request.urlopen(f"{wiretape.base_url('openai')}/models")
    assert False
"""


def test_only_what_is_missing_is_recorded(suite: Suite) -> None:
    before = suite.cassettes()
    said, times = suite.run("--wiretape=record-missing", tests=MORE)
    assert ("1 failed, 1 passed" in said, times) == (True, 2), said
    after = suite.cassettes()
    assert after["shared/sdk.cassette"] == before["shared/sdk.cassette"], "of a test that failed nothing is kept"
    name = "test_it.test_by_the_fixture-a-.cassette"
    assert (before[name].count("\n== ") + 1, '"new"' in after[name]) == (after[name].count("\n== "), True)
    said, times = suite.run("-k", "more", tests=MORE)
    assert ("1 passed" in said, times) == (True, 0), said


OFF = """
import os
import pytest

@pytest.mark.wiretape("nobody")
def test_off(wiretape):
    assert wiretape.base_url("anthropic") == "https://api.anthropic.com"
    assert wiretape.variables() == wiretape.report() == {}
    assert "ANTHROPIC_BASE_URL" not in os.environ
"""


def test_switched_off(suite: Suite) -> None:
    said, times = suite.run("--wiretape=off", tests=OFF)
    assert ("1 passed" in said, times) == (True, 0), said
    said, _ = suite.run("--wiretape=on", tests=OFF)
    assert "invalid choice: 'on'" in said


def test_what_cannot_start_is_told(suite: Suite) -> None:
    said, _ = suite.run("--wiretape=record", "-o", "wiretape_upstreams=x=ftp://y", tests=MORE)
    assert "wiretape's playback did not start" in said
    assert "the address of x must begin with http:// or https://" in said
    assert not list((suite.folder / "tmp").glob("wiretape-*"))

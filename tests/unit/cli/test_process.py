"""What a role's process is told arrives as its options, whole and typed, and it loads nothing that it does not need."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.__main__ import COLLECT_AFTER
from proxy.cli import process, values
from proxy.config import Settings, fingerprint_key, load
from proxy.console.run import ConsoleOptions
from proxy.forward.destinations import UpstreamOptions
from proxy.forward.run import Options
from proxy.ingest.run import IngestOptions
from proxy.replay.run import PlaybackOptions
from proxy.wire.interface import Timeouts
from tests.support.journals import limited, open_files
from tests.support.running import ROOT, environment

OWN = {"listener", "lifeline", "on_serving", "upgrade", "http2", "sources"}
"""What each process has of its own."""

CONFIG = """
home = 'house'
[forward]
workers = 3
fsync = 'never'
transform_limit = '1MiB'
[console]
token = 'secret'
[record]
redact_headers = ['X-Mine']
[upstreams.mine]
url = 'https://llm.example.com/base'
dialect = 'anthropic'
connect_timeout = '1s'
first_byte_timeout = '2s'
idle_timeout = '3s'
on_client_leave = 'drain'
record = 'meta'
keep_alive = '15s'
[upstreams.openai]
stream_usage = 'ask'
[upstreams.groq]
stream_usage = 'ask'
[upstreams.google]
url = 'https://gemini.example'
dialect = 'gemini'
rewrite_upload_urls = false
"""


def test_roles_look_for_garbage_as_often_as_python_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command did that they run in."""
    seen = []
    monkeypatch.setattr(process, "_console", lambda *_: seen.append(gc.get_threshold()))
    before = gc.get_threshold()
    try:
        gc.set_threshold(COLLECT_AFTER)
        process.run("console", b"", process.Own())
    finally:
        gc.set_threshold(*before)
    assert seen == [process._OFTEN]
    said = "import gc; first = gc.get_threshold(); import proxy.__main__, proxy.cli.process as role; "
    ran = subprocess.check_output([sys.executable, "-c", said + "print(role._OFTEN == first)"], cwd=ROOT)
    assert ran == b"True\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "other.toml"
    path.write_text(CONFIG)
    (tmp_path / "house").mkdir()
    return load(path, {}, {})


def names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def test_every_option_is_told_by_its_name(settings: Settings) -> None:
    """None may be left to its default: a setting would do nothing."""
    for said, kind in (
        (values.forward_values(settings), Options),
        (values.ingest_values(settings, create=True), IngestOptions),
        (values.console_values(settings), ConsoleOptions),
        (values.playback_values(settings), PlaybackOptions),
    ):
        told = msgspec.json.decode(said)
        assert told.keys() == names(kind) - OWN
        for upstream in told.get("upstreams", ()):
            assert upstream.keys() == names(UpstreamOptions)
            assert upstream["timeouts"].keys() == names(Timeouts)


def test_what_is_told_arrives(settings: Settings) -> None:
    options = process._options(Options, values.forward_values(settings), listener=None)
    assert options.home == settings.home
    assert options.home.is_absolute()
    assert options.fsync_every is None
    assert options.redact_headers == settings.record.redact_headers != ()
    assert options.fingerprint_key == fingerprint_key(settings.home, {})
    (mine,) = [each for each in options.upstreams if each.name == "mine"]
    url = "https://llm.example.com/base"
    timeouts = Timeouts(1.0, 2.0, 3.0)
    assert mine == UpstreamOptions("mine", url, "anthropic", timeouts, drain=True, record="meta", keep_alive=15.0)
    asked = {each.name for each in options.upstreams if each.ask_usage}
    assert (asked, options.transform_limit) == ({"openai"}, 2**20)
    assert {each.name for each in options.upstreams if each.upload_urls} == {"gemini"}
    console = process._options(ConsoleOptions, values.console_values(settings), listener=None)
    assert (console.home, console.token) == (settings.home, "secret")


def test_what_is_no_option_or_has_another_type_is_a_fault(settings: Settings) -> None:
    known = {"home": settings.home, "host": "127.0.0.1"}
    with pytest.raises(KeyError):
        process._options(ConsoleOptions, process.told({**known, "tokn": None}), listener=None)
    with pytest.raises(msgspec.ValidationError):
        process._options(ConsoleOptions, process.told({**known, "token": 3}), listener=None)


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("proxy.forward.run", ["typer", "pydantic", "sqlalchemy", "httpx2", "proxy.config"]),
        ("proxy.ingest.run", ["typer", "alembic", "uvicorn", "pydantic", "genai_prices", "proxy.config"]),
        ("proxy.console.run", ["typer", "pydantic", "sqlalchemy", "proxy.config"]),
        ("proxy.cli.start", ["alembic", "uvicorn", "starlette", "httpx2", "genai_prices"]),
    ],
)
def test_a_role_loads_nothing_that_it_does_not_need(module: str, unneeded: list[str]) -> None:
    program = f"import sys, proxy.cli.process, {module}; print([m for m in {unneeded} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_fault_is_told_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "proxy.cli.process", "console", "--lifeline", "0"]
    done = subprocess.run(
        command, input="no JSON", env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("wiretape: failed for a reason of its own (DecodeError at process.py:")
    assert done.stderr.count("\n") == 1


def test_as_many_files_may_be_open_as_there_may_be_at_all() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with limited(resource.RLIMIT_NOFILE, min(most, open_files() + 64)):
        process.raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)

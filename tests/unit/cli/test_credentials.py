"""Upstreams that are asked with the credentials of this machine: their keys, and what is said where they cannot be."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import msgspec
import pytest

from proxy.cli import process, values
from proxy.config import load
from proxy.errors import UsageError
from proxy.forward.destinations import CredentialOptions
from proxy.forward.run import Options
from tests.support.running import starting

MINE = "[upstreams.mine]\nurl = 'https://bedrock-runtime.us-east-1.amazonaws.com'\n"


def refused(folder: Path, toml: str) -> str:
    (folder / "given.toml").write_text(toml)
    with pytest.raises(UsageError) as caught:
        load(folder / "given.toml", {}, {"home": str(folder)})
    return str(caught.value).splitlines()[-1].partition("upstreams.")[2]


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("credentials = 'azure'", "mine.credentials must be 'none', 'aws' or 'google', not \"azure\""),
        (
            "credentials = 'aws'\nkey_env = 'K'",
            "mine.credentials stand in the place of a key; leave key_env or credentials out",
        ),
        ("aws_profile = 'p'", 'mine.aws_profile belongs to credentials = "aws"; set that too'),
        ("credentials = 'google'\naws_region = 'p'", 'mine.aws_region belongs to credentials = "aws"; set that too'),
        (
            "credentials = 'aws'\ngoogle_file = '{here}'",
            'mine.google_file belongs to credentials = "google"; set that too',
        ),
        (
            "credentials = 'aws'\naws_profile = ' p'",
            "mine.aws_profile must be a name in printable ASCII, without blanks at its ends, not",
        ),
        ("credentials = 'google'\ngoogle_file = 'away'", "mine.google_file"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, toml: str, says: str) -> None:
    assert refused(tmp_path, MINE + toml.replace("{here}", __file__)).startswith(says)


def test_the_demo_and_pages_of_all(tmp_path: Path) -> None:
    assert "are for nothing" in refused(tmp_path, "[upstreams.demo]\ncredentials = 'aws'")
    (tmp_path / "given.toml").write_text(f"[forward]\ncors_origins = ['*']\n{MINE}credentials = 'aws'\n")
    with pytest.raises(UsageError, match="must name each origin where an upstream has a key_env or credentials"):
        load(tmp_path / "given.toml", {}, {"home": str(tmp_path)})


@pytest.mark.parametrize("mode", ["live", "playback"])
def test_what_a_worker_is_told(tmp_path: Path, mode: str) -> None:
    more = f"credentials = 'aws'\naws_profile = 'corp'\naws_service = 'bedrock-mantle'\nmode = '{mode}'\n"
    (tmp_path / "given.toml").write_text(MINE + more)
    told = values.forward_values(load(tmp_path / "given.toml", {}, {"home": str(tmp_path)}), 1)
    upstreams = msgspec.json.decode(told)["upstreams"]
    with socket.socket() as listener:
        found = process._options(Options, told, listener=listener).upstreams
    mine = next(each for each in found if each.name == "mine")
    expected = CredentialOptions("aws", aws_profile="corp", aws_service="bedrock-mantle")
    assert mine.credentials == (expected if mode == "live" else None)
    assert len(upstreams) == len(found)


@pytest.mark.parametrize(
    ("more", "pointed"),
    [("", False), ("credentials = 'aws'\n", True), ("key_env = 'K'\n", True), ("mode = 'playback'\n", True)],
)
def test_what_a_program_signs_itself_is_not_led_here(tmp_path: Path, more: str, pointed: bool) -> None:
    mine = MINE.replace("mine", "bedrock")
    (tmp_path / "given.toml").write_text(f"{mine}{more}[upstreams.vertex]\nurl = 'https://v.example'\n")
    chosen = values.pointed_here(load(tmp_path / "given.toml", {}, {"home": str(tmp_path)}))
    assert ("bedrock" in chosen) is pointed
    assert {"openai", "vertex"} <= set(chosen)


@pytest.mark.parametrize(("of", "library"), [("aws", "botocore"), ("google", "google.auth")])
def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, of: str, library: str) -> None:
    for name in [name for name in sys.modules if name.startswith((library, f"proxy.forward.{of}"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"^credentials: '{of}' needs {library}.*pip install 'wiretape\[{of}\]'"):
        process._source(CredentialOptions(of), "h")


def test_a_profile_that_is_none_keeps_it_from_starting(tmp_path: Path) -> None:
    config = f"{MINE}credentials = 'aws'\naws_profile = 'nobody'\n"
    variables = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "c")}
    with starting(tmp_path, "serve", config=config, variables=variables) as wiretape:
        assert wiretape.wait() != 0
        assert "upstreams.mine.aws_profile: The config profile (nobody) could not be found" in wiretape.log
        assert "Traceback" not in wiretape.log

"""`upstreams`: the exact base_url of each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.presets import PRESETS, TEMPLATES
from proxy.status import StatusFile
from tests.unit.cli.conftest import Command


def test_all_are_listed(wiretape: Command) -> None:
    known = {each["name"]: each for each in wiretape("upstreams", "--format", "json").json}
    assert known.keys() == PRESETS.keys() | TEMPLATES.keys()
    assert known["openai"] == {
        "name": "openai",
        "base_url": "http://127.0.0.1:8800/openai/v1",
        "url": "https://api.openai.com",
        "dialect": "openai",
        "to_set": None,
        "proxy": None,
    }
    assert known["azure"]["url"] is None
    assert "upstreams.azure.url" in known["azure"]["to_set"]


def test_lines(wiretape: Command) -> None:
    lines = wiretape("upstreams").lines
    assert lines[0] == "openai\thttp://127.0.0.1:8800/openai/v1\thttps://api.openai.com\topenai"
    assert any(line.startswith("vertex ") and "upstreams.vertex.url" in line for line in lines)


def test_on_a_narrow_terminal_nothing_of_the_base_url_is_lost(terminal: Command) -> None:
    ran = terminal("upstreams", columns=80)
    assert "http://127.0.0.1:8800/fireworks/inference/v1" in ran.text
    assert "set upstreams.azure.url to your own https://RESOURCE.openai.azure.com" in ran.text
    assert max(len(line) for line in ran.lines if "8800" in line) <= 80


def test_what_is_configured(wiretape: Command, home: Path) -> None:
    (home / "own.toml").write_text('[forward]\nport = 9000\n[upstreams.azure]\nurl = "https://me.openai.azure.com"\n')
    ran = wiretape(
        "upstreams", "--config", home / "own.toml", "--upstream", "mine=http://127.0.0.1:1/v1", "--format", "json"
    )
    known = {each["name"]: each for each in ran.json}
    assert known["azure"]["base_url"] == "http://127.0.0.1:9000/azure/openai/v1"
    assert known["azure"]["to_set"] is None
    assert known["mine"]["base_url"] == "http://127.0.0.1:9000/mine"


def test_the_port_that_is_served_counts(wiretape: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRETAPE_FORWARD__PORT", "0")
    assert wiretape("upstreams").code == 2
    StatusFile(home, "forward").write({"address": ["127.0.0.1", 12345], "worker": str(os.getpid())})
    assert "http://127.0.0.1:12345/openai/v1" in wiretape("upstreams").text

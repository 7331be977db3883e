"""The page on commands has every command and every option, and no other; what else names a command names a real one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from proxy.cli.app import app
from tests.support.running import ROOT

PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMON = {"--config", "--home", "--database"}
"""Told once for all commands; so is --upstream where it takes NAME=URL."""

SECTIONS = dict(re.findall(r"^### (\S.*)\n((?:(?!^##).*\n)*)", PAGE, re.MULTILINE))


def _walk(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        if command.invoke_without_command and path:
            yield path, command
        for name, below in command.commands.items():
            yield from _walk(below, f"{path} {name}".strip())
    else:
        yield path, command


ROOT_COMMAND = get_command(app)
COMMANDS = dict(_walk(ROOT_COMMAND))


def _options(command: Any) -> dict[str, str]:
    """The options that a command shows, each with its placeholder (empty for a flag)."""
    shown = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    return {each.opts[0]: "" if each.is_flag else str(each.metavar or "any") for each in shown}


def _own(command: Any) -> dict[str, str]:
    return {
        name: metavar
        for name, metavar in _options(command).items()
        if name not in COMMON and (name, metavar) != ("--upstream", "NAME=URL")
    }


def _documented(text: str) -> dict[str, str]:
    """The options of a table, with their placeholders."""
    rows = re.findall(r"^\| `(--[\w-]+)(?: ([^`]+))?`(?:, `-h`)? \| \S.* \|$", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `", text, re.MULTILINE)), "a row that is no option"
    assert len(rows) == len({name for name, _ in rows})
    return dict(rows)


def test_every_command_has_a_section_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_has_every_option_and_no_other(name: str) -> None:
    own, documented = _own(COMMANDS[name]), _documented(SECTIONS[name])
    assert list(documented) == list(own)
    for option, metavar in own.items():
        assert bool(documented[option]) == bool(metavar), f"{option} takes a value, or takes none"
        if metavar.isupper() and metavar != "N":
            assert documented[option].replace("\\", "") == metavar, option


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_has_an_example_that_can_be_given(name: str) -> None:
    examples = re.findall(r"^    (wiretape .*)$", SECTIONS[name], re.MULTILINE)
    assert len(examples) == 1
    assert examples[0].startswith(f"wiretape {name}")
    assert set(re.findall(r"--[\w-]+", examples[0])) <= _options(COMMANDS[name]).keys()
    assert len(re.sub(r"^    .*\n|^\|.*\n", "", SECTIONS[name], flags=re.MULTILINE).strip()) > 20, "say what it does"


def test_what_all_commands_take_is_told_once() -> None:
    before = _documented(PAGE.partition("\n## ")[0])
    assert before.keys() == {*_options(ROOT_COMMAND), "--help"}


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "docs", "proxy"])
def test_commands_that_are_named_elsewhere_exist(name: str) -> None:
    place = ROOT / name
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.suffix in {".py", ".md"}]
    groups = {path.split()[0] for path in COMMANDS}
    for path in files:
        text = path.read_text(encoding="utf-8")
        for options, word in re.findall(
            r"(?:`|^ +(?:\.venv/bin/)?)wiretape ((?:--\S+ \S+ )*)([a-z]+)\b", text, re.MULTILINE
        ):
            assert word in groups, f"{path.name}: wiretape {word}"
            assert set(re.findall(r"--[\w-]+", options)) <= _options(ROOT_COMMAND).keys()


def test_the_readme_names_commands_and_their_options() -> None:
    named = re.findall(r"(?:`|^ +(?:\.venv/bin/)?)wiretape (?:--\S+ \S+ )*([a-z]+)", README, re.MULTILINE)
    assert {"ls", "show", "replay", "serve", "upstreams", "doctor"} <= set(named)
    assert "docs/commands.md" in README

"""The rules of the house that no linter knows: sizes, names, reasons for exceptions, what must not be committed."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import needs

ROOT = Path(__file__).parents[2]
MAX_FILE = 400
MAX_FUNCTION = 50

MODULES = sorted(path for folder in ("proxy", "tests") for path in (ROOT / folder).rglob("*.py"))
LOCKS = ("requirements.lock", "requirements-dev.lock")
MACHINE = re.compile(r"/(?:work|farm|root|tmp/bash_jobs)/|/home/[a-z]\w*/")
REGISTRY = re.compile(r"pypi\.org|files\.pythonhosted|registry\.npmjs|deb\.debian|crates\.io")
EXCUSE = re.compile(r"#\s*(?:noqa|type:\s*ignore)(?P<codes>: ?[A-Z0-9, ]+[0-9]|\[[\w, -]+\])?(?P<reason>.*)")


@cache
def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(_source(path))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _every(paths: Callable[[], list[Path]]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """A rule for one file becomes one test for all: a test a file would be a thousand tests."""

    def of(rule: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            broken = []
            for path in paths():
                try:
                    rule(path)
                except AssertionError as error:
                    broken.append(f"{_name(path)}: {str(error).splitlines()[0]}")
            assert not broken, "\n".join(broken)

        return test

    return of


every_module = _every(lambda: MODULES)


@cache
def _statements(path: Path) -> list[ast.AST]:
    """Every statement of a module, however deep it stands. What rules look for is no part of an expression, of which
    there are ten times as many."""
    found: list[ast.AST] = [_tree(path)]
    for node in found:
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            found.extend(getattr(node, block, ()))
    return found


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in _statements(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _committed() -> list[Path]:
    """What is, or is about to be, in the repository; all that looks like it where there is no repository."""
    git = shutil.which("git")
    if git is not None:
        command = [git, "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    parts = ("proxy", "tests", "migrations", "docs", ".ci")
    return [path for folder in parts for path in (ROOT / folder).rglob("*") if path.is_file()]


@every_module
def test_size(path: Path) -> None:
    length = len(_source(path).splitlines())
    assert length <= MAX_FILE, f"{length} lines"
    for function in _functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= MAX_FUNCTION, f"{function.name} has {lines} lines"


@every_module
def test_words(path: Path) -> None:
    assert path.stem not in {"util", "utils", "helper", "helpers"}, "name it for what it does"
    assert not [node.lineno for node in _statements(path) if isinstance(node, ast.Global)], "no `global`"
    said = ast.get_docstring(_tree(path)) or not _source(path).strip()
    assert said, "say what the module does, and what it must not know"


@every_module
def test_imports_stand_at_the_top(path: Path) -> None:
    if path.is_relative_to(ROOT / "proxy/cli") or path.stem == "pytest_plugin":
        return  # it imports what it needs when it runs: starting must not take a second
    imports = [node.lineno for node in _statements(path) if isinstance(node, ast.Import | ast.ImportFrom)]
    for function in _functions(path):
        inside = [line for line in imports if function.lineno <= line <= (function.end_lineno or 0)]
        assert not inside, f"{function.name} imports in line {inside[0]}"


@every_module
def test_only_the_door_reads_the_environment(path: Path) -> None:
    door = any(
        path.is_relative_to(ROOT / place)
        for place in ("proxy/config", "proxy/cli", "proxy/__main__.py", "proxy/testing.py")
    )
    if door or not path.is_relative_to(ROOT / "proxy"):
        return
    source = _source(path)
    assert not re.search(r"\bos\.(?:environ|getenv)\b|^\s*(?:import|from) tomllib\b", source, re.MULTILINE)


@every_module
def test_every_excuse_in_code_has_its_reason(path: Path) -> None:
    lines = _source(path).splitlines()
    if not any("noqa" in line or "ignore" in line for line in lines):
        return  # to take each file apart takes a while
    with path.open("rb") as source:
        comments = [token for token in tokenize.tokenize(source.readline) if token.type == tokenize.COMMENT]
    for comment in comments:
        excuse = EXCUSE.match(comment.string)
        if excuse is not None:
            where = f"line {comment.start[0]}"
            assert excuse["codes"], f"{where} does not say which rule it excuses"
            above = lines[comment.start[0] - 2].strip() if comment.start[0] > 1 else ""
            assert re.search(r"\w{2}", excuse["reason"]) or above.startswith("#"), f"{where} does not say why"


def test_every_ignored_rule_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    ignored = [*lint["ignore"], *(rule for rules in lint["per-file-ignores"].values() for rule in rules)]
    explained = re.findall(r'^  "([A-Z]+[0-9]+)", +# .*\w{2}', text, re.MULTILINE)
    assert sorted(ignored) == sorted(explained)


@_every(_committed)
def test_nothing_of_this_machine_is_committed(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        assert not MACHINE.search(line), f"line {number} holds a path of one machine"
        assert not REGISTRY.search(line), f"line {number} names a package registry"


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_and_hash_without_an_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    logical = text.replace("\\\n", " ").splitlines()
    pins = [line for line in logical if line and not line.startswith(("#", " "))]
    assert pins
    assert all(re.match(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line) for line in pins)


def test_locks_hold_what_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "requirements.lock": [*project["dependencies"], *extras["build"]],
        "requirements-dev.lock": [*project["dependencies"], *extras["build"], *extras["dev"]],
    }
    for name, requirements in wanted.items():
        pinned = set(
            re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        )
        asked = {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in requirements}
        assert asked <= pinned, f"{name} is out of date: make lock"


def test_the_runtime_lock_is_part_of_the_other() -> None:
    runtime, dev = (set((ROOT / name).read_text(encoding="utf-8").split("\n")) for name in LOCKS)
    pins = {line for line in runtime if "==" in line}
    assert pins <= dev, "both must pin the same versions: make lock"


def test_a_missing_tool_is_skipped_by_a_user_and_missed_by_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needs("sh").endswith("/sh")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is not installed"):
        needs("no-such-tool")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is not installed"):
        needs("no-such-tool")

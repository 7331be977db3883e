"""What is built for users has all that a checkout has; and who lacks a Python is told so by make in one sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.support.running import ROOT, environment


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as it lies in a user's site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, env=environment(folder), capture_output=True, check=True)
    (wheel,) = folder.glob("wiretape-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "packages")
    return folder / "packages"


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if path.suffix != ".pyc"}


def test_nothing_is_left_out(unpacked: Path) -> None:
    migrations = {f"_migrations/{name}" for name in files(ROOT / "migrations")}
    assert files(unpacked / "proxy") == files(ROOT / "proxy") | migrations
    assert {path.name for path in unpacked.iterdir() if "." not in path.name} == {"proxy"}, "no other package is in it"


@pytest.mark.parametrize("code", ["proxy.__main__.main()", "proxy.forward.demo.DemoUpstream()"])
def test_it_works_where_there_is_no_checkout(unpacked: Path, tmp_path: Path, code: str) -> None:
    """Making a database needs the revisions, the built-in upstream its streams."""
    program = f"import proxy.__main__, proxy.forward.demo; assert {str(unpacked)!r} in proxy.__file__; {code}"
    command = [sys.executable, "-P", "-c", program, "--home", "home", "db", "upgrade"]
    variables = environment(tmp_path) | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "home" / "wiretape.db").exists() == ("main" in code)


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ([], "wiretape needs Python 3.11 or newer with venv; install one, for example with: sudo apt install"),
        (["PYTHON=python3.9"], "PYTHON=python3.9 is no Python 3.11 or newer with venv; install one"),
    ],
)
def test_make_says_what_to_install(tmp_path: Path, chosen: list[str], says: str) -> None:
    """Where no Python is new enough, or all lack venv."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "grep").symlink_to(needs("grep"))
    for name in ("python3", "python3.11", "python3.9"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
        (tools / name).chmod(0o700)
    for name in ("Makefile", "requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for goal in ("serve", "test", "check"):
        command = [needs("make"), goal, *chosen]
        variables = environment(tmp_path) | {"PATH": str(tools)}
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        (sentence,) = done.stderr.splitlines()
        assert says in sentence
    assert not (tmp_path / ".venv").exists()

"""The edge of the program: every error ends as one sentence and an exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from proxy import __main__, __version__
from proxy.errors import UsageError, WiretapeError
from tests.support.running import ROOT, environment


def fails_with(error: BaseException) -> Callable[..., None]:
    def app(*_arguments: object, **_settings: object) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (WiretapeError("the disk is gone"), 1, "wiretape: the disk is gone\n"),
        (UsageError("no such\x1b[2J port"), 2, "wiretape: no such\\x1b[2J port\n"),
        (
            typer.BadParameter("Must be green. Not red."),
            2,
            "invalid value: Must be green; Not red (see `wiretape --help`)\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (typer.Abort(), 130, ""),
        (ValueError("sk-secret"), 1, "wiretape: failed for a reason of its own (ValueError at test_main.py:"),
    ],
)
def test_errors(
    error: BaseException, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(__main__, "app", fails_with(error))
    assert __main__.run([]) == code
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == bool(sentence)
    assert "sk-secret" not in said.err
    assert not said.out


def test_the_exit_code_of_a_command_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(__main__, "app", lambda *_, **__: 3)
    assert __main__.run([]) == 3
    monkeypatch.setattr(__main__, "app", lambda *_, **__: None)
    assert __main__.run([]) == 0


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["serve", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.run(arguments) == 0
    assert "Usage: wiretape" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.run(["--version"]) == 0
    assert capsys.readouterr().out == f"wiretape {__version__}\n"


def test_help_loads_nothing_that_is_slow() -> None:
    slow = ("sqlalchemy", "alembic", "uvicorn", "starlette", "httpx2", "pydantic", "rich.console")
    program = (
        f"import sys, proxy.__main__; proxy.__main__.run(['--help']); print([m for m in {slow} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_left_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "proxy", "--help"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(tmp_path)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""

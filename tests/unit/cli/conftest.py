"""A home with a database in which each exchange is there for a reason, and ways to run commands on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from proxy.__main__ import run
from tests.support.databases import SQLITE, PostgresDatabase, SqliteDatabase
from tests.support.forked import forked
from tests.support.recordings import a_copy, recorded

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


Command = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path) -> Iterator[None]:
    """No settings of the machine's user, and a clock of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WIRETAPE_")]:
            patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        patch.setenv("TZ", "UTC-5:30")  # POSIX counts the other way: half past five when it is midnight in UTC
        patch.chdir(tmp_path)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def database(kind: str, home: Path) -> Iterator[SqliteDatabase | PostgresDatabase]:
    with a_copy(kind, home / "wiretape.db") as copy:
        yield copy


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def ids(kind: str) -> dict[str, UUID]:
    """What is recorded, by the name that recordings.py gives it, the oldest first."""
    return recorded(kind).ids


@pytest.fixture(autouse=True)
def _chosen(request: pytest.FixtureRequest) -> Iterator[None]:
    """The database that commands find by themselves."""
    with pytest.MonkeyPatch.context() as patch:
        if "kind" in request.fixturenames:
            url = request.getfixturevalue("database").url
            if request.getfixturevalue("kind") != SQLITE:
                patch.setenv("WIRETAPE_DATABASE", url)
        yield


@pytest.fixture
def wiretape(database: object, home: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run a command in this process."""

    def command(*arguments: object) -> Ran:
        capsysbinary.readouterr()
        code = run(["--home", str(home), *map(str, arguments)])
        out, err = capsysbinary.readouterr()
        return Ran(code, out, err.decode())

    return command


@pytest.fixture
def terminal(database: object, home: Path, tmp_path: Path) -> Command:
    """Run a command on a terminal; `out` is what it would show, both streams of it. `typed` is typed at once.

    `anew`: by an interpreter of its own, as a shell begins it.
    """

    def command(*arguments: object, columns: int = 100, typed: bytes = b"", anew: bool = False) -> Ran:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.write(ours, typed)
        words = ["--home", str(home), *map(str, arguments)]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "FORCE_COLOR": "1"}
        variables.pop("COLUMNS", None)
        with (
            _started(theirs, words, tmp_path, variables) if anew else forked(theirs, words, tmp_path, variables) as end
        ):
            try:
                shown = _all_of(ours)
                return Ran(end(), shown.replace(b"\r\n", b"\n"), "")
            finally:
                os.close(ours)

    return command


@contextmanager
def _started(fd: int, words: list[str], folder: Path, variables: dict[str, str]) -> Iterator[Callable[[], int]]:
    call = [sys.executable, "-m", "proxy", *words]
    child = subprocess.Popen(call, stdin=fd, stdout=fd, stderr=fd, cwd=folder, env=variables)
    os.close(fd)
    try:
        yield lambda: child.wait(30)
    finally:
        child.kill()
        child.wait()


def _all_of(fd: int, seconds: float = 60.0) -> bytes:
    shown, deadline = b"", time.monotonic() + seconds
    while select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return shown
        if not data:
            return shown
        shown += data
    raise AssertionError(f"the command did not end: {shown!r}")


CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def tame(shown: bytes | str) -> bool:
    """Whether a terminal would only print it: valid UTF-8, and no control characters but newlines and tabs."""
    text = shown.decode() if isinstance(shown, bytes) else shown
    return CONTROLS.search(text) is None

"""The home folder and the fingerprint key in it."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config import fingerprint_key, prepare_home
from proxy.errors import UsageError


def test_home_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "some/where"
    prepare_home(home)
    prepare_home(home)
    for made in (home, home / "journal", home / "status"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/wiretape", "/dev/full"])
def test_a_home_that_cannot_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"^/\S+ cannot be made or written \(.+\); set home \(WIRETAPE_HOME\)"
    ) as caught:
        prepare_home(tmp_path / place)
    assert caught.value.exit_code == 2


def test_a_file_where_the_journal_should_be(tmp_path: Path) -> None:
    (tmp_path / "journal").touch()
    with pytest.raises(UsageError, match=r"/journal cannot be made or written"):
        prepare_home(tmp_path)


def test_the_fingerprint_key_is_made_once(tmp_path: Path) -> None:
    key = fingerprint_key(tmp_path, {})
    assert len(key) == 32
    assert fingerprint_key(tmp_path, {}) == key
    assert [path.name for path in tmp_path.iterdir()] == ["fingerprint.key"]
    file = tmp_path / "fingerprint.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert fingerprint_key(tmp_path / "other", {"WIRETAPE_FINGERPRINT_KEY": file.read_text()}) == key
    assert fingerprint_key(tmp_path, {"WIRETAPE_FINGERPRINT_KEY": "ab" * 32}) == b"\xab" * 32


def test_racing_processes_get_one_key(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from proxy.config import fingerprint_key; print('ready', flush=True); "
        "sys.stdin.read(1); print(fingerprint_key(pathlib.Path(sys.argv[1]), {}).hex())"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    keys = {racer.communicate("x")[0].strip() for racer in racers}
    assert keys == {fingerprint_key(tmp_path, {}).hex()}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", ["", "xyz", "ab" * 31, "s3cret" * 11, "é" * 64])
def test_a_damaged_key_is_told_without_being_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "fingerprint.key").write_text(text)
    with pytest.raises(UsageError, match=r"fingerprint\.key is damaged; .* must hold 64 hexadecimal digits") as caught:
        fingerprint_key(tmp_path, {})
    assert not text or text not in str(caught.value)
    with pytest.raises(UsageError, match=r"^WIRETAPE_FINGERPRINT_KEY must be 64 hexadecimal digits"):
        fingerprint_key(tmp_path, {"WIRETAPE_FINGERPRINT_KEY": text or " "})


def test_a_key_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be made or written"):
        fingerprint_key(tmp_path / "missing", {})

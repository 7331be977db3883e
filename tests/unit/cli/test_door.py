"""What commands share at the door: flags that win in order, the package's own installation, the first database."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from proxy.cli import door
from proxy.cli.door import Door, NothingRecorded
from proxy.config import load
from proxy.errors import UsageError


def test_flags_behind_the_command_win_over_those_before(tmp_path: Path) -> None:
    here = Door()
    here.say(None, "early", None, ["mine=http://one.example", "other=http://two.example"])
    here.say(tmp_path / "w.toml", "late", "sqlite:///x.db", ["mine=http://three.example"])
    here.set("forward", port=7, host=None)
    assert here.config == tmp_path / "w.toml"
    assert here.overrides == {
        "home": "late",
        "database": "sqlite:///x.db",
        "upstreams.mine.url": "http://three.example",
        "upstreams.other.url": "http://two.example",
        "forward.port": 7,
    }


def test_an_upstream_without_an_address_is_refused() -> None:
    with pytest.raises(UsageError, match="NAME=URL"):
        Door().say(None, None, None, ["mine"])


def test_before_anything_was_recorded_there_is_no_database(tmp_path: Path) -> None:
    settings = load(None, {"HOME": str(tmp_path)}, {"home": str(tmp_path / "home")})
    with pytest.raises(NothingRecorded, match="start `wiretape serve`"):
        door.store(settings)
    assert not (tmp_path / "home").exists()


def install(folder: Path, name: str, *files: str) -> None:
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in (*files, f"{name}-1.0.dist-info/RECORD")))


def test_another_distribution_with_a_package_named_proxy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "wiretape", "proxy/__init__.py", "proxy/errors.py")
    install(tmp_path, "innocent", "innocent/proxy/__init__.py", "tests/proxy/__init__.py")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "nowhere")])
    door.check_installation()
    install(tmp_path, "proxy.py", "proxy/__init__.py", "proxy/http/__init__.py")
    install(tmp_path, "other", "a.py", "proxy/__init__.py")
    with pytest.raises(UsageError, match=r"^other, proxy\.py installs .*pip uninstall other proxy\.py"):
        door.check_installation()

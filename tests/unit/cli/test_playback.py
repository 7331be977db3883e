"""`playback`, as a command: what is wrong with its words is told before anything is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command


@pytest.mark.engines("sqlite")
def test_a_fault_that_is_none_is_one_sentence(wiretape: Command) -> None:
    ran = wiretape("playback", "--port", "0", "--fault", "cutt=5")
    assert (ran.code, ran.out) == (2, b"")
    assert "playback.fault: 'cutt=5' is no fault (did you mean cut?); the faults are cut=K" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.engines("sqlite")
def test_so_is_one_of_the_configuration(wiretape: Command, tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text('[playback]\nport = 0\nfault = "times=1"\n')
    ran = wiretape("playback", "--config", file)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "playback.fault: 'times=1' has no fault in it" in ran.err

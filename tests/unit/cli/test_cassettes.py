"""`export cassette` and `import cassette`, as commands."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from tests.support.recordings import EVENTS
from tests.unit.cli.conftest import Command

Ids = dict[str, UUID]


def test_out_and_in_again(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file = tmp_path / "a.cassette"
    ran = wiretape("export", "cassette", ids["stream"], ids["packed"], "--output", file)
    assert (ran.code, ran.out, ran.err) == (0, b"", "")
    assert file.stat().st_mode & 0o777 == 0o600
    assert '\n>~ {"model":"m"}\n< 200 OK\n' in file.read_text()
    again = wiretape("import", "cassette", file)
    assert (again.code, again.text) == (0, "0 exchanges imported; 2 exchanges there already\n")
    assert wiretape("delete", ids["stream"], "--yes").code == 0
    assert wiretape("import", "cassette", file).text == "1 exchange imported; 1 exchange there already\n"
    assert wiretape("replay", ids["stream"], "--speed", "instant").out == b"".join(EVENTS)
    assert wiretape("show", ids["stream"], "--format", "json").json["origin"] == "import"


def test_what_cannot_be_played_is_told(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "cassette", "--since", "1d")
    assert ran.code == 0
    assert ran.text.startswith("wiretape cassette 1 (wiretape ")
    assert "cannot be played" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello\n", "line 1: this is no cassette"),
        ("", "line 0: this is no cassette"),
        ("wiretape cassette 2 (wiretape 9.1)\n", "wiretape 9.1 or later reads it"),
        ("wiretape cassette 1 (wiretape 0.1.0)\n", "line 1: the cassette is cut off"),
    ],
)
def test_a_bad_cassette_is_one_sentence(wiretape: Command, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad"
    file.write_text(text)
    ran = wiretape("import", "cassette", file)
    assert (ran.code, ran.out) == (2, b"")
    assert says in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.engines("sqlite")
def test_faults_stay_in_their_cassette(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file = tmp_path / "a.cassette"
    assert wiretape("export", "cassette", ids["stream"], "--output", file).code == 0
    file.write_text(file.read_text().replace("\n> POST", "\nfault cut=1\n> POST"))
    ran = wiretape("import", "cassette", file)
    assert (ran.code, ran.err.count("\n")) == (0, 1)
    assert "its faults are not kept" in ran.err

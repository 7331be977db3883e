"""`import jsonl` and `import har`, as commands."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tests.support.databases import a_database
from tests.support.recordings import oldest_first
from tests.unit.cli.conftest import Command, tame

Ids = dict[str, UUID]


def test_jsonl_out_in_and_out_again(wiretape: Command, ids: Ids, kind: str, tmp_path: Path) -> None:
    assert wiretape("credentials", "name", "0123", "the tests").code == 0
    assert wiretape("reinterpret", "--since", "2d").code == 0
    file = tmp_path / "a.jsonl"
    assert wiretape("export", "jsonl", "--output", file).code == 0
    written = [line for line in file.read_bytes().splitlines() if msgspec.json.decode(line)["outcome"] is not None]
    assert len(written) == len(ids) - 1
    with a_database(kind, tmp_path) as other:
        there = ("--database", other.url)
        ran = wiretape("import", "jsonl", file, *there)
        assert (ran.code, ran.text) == (0, f"{len(written)} exchanges imported\n")
        assert ran.err == "wiretape: left out 1 exchange that were still running when they were written\n"
        assert wiretape("export", "jsonl", *there).out.splitlines() == written
        again = wiretape("import", "jsonl", file, *there)
        assert again.text == f"0 exchanges imported; {len(written)} exchanges there already\n"
        shown = wiretape("show", ids["stream"], "--format", "json", *there).json
        assert (shown["origin"], shown["counted"], shown["credential_name"]) == ("import", False, "the tests")
        assert wiretape("spend", "--format", "json", *there).json["total"]["requests"] == 0


@pytest.mark.engines("sqlite")
def test_a_torn_file_is_taken_in_again_once_it_is_whole(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file, home = tmp_path / "a.jsonl", tmp_path / "new"
    whole = wiretape("export", "jsonl", "--until", "90m").out
    file.write_bytes(whole[:-20])
    ran = wiretape("import", "jsonl", file, "--home", home)
    count = whole.count(b"\n")
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err == (
        f"wiretape: {count - 1} exchanges imported\n"
        f"wiretape: {file}, line {count}: this is no whole JSON object, and the file ends in it\n"
    )
    file.write_bytes(whole)
    ran = wiretape("import", "jsonl", file, "--home", home)
    assert ran.text == f"1 exchange imported; {count - 1} exchanges there already\n"


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("command", ["jsonl"])
def test_what_is_no_such_file_is_one_sentence(wiretape: Command, ids: Ids, command: str, tmp_path: Path) -> None:
    (tmp_path / "hostile").write_bytes(b'{"\x1b[2J')
    for name in ("missing", "", "hostile"):
        ran = wiretape("import", command, tmp_path / name)
        assert (ran.code, ran.out) == (2, b"")
        assert ran.err.count("\n") == 1
        assert tame(ran.err)


@pytest.mark.engines("sqlite")
def test_progress_on_a_terminal(terminal: Command, wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    assert wiretape("export", "jsonl", *oldest_first(ids, ("stream", "packed")), "--output", file).code == 0
    ran = terminal("import", "jsonl", file)
    assert ran.code == 0
    assert ran.text.endswith("0 exchanges imported; 2 exchanges there already\n")
    size = file.stat().st_size / 1000
    assert f"{size:.1f}/{size:.1f} kB" in ran.text

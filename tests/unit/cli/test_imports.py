"""`import jsonl` and `import har`, as commands."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tests.support.archives import validate
from tests.support.browsers import EVENTS, KEY, archive, of_chrome, of_firefox
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


def test_har_of_ours_comes_in_as_it_went_out(wiretape: Command, ids: Ids, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.har"
    names = ("stream", "hostile", "packed", "broken", "refused", "lossy")
    assert wiretape("export", "har", *oldest_first(ids, names), "--output", file).code == 0
    with a_database(kind, tmp_path) as other:
        there = ("--database", other.url)
        ran = wiretape("import", "har", file, *there)
        assert (ran.code, ran.text, ran.err) == (0, "6 exchanges imported\n", "")
        went = validate(msgspec.json.decode(file.read_bytes()))
        came_out = validate(wiretape("export", "har", *there).json)
        for entry in (*went, *came_out):
            # What the data port would not have recorded so: cookies, and the time of a head that there is not.
            headers = entry["response"]["headers"]
            entry["response"]["headers"] = [each for each in headers if each["name"] != "Set-Cookie"]
            if not entry["response"]["status"]:
                del entry["timings"]
        assert came_out == went
        for name in names:
            if name == "refused":
                continue
            here, came = (wiretape("show", ids[name], "--format", "json", *where).json for where in ((), there))
            for facts in (here, came):
                facts["chunks"] = [each | {"seq": 0} for each in facts["chunks"]]
            same = ("chunks", "started", "target", "tags", "session", "credential", "wire_end", "head_us", "end_us")
            assert {each: here[each] for each in same} == {each: came[each] for each in same}, name
        assert wiretape("import", "har", file, *there).text == "0 exchanges imported; 6 exchanges there already\n"


@pytest.mark.engines("sqlite")
def test_har_of_a_browser(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file, home = tmp_path / "browser.har", tmp_path / "new"
    urls = ("www.example.com/a", "www.example.com/b", "a.example/")
    elsewhere = [of_chrome(f"https://{url}?key={KEY}") for url in urls]
    file.write_bytes(msgspec.json.encode(archive(of_chrome(), of_firefox(), *elsewhere)))
    ran = wiretape("import", "har", file, "--home", home)
    assert (ran.code, ran.text) == (0, "2 exchanges imported\n")
    assert ran.err == (
        "wiretape: left out 3 requests to hosts that are no upstream (www.example.com, a.example): "
        "`--upstream NAME=URL` names one, `--all` takes in all\n"
    )
    shown = wiretape("ls", "--upstream", "openai", "--format", "json", "--home", home).json
    assert [(each["origin"], each["model_asked"], each["counted"]) for each in shown] == [("import", "m", False)]
    chat = wiretape("show", shown[0]["id"], "--format", "json", "--home", home).json
    assert chat["text"] == "Grüße"
    assert wiretape("replay", shown[0]["id"], "--speed", "instant", "--home", home).text == EVENTS
    ran = wiretape("import", "har", file, "--home", home, "--upstream", "mine=https://a.example")
    assert ran.text == "1 exchange imported; 2 exchanges there already\n"
    ran = wiretape("import", "har", file, "--home", home, "--all")
    assert (ran.text, ran.err) == ("2 exchanges imported; 3 exchanges there already\n", "")
    written = b"".join(each.read_bytes() for each in home.glob("wiretape.db*"))
    for secret in (KEY, "top-secret-cookie", "secret-one"):
        assert secret.encode() not in written


@pytest.mark.engines("sqlite")
def test_har_that_is_wrong_says_where(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file = tmp_path / "\x1b[2J.har"
    file.write_bytes(msgspec.json.encode(archive(of_chrome(), {"request": {}})))
    ran = wiretape("import", "har", file, "--home", tmp_path / "new")
    assert (ran.code, ran.out, tame(ran.err)) == (2, b"", True)
    assert ran.err.startswith("wiretape: 1 exchange imported\n")
    assert "entry 2 cannot be taken in: its request has no method, or no url" in ran.err


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("command", ["jsonl", "har"])
def test_what_is_no_such_file_is_one_sentence(wiretape: Command, ids: Ids, command: str, tmp_path: Path) -> None:
    (tmp_path / "hostile").write_bytes(b'{"\x1b[2J')
    for name in ("missing", "", "hostile"):
        ran = wiretape("import", command, tmp_path / name)
        assert (ran.code, ran.out) == (2, b"")
        assert ran.err.count("\n") == 1
        assert tame(ran.err)


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("form", ["jsonl", "har"])
def test_progress_on_a_terminal(terminal: Command, wiretape: Command, ids: Ids, form: str, tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert wiretape("export", form, *oldest_first(ids, ("stream", "packed")), "--output", file).code == 0
    ran = terminal("import", form, file)
    assert ran.code == 0
    assert ran.text.endswith("0 exchanges imported; 2 exchanges there already\n")
    size = file.stat().st_size / 1000
    assert f"{size:.1f}/{size:.1f} kB" in ran.text

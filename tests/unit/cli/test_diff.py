"""`diff`: exchanges beside one another, hostile ones among them."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from tests.support.databases import SqliteDatabase
from tests.unit.cli.conftest import Command, tame
from tests.unit.cli.meanings import understand

Ids = dict[str, UUID]


@pytest.fixture(autouse=True)
def _understood(database: SqliteDatabase, ids: Ids) -> None:
    understand(database.url, ids)


def test_two(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("diff", ids["stream"], ids["packed"])
    rows = [line.split("\t") for line in ran.lines[:2]]
    assert [row[1] for row in rows] == [str(ids["stream"]), str(ids["packed"])]
    assert rows[0][6:8] == ["1,364", "40"]
    assert '  model  "m" → (none)' in ran.lines
    assert ran.code == 0


def test_more_than_two_have_a_spread(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("diff", *[ids[name] for name in ("stream", "packed", "lossy")])
    assert [line.partition("\t")[0] for line in ran.lines[:6]] == ["1", "2", "3", "min", "med", "max"]


def test_hostile_words_are_tame(wiretape: Command, terminal: Command, ids: Ids) -> None:
    every = [ids[name] for name in ids]
    for form in ("table", "json"):
        ran = wiretape("diff", *every, "--format", form)
        assert (ran.code, tame(ran.out)) == (0, True)
    assert tame(terminal("diff", *every, columns=70).out)


def test_what_cannot_be_compared(wiretape: Command, ids: Ids) -> None:
    for arguments in ([ids["stream"]], [ids["stream"], ids["stream"]], [ids["stream"], "--resends"]):
        ran = wiretape("diff", *arguments)
        assert (ran.code, "one exchange alone cannot be compared" in ran.err) == (2, True)


def test_the_first_name_is_what_others_are_compared_with(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("diff", ids["packed"], ids["stream"], ids["packed"])
    assert [line.split("\t")[1] for line in ran.lines[:2]] == [str(ids["packed"]), str(ids["stream"])]


def test_by_filters(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("diff", "--limit", 3, "--format", "json")
    assert len(json.loads(ran.out)["exchanges"]) == 3
    ran = wiretape("diff", "--upstream", "openai", ids["stream"])
    assert (ran.code, "either ids or filters" in ran.err) == (2, True)
    ran = wiretape("diff")
    assert (ran.code, "say which exchanges" in ran.err) == (2, True)


def test_sets(wiretape: Command, ids: Ids) -> None:
    named = [ids[name] for name in ("stream", "packed", "lossy")]
    ran = wiretape("diff", *named, "--by", "model", "--format", "json")
    said = {each["set"]: each for each in json.loads(ran.out)}
    rows = {each["id"]: each for each in json.loads(wiretape("diff", *named, "--format", "json").out)["exchanges"]}
    assert sum(each["exchanges"] for each in said.values()) == 3
    model = rows[str(ids["stream"])]["model"] or "-"
    same = [each for each in rows.values() if (each["model"] or "-") == model]
    outs = sorted(each["output_tokens"] for each in same if each["output_tokens"] is not None)
    spread = said[model]["spread"]["output_tokens"]
    assert (spread["least"], spread["most"], spread["known"]) == (outs[0], outs[-1], len(outs))
    ran = wiretape("diff", "--limit", 100, "--by", "tag:project")
    shown = [line.split("\t")[3] for line in ran.lines]
    assert shown == ["min", "med", "max"] * (len(shown) // 3)
    assert tame(ran.out)


@pytest.mark.parametrize("by", ["color", "tag:", "tag", "Model"])
def test_no_way_to_make_sets(wiretape: Command, ids: Ids, by: str) -> None:
    ran = wiretape("diff", ids["stream"], "--by", by)
    assert (ran.code, "use model, upstream, session, status, origin or tag:NAME" in ran.err) == (2, True)

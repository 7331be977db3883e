"""`diff`: exchanges beside one another, hostile ones among them."""

from __future__ import annotations

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

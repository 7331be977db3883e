"""`delete`: asks, leaves what runs, and says what it did."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from tests.support.recordings import EVENTS, newest_first
from tests.unit.cli.conftest import Command

Ids = dict[str, UUID]


def left(wiretape: Command) -> list[str]:
    return [each["id"] for each in wiretape("ls", "--format", "json").json]


def test_by_id(wiretape: Command, ids: Ids, home: Path) -> None:
    ran = wiretape("delete", "--yes", ids["stream"], str(ids["lossy"])[:30], ids["stream"])
    assert (ran.code, ran.text) == (0, "2 exchanges deleted\n")
    assert left(wiretape) == [each for each in newest_first(ids) if each not in (str(ids["stream"]), str(ids["lossy"]))]
    assert wiretape("show", ids["stream"]).code == 2
    assert wiretape("db", "check").code == 0
    assert all(EVENTS[0] not in file.read_bytes() for file in home.iterdir())


def test_by_filter_leaves_what_runs(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("delete", "--yes", "--upstream", "openai")
    assert ran.text == "6 exchanges deleted; 1 still running stays\n"
    assert left(wiretape) == newest_first(ids, "running", "hostile")


def test_what_runs_stays(wiretape: Command, ids: Ids) -> None:
    for arguments in (["last"], ["--outcome", "open"]):
        ran = wiretape("delete", *arguments)
        assert (ran.code, ran.text) == (0, "0 exchanges deleted; 1 still running stays\n")
    assert left(wiretape) == newest_first(ids)


def test_nobody_to_ask(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("delete", "--since", "5h")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert left(wiretape) == newest_first(ids)


@pytest.mark.parametrize(("typed", "code", "count"), [(b"y\n", 0, 7), (b"n\n", 1, 8), (b"\n", 1, 8)])
def test_asks_on_a_terminal(
    terminal: Command, wiretape: Command, ids: Ids, typed: bytes, code: int, count: int
) -> None:
    ran = terminal("delete", ids["packed"], typed=typed)
    assert "Delete 1 exchange?" in ran.text
    assert ran.code == code
    assert len(left(wiretape)) == count
    assert ("nothing was deleted" in ran.text) == bool(code)


@pytest.mark.parametrize("arguments", [[], ["last", "--since", "1h"]])
def test_either_ids_or_filters(wiretape: Command, ids: Ids, arguments: list[str]) -> None:
    assert wiretape("delete", "--yes", *arguments).code == 2
    assert left(wiretape) == newest_first(ids)


def test_an_id_that_is_not_there_deletes_nothing(wiretape: Command, ids: Ids) -> None:
    assert wiretape("delete", "--yes", ids["stream"], "ffffffff").code == 2
    assert left(wiretape) == newest_first(ids)

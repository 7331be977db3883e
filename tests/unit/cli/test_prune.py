"""`prune` says what would go, asks, and takes it out by class."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from tests.support.databases import SqliteDatabase
from tests.unit.cli.conftest import Command

Ids = dict[str, UUID]


def test_a_dry_run_changes_nothing(wiretape: Command, database: SqliteDatabase) -> None:
    before = database.query("SELECT count(*) FROM chunks")
    ran = wiretape("prune", "--chunks", "125m", "--dry-run")
    assert ran.code == 0
    assert ran.lines == ["the chunks of 4 exchanges would go"]
    assert database.query("SELECT count(*) FROM chunks") == before
    known = wiretape("prune", "--chunks", "125m", "--dry-run", "--format", "json").json
    assert known == [{"name": "chunks", "exchanges": 4, "still_open": 0, "partitions": []}]


def test_what_went_is_said(wiretape: Command, database: SqliteDatabase, ids: Ids) -> None:
    ran = wiretape("prune", "--exchanges", "185m", "--chunks", "125m", "--yes")
    assert ran.code == 0, ran.err
    assert ran.lines[-1] == "5 exchanges went"
    left = {UUID(bytes=bytes(row[0])) for row in database.query("SELECT id FROM exchanges")}
    assert left == {ids[name] for name in ("refused", "lossy", "running")}
    assert wiretape("replay", ids["lossy"]).code != 0 or database.query("SELECT count(*) FROM chunks") != [(0,)]


def test_what_runs_stays(wiretape: Command, database: SqliteDatabase) -> None:
    ran = wiretape("prune", "--exchanges", "1s", "--yes")
    assert "7 exchanges went; 1 still running stays" in ran.text
    assert database.query("SELECT count(*) FROM exchanges") == [(1,)]


def test_by_the_configuration(wiretape: Command) -> None:
    Path("wiretape.toml").write_text('[retention]\nbodies = "125m"\n')
    ran = wiretape("prune", "--dry-run")
    assert "the bodies of 4 exchanges would go" in ran.text
    assert "the bodies" not in wiretape("prune", "--bodies", "none", "--chunks", "1d", "--dry-run").text


def test_nothing_to_do_says_how(wiretape: Command) -> None:
    ran = wiretape("prune")
    assert ran.code == 2
    assert "--chunks 30d" in ran.err


@pytest.mark.parametrize("age", ["soon", "-3d", ""])
def test_an_age_that_is_none(wiretape: Command, age: str) -> None:
    ran = wiretape("prune", "--chunks", age)
    assert ran.code == 2
    assert "retention.chunks" in ran.err
    assert ran.err.count("\n") == 1


def test_nobody_to_ask(wiretape: Command, database: SqliteDatabase) -> None:
    ran = wiretape("prune", "--chunks", "125m")
    assert ran.code == 2
    assert "give --yes" in ran.err
    assert database.query("SELECT count(*) FROM chunks") != [(0,)]


@pytest.mark.parametrize(("typed", "left"), [(b"y\n", 3), (b"n\n", 8)])
def test_asks_on_a_terminal(terminal: Command, database: SqliteDatabase, typed: bytes, left: int) -> None:
    terminal("prune", "--exchanges", "185m", typed=typed)
    assert database.query("SELECT count(*) FROM exchanges") == [(left,)]

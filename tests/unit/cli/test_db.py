"""`db`: the database is made, brought to this version, and looked over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.databases import SqliteDatabase
from tests.unit.cli.conftest import Command, tame


def test_as_it_should_be(wiretape: Command) -> None:
    ran = wiretape("db", "check")
    assert ran.code == 0
    assert "8 exchanges (1 running)" in ran.text
    known = wiretape("db", "check", "--format", "json").json
    assert (known["differences"], known["losses"]) == ([], [])
    assert known["counts"]["outcomes"]["open"] == 1


def test_differences_are_listed(wiretape: Command, database: SqliteDatabase) -> None:
    database.execute('DROP INDEX exchanges_status; ALTER TABLE gaps ADD COLUMN "\x1b[31m" TEXT')
    ran = wiretape("db", "check")
    assert ran.code == 1
    assert "index exchanges_status is missing" in ran.text
    assert "table gaps" in ran.text
    assert tame(ran.text)
    ran = wiretape("db", "check", "--format", "json")
    assert (ran.code, len(ran.json["differences"])) == (1, 2)


def test_what_the_journals_lost_is_listed(wiretape: Command, database: SqliteDatabase) -> None:
    database.execute("UPDATE journals SET highest_ordinal = highest_ordinal + 2, lost_records = 1")
    ran = wiretape("db", "check")
    assert ran.code == 1
    assert "2 of 10 exchanges never arrived" in ran.text
    assert "1 record could not be read" in ran.text


@pytest.mark.engines("sqlite")
def test_upgrade_makes_a_database(wiretape: Command, tmp_path: Path) -> None:
    home = tmp_path / "new"
    assert wiretape("--home", home, "db", "check").code == 2
    assert "was brought to revision" in wiretape("--home", home, "db", "upgrade").text
    assert "is at revision" in wiretape("db", "upgrade", "--home", home).text
    assert wiretape("--home", home, "db", "check").code == 0
    assert (home / "wiretape.db").stat().st_mode & 0o777 == 0o600


def test_a_newer_database_is_refused(wiretape: Command, database: SqliteDatabase) -> None:
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in (["ls"], ["db", "check"], ["db", "upgrade"], ["delete", "--yes", "last"]):
        ran = wiretape(*command)
        assert ran.code == 2
        assert "newer" in ran.err


@pytest.mark.engines("sqlite")
def test_a_file_that_is_no_database(wiretape: Command, home: Path) -> None:
    (home / "wiretape.db").write_bytes(b"not a database" * 100)
    for command in (["ls"], ["show", "last"], ["db", "check"], ["db", "upgrade"]):
        ran = wiretape(*command)
        assert (ran.code, ran.out) == (2, b"")
        assert ran.err.count("\n") == 1

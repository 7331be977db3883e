"""`db distribute` where there is a Citus, and where there is none."""

from __future__ import annotations

import pytest

from tests.support.databases import PostgresDatabase
from tests.unit.cli.conftest import Command
from tests.unit.store.test_citus import PLAYED


@pytest.mark.engines("postgres")
def test_said_and_done(wiretape: Command, database: PostgresDatabase) -> None:
    ran = wiretape("db", "distribute")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "CREATE EXTENSION citus" in ran.err
    database.execute(PLAYED)
    assert "tables distributed" in wiretape("db", "distribute").text
    assert "all tables are distributed already" in wiretape("db", "distribute").text


@pytest.mark.engines("sqlite")
def test_a_file_is_none(wiretape: Command) -> None:
    ran = wiretape("db", "distribute")
    assert ran.code == 2
    assert "is a file" in ran.err

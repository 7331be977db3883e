"""A database that is locked, renamed, replaced or not of this version: all waits in the journal, and goes on after."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import UsageError
from proxy.ingest.run import IngestOptions, run
from proxy.store.errors import DatabaseAway
from proxy.store.migrate import upgrade
from tests.support.databases import template
from tests.support.journals import House, append, exchange, merged, until, worker
from tests.unit.ingest.conftest import FINGERPRINT, Running

Start = Callable[..., Running]

COUNT = "SELECT count(*) FROM exchanges WHERE outcome = 0"


def count(path: Path) -> int:
    """Completed exchanges in a database file; 0 where there is none, or none with tables."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'exchange_list'").fetchone()
        return int(connection.execute(COUNT).fetchone()[0]) if made else 0


def stored(house: House, number: int) -> None:
    until(lambda: count(house.path) == number)


def test_locked_by_another(house: House) -> None:
    writer = house.journal()
    append(writer, exchange(1))
    house.drain()
    append(writer, exchange(2))
    with house.database.locked():
        for _ in range(3):
            with pytest.raises(DatabaseAway, match="locked by another"):
                house.drain()
            house.stop()
        assert house.one(COUNT) == 1
    house.drain()
    assert [row["lost_records"] for row in house.exchanges()] == [0, 0]
    assert house.one(COUNT) == 2


@pytest.mark.engines("sqlite")
def test_locked_as_long_as_segments_are_removed(house: House) -> None:
    """The rows are in, the removal is not: the next ingest cleans up."""
    house.record(exchange(1))
    house.execute(
        """CREATE TRIGGER no BEFORE INSERT ON meta WHEN NEW.key = 'durable_commit'
        BEGIN SELECT RAISE(ABORT, 'x'); END"""
    )
    with pytest.raises(Exception, match="refuses"):
        house.drain()
    house.stop()
    house.execute("DROP TRIGGER no")
    with closing(sqlite3.connect(house.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseAway):
            house.drain()
        house.stop()
    assert len(house.files) == 1
    house.drain()
    assert house.files == []
    assert count(house.path) == 1


# With the loop


def move(house: House, to: Path) -> None:
    """The database with what belongs to it."""
    for path in house.home.glob("wiretape.db*"):
        path.rename(to.with_name(path.name.replace("wiretape.db", to.name)))


@pytest.mark.engines("sqlite")
def test_renamed_away_and_back(house: House, running: Start) -> None:
    ingest = running()
    writer = house.journal()
    append(writer, exchange(1))
    stored(house, 1)
    aside = house.path.with_name("aside.db")
    house.path.rename(aside)
    append(writer, merged(exchange(2), exchange(3)))
    ingest.says("database", lambda said: "wiretape.db" in said)
    ingest.says("lag_bytes", lambda size: size > 0)
    append(writer, exchange(4))
    until(lambda: ingest.ingest._carrier is None)
    assert not house.path.exists(), "no new file is made"
    assert count(aside) <= 1, "and nothing more written into the one that was moved"
    aside.rename(house.path)
    stored(house, 4)
    ingest.says("database", lambda said: said == "ok")
    ingest.says("lag_bytes", lambda size: size == 0)
    assert all(len(house.body(number)) == 2 for number in range(1, 5))


@pytest.mark.engines("sqlite")
def test_renamed_while_nothing_happens(house: House, running: Start) -> None:
    """Whoever looks at the status must not need a request to see it."""
    ingest = running()
    ingest.says("database", lambda said: said == "ok")
    move(house, house.path.with_name("aside.db"))
    ingest.says("database", lambda said: "wiretape.db" in said)


@pytest.mark.engines("sqlite")
def test_replaced_by_another(house: House, running: Start) -> None:
    """What is still in the journal goes into the new one, from the beginning; the old one is left as it was."""
    running()
    writer = house.journal()
    append(writer, exchange(1))
    stored(house, 1)
    aside = house.path.with_name("aside.db")
    move(house, aside)
    shutil.copyfile(template(), house.path)
    append(writer, exchange(2))
    stored(house, 2)
    append(writer, exchange(3))
    stored(house, 3)
    assert count(aside) == 1


@pytest.mark.engines("sqlite")
def test_replaced_without_what_belongs_to_it(house: House, running: Start) -> None:
    """Only the main file is moved: what its log (-wal) holds goes with it, not into what takes its place."""
    ingest = running()
    writer = house.journal()
    append(writer, exchange(1))
    stored(house, 1)
    aside = house.path.with_name("aside.db")
    house.path.rename(aside)
    ingest.says("database", lambda said: "wiretape.db" in said)
    assert count(aside) == 1
    shutil.copyfile(template(), house.path)
    append(writer, exchange(2))
    stored(house, 2)
    assert count(aside) == 1


@pytest.mark.engines("sqlite")
def test_removed(house: House, running: Start) -> None:
    """A file that is gone was somebody's decision: ingest waits, and does not hide it behind a new one."""
    ingest = running()
    writer = house.journal()
    append(writer, exchange(1))
    stored(house, 1)
    for path in house.home.glob("wiretape.db*"):
        path.unlink()
    append(writer, exchange(2))
    ingest.says("database", lambda said: "cannot be opened" in said)
    assert not house.path.exists()
    writer.close()
    ingest.stop()
    assert not house.path.exists()
    assert len(house.files) == 1


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("create", [True, False])
def test_missing_at_the_start(house: House, running: Start, create: bool) -> None:
    house.path.unlink()
    house.record(exchange(1))
    ingest = running(create=create)
    if create:
        stored(house, 1)
        assert house.path.stat().st_mode & 0o777 == 0o600
    else:
        ingest.says("database", lambda said: "cannot be opened" in said)
        ingest.says("lag_bytes", lambda size: size == (house.folder / house.files[0]).stat().st_size)
        assert not house.path.exists()


@pytest.mark.engines("sqlite")
def test_newer_than_this_version(house: House, running: Start) -> None:
    """While it runs, somebody upgrades the database: from then on it belongs to the newer program."""
    ingest = running()
    writer = house.journal()
    append(writer, exchange(1))
    stored(house, 1)
    house.execute("CREATE TABLE kept AS SELECT * FROM alembic_version; UPDATE alembic_version SET version_num = 'f00'")
    until(lambda: ingest.ingest._carrier is None)
    append(writer, exchange(2))
    ingest.says("database", lambda said: "newer wiretape (revision f00" in said)
    ingest.says("lag_bytes", lambda size: size > 0)
    assert count(house.path) == 1
    assert ingest.alive
    house.execute("UPDATE alembic_version SET version_num = (SELECT version_num FROM kept)")
    stored(house, 2)


@pytest.mark.engines("sqlite")
def test_newer_at_the_start(house: House, running: Start) -> None:
    house.execute("UPDATE alembic_version SET version_num = 'f00'")
    house.record(exchange(1))
    ingest = running()
    ingest.says("database", lambda said: "newer wiretape" in said)
    ingest.stop()
    assert ingest.error is None
    assert len(house.files) == 1


@pytest.mark.engines("sqlite")
def test_without_tables(house: House, running: Start) -> None:
    """An empty file, as `create` leaves it, or a version's whose revisions are known: it is brought up."""
    house.path.write_bytes(b"")
    house.record(exchange(1))
    running(create=False)
    stored(house, 1)


# What waiting does not help


def options(house: House, **other: Any) -> IngestOptions:
    return IngestOptions(house.home, house.url, FINGERPRINT, upgrade, **other)


@pytest.mark.engines("sqlite")
def test_fingerprints_of_another_key(house: House, running: Start) -> None:
    house.record(exchange(1))
    first = running()
    stored(house, 1)
    first.stop()
    assert house.one("SELECT value FROM meta WHERE key = 'fingerprint_key_id'") == FINGERPRINT
    house.record(exchange(2), worker(2))
    other = running(fingerprint_id="another")
    until(lambda: not other.alive)
    assert isinstance(other.error, UsageError)
    assert "WIRETAPE_FINGERPRINT_KEY" in str(other.error)
    assert count(house.path) == 1
    assert len(house.files) == 1
    running()
    stored(house, 2)


@pytest.mark.engines("sqlite")
def test_a_database_url_that_cannot_work(house: House, running: Start) -> None:
    ingest = running(database="mysql://localhost/x")
    until(lambda: not ingest.alive)
    assert isinstance(ingest.error, UsageError)


@pytest.mark.engines("sqlite")
def test_one_ingest_a_home(house: House) -> None:
    """Two would store everything twice."""
    with (house.home / "ingest.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another ingest stores the journals of"):
            run(options(house))

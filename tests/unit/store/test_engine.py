"""Opening a SQLite file, what its transactions promise, and how its troubles are told."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine

from proxy.errors import UsageError
from proxy.store.engine import backend_of, open_engine, reading, writing
from proxy.store.errors import DatabaseAway, DatabaseMoved, ValueRefused
from proxy.store.write import Writer
from tests.support.databases import Opener, template
from tests.unit.store.support import sql


@pytest.fixture
def engine(open_file: Opener, file: Path) -> Engine:
    return open_file(file)


def test_a_missing_file_is_not_made_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "wiretape.db"
    with pytest.raises(DatabaseAway, match="cannot be opened"):
        open_engine(f"sqlite:///{path}", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_vanished_is_not_made_by_a_later_connection(file: Path, open_file: Opener) -> None:
    engine = open_file(file)
    engine.dispose()
    file.unlink()
    with pytest.raises(DatabaseAway), reading(engine):
        pass
    assert not file.exists()


def test_the_files_are_for_their_owner_only(tmp_path: Path, open_file: Opener) -> None:
    path = tmp_path / "new #%41.db"
    engine = open_file(path, create=True)
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
    made = sorted(tmp_path.iterdir())
    assert path in made
    assert [stat.S_IMODE(each.stat().st_mode) for each in made] == [0o600] * len(made)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatabaseAway, match="make its folder writable"):
        open_engine(f"sqlite:///{tmp_path}/nowhere/wiretape.db", create=True)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://user:se@cret@[/wiretape", "the database URL cannot be read: use postgresql://"),
        ("mysql://localhost/wiretape", "use sqlite:///PATH or postgresql://"),
        ("sqlite://", "use sqlite:///PATH"),
        ("sqlite:///", "names no plain file"),
        ("sqlite:///:memory:", "names no plain file"),
        ("sqlite:///a.db?mode=ro", "names no plain file"),
        ("wiretape.db", "cannot be read"),
    ],
)
def test_urls_that_cannot_work_are_the_users_to_mend(url: str, told: str) -> None:
    with pytest.raises(UsageError, match=told.replace("?", r"\?")):
        open_engine(url, create=True)


def test_the_settings_of_a_connection(engine: Engine) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 0, "secure_delete": 1, "auto_vacuum": 2}
    assert {name: sql(engine, f"PRAGMA {name}")[0][0] for name in wanted} == wanted
    assert sql(engine, "PRAGMA busy_timeout") == [(10_000,)]


def test_a_file_that_is_no_database_is_away(tmp_path: Path) -> None:
    path = tmp_path / "wiretape.db"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(DatabaseAway, match="is not a SQLite database"):
        open_engine(f"sqlite:///{path}", create=False)


def test_a_locked_database_is_away_for_writers_and_there_for_readers(file: Path, open_file: Opener) -> None:
    engine = open_file(file, busy_timeout=0.01)
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        writer = Writer(engine)
        with pytest.raises(DatabaseAway, match="is locked by another process"), writer.transaction():
            pytest.fail("began in spite of the lock")
        assert sql(engine, "SELECT count(*) FROM exchanges") == [(0,)]
        assert sql(open_file(file, busy_timeout=0.01), "SELECT count(*) FROM exchanges") == [(0,)]
        other.execute("ROLLBACK")
        with writer.transaction():
            writer.set_meta("a", "b")
    finally:
        other.close()
    assert sql(engine, "SELECT value FROM meta WHERE key = 'a'") == [("b",)]


def test_a_writer_waits_for_a_lock_that_is_let_go(engine: Engine, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, other.execute, ("ROLLBACK",))
    release.start()
    try:
        with writing(engine) as connection:
            connection.exec_driver_sql("INSERT INTO meta VALUES ('a', 'b')")
    finally:
        release.join()
        other.close()


def test_a_full_disk_is_away_and_leaves_the_transaction_undone(engine: Engine, writer: Writer) -> None:
    with writer.transaction():
        writer.set_meta("kept", "yes")
    pages = sql(engine, "PRAGMA page_count")[0][0]
    with reading(engine) as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DatabaseAway, match="disk is full"), writer.transaction():
        writer.set_meta("lost", "x" * 1_000_000)
    engine.dispose()
    assert sql(engine, "SELECT key FROM meta") == [("kept",)]


@pytest.mark.parametrize("change", ["renamed", "replaced", "removed"])
def test_nothing_is_written_into_a_file_that_was_taken_away(
    engine: Engine, writer: Writer, file: Path, change: str
) -> None:
    def take_away() -> None:
        file.rename(file.with_suffix(".old"))
        if change == "replaced":
            file.write_bytes(template().read_bytes())
        if change == "removed":
            file.with_suffix(".old").unlink()

    def write_meanwhile() -> None:
        with writer.transaction():
            writer.set_meta("during", "x")
            take_away()

    assert not backend_of(engine).moved()
    with pytest.raises(DatabaseMoved):
        write_meanwhile()
    assert backend_of(engine).moved()
    with pytest.raises(DatabaseMoved, match="renamed, replaced or removed"), writer.transaction():
        pytest.fail("began in a file that is not at its place")
    engine.dispose()
    with pytest.raises(DatabaseAway), reading(engine):
        pass
    if change == "renamed":
        file.with_suffix(".old").rename(file)
        assert not backend_of(engine).moved()
        assert sql(engine, "SELECT * FROM meta") == []


def test_a_replaced_file_can_be_opened_anew(writer: Writer, file: Path, open_file: Opener) -> None:
    file.rename(file.with_suffix(".old"))
    file.write_bytes(template().read_bytes())
    anew = Writer(open_file(file))
    with anew.transaction():
        anew.set_meta("a", "b")
    with pytest.raises(DatabaseMoved), writer.transaction():
        pass


def test_our_own_mistakes_stay_visible(engine: Engine) -> None:
    with pytest.raises(Exception, match="syntax error") as raised, reading(engine) as connection:
        connection.exec_driver_sql("SELEKT 1")
    assert not isinstance(raised.value, DatabaseAway | ValueRefused)


def test_a_table_that_is_not_there_names_the_next_step(tmp_path: Path, open_file: Opener) -> None:
    engine = open_file(tmp_path / "empty.db", create=True)
    with pytest.raises(DatabaseAway, match="wiretape db upgrade"):
        sql(engine, "SELECT * FROM exchanges")


@pytest.mark.parametrize("value", [2**63, "\ud800", object()], ids=["large", "surrogate", "object"])
def test_a_value_that_cannot_be_stored_is_refused_and_undone(engine: Engine, writer: Writer, value: object) -> None:
    def write() -> None:
        with writer.transaction():
            writer.set_meta("a", "b")
            writer._connection.exec_driver_sql("INSERT INTO names (kind, value) VALUES (1, ?)", (value,))

    with pytest.raises(ValueRefused) as raised:
        write()
    assert "INSERT" not in str(raised.value)
    assert sql(engine, "SELECT * FROM meta") == []


def test_a_durable_commit_is_synced_and_the_next_one_is_not(engine: Engine, writer: Writer) -> None:
    for durable, wanted in ((True, 2), (False, 1), (True, 2)):
        with writer.transaction(durable=durable):
            assert writer._connection.exec_driver_sql("PRAGMA synchronous").scalar() == wanted
    assert sql(engine, "PRAGMA synchronous") == [(1,)]


def test_a_durable_commit_without_rows_writes_all_the_same(engine: Engine, writer: Writer, file: Path) -> None:
    log = file.with_name(file.name + "-wal")
    with writer.transaction(durable=True):
        pass
    before = sql(engine, "SELECT value FROM meta"), log.stat().st_size
    with writer.transaction(durable=True):
        pass
    assert (sql(engine, "SELECT value FROM meta"), log.stat().st_size) > before


def test_a_durable_commit_that_fails_leaves_the_next_one_cheap(engine: Engine, writer: Writer) -> None:
    with pytest.raises(RuntimeError), writer.transaction(durable=True):
        raise RuntimeError
    assert sql(engine, "PRAGMA synchronous") == [(1,)]


def test_permissions_are_not_widened_for_a_file_that_is_there(file: Path, open_file: Opener) -> None:
    os.chmod(file, 0o640)  # noqa: PTH101 - the number is the point
    open_file(file, create=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640

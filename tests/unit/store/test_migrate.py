"""A database comes to this version's tables by the revisions, whole or not at all."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event

from proxy.errors import UsageError
from proxy.exchange import Origin, Outcome, WireEnd
from proxy.store import schema
from proxy.store.engine import backend_of, check_version, execute, is_shared, open_engine, reading
from proxy.store.errors import DatabaseTooNew, DatabaseTooOld
from proxy.store.migrate import migrations_folder, schema_differences, upgrade
from proxy.store.rows import Exchange, ExchangeRow
from proxy.store.schema_views import views
from tests.support.databases import Opener, SqliteDatabase
from tests.unit.store.support import sql


def test_the_revisions_give_exactly_the_tables_of_the_schema(engine: Engine) -> None:
    wanted, found = backend_of(engine).shapes(engine)
    assert found == wanted
    assert schema_differences(engine) == []
    assert {f"view {name}" for name in views(postgres=is_shared(engine))} <= found.keys()


def test_the_schema_knows_every_revision_there_is() -> None:
    script = ScriptDirectory(str(migrations_folder()))
    assert tuple(each.revision for each in script.walk_revisions())[::-1] == schema.REVISIONS


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DROP INDEX exchanges_session", "index exchanges_session is missing"),
        ("DROP VIEW headers", "view headers is missing"),
        ("ALTER TABLE gaps ADD COLUMN mood TEXT", "table gaps: column mood is not of this version"),
        ("ALTER TABLE usage_raw DROP COLUMN data", "table usage_raw: column data is missing"),
        ("CREATE TABLE mine (a int)", None),
    ],
)
def test_differences_are_told(place: SqliteDatabase, engine: Engine, statement: str, told: str | None) -> None:
    place.execute(statement)
    assert schema_differences(engine) == ([] if told is None else [told])


def test_an_index_with_another_condition_is_a_difference(place: SqliteDatabase, engine: Engine) -> None:
    place.execute("DROP INDEX exchanges_failed; CREATE INDEX exchanges_failed ON exchanges (id) WHERE status >= 500")
    (told,) = schema_differences(engine)
    assert "status >= 500" in told
    assert "should be" in told


def test_an_upgrade_is_done_once(tmp_path: Path, open_file: Opener) -> None:
    engine = open_file(tmp_path / "wiretape.db", create=True)
    with pytest.raises(DatabaseTooOld, match="has no tables yet: run `wiretape db upgrade`"):
        check_version(engine)
    upgrade(engine)
    check_version(engine)
    written = sql(engine, "PRAGMA data_version")
    upgrade(engine)
    assert sql(engine, "PRAGMA data_version") == written
    assert sql(engine, "PRAGMA auto_vacuum") == [(2,)]


@pytest.mark.parametrize(
    "at",
    [
        "CREATE TABLE alembic_version",
        "CREATE TABLE exchanges",
        "CREATE INDEX exchanges_slow",
        "CREATE VIEW tags",
        "INSERT INTO alembic_version",
    ],
)
def test_an_interrupted_upgrade_leaves_the_old_state_and_can_run_again(
    tmp_path: Path, open_file: Opener, at: str
) -> None:
    engine = open_file(tmp_path / "wiretape.db", create=True)

    def interrupt(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.strip().startswith(at):
            raise KeyboardInterrupt

    event.listen(engine, "before_cursor_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        upgrade(engine)
    event.remove(engine, "before_cursor_execute", interrupt)
    assert sql(engine, "SELECT name FROM sqlite_master") == []
    upgrade(engine)
    assert schema_differences(engine) == []
    check_version(engine)


def test_an_empty_file_of_another_program_gives_pages_back_all_the_same(tmp_path: Path, open_file: Opener) -> None:
    path = tmp_path / "wiretape.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("DROP TABLE t")
    connection.close()
    engine = open_file(path)
    upgrade(engine)
    assert sql(engine, "PRAGMA auto_vacuum") == [(2,)]


def test_a_newer_database_is_refused(place: SqliteDatabase, engine: Engine) -> None:
    place.execute("UPDATE alembic_version SET version_num = '0999'")
    told = rf"was written by a newer wiretape \(revision 0999, this one knows up to {schema.REVISIONS[-1]}\)"
    with pytest.raises(DatabaseTooNew, match=told):
        check_version(engine)
    with pytest.raises(DatabaseTooNew, match=told):
        upgrade(engine)
    newest = schema.REVISIONS[-1]
    place.execute(f"UPDATE alembic_version SET version_num = '{newest}'")  # noqa: S608 - ours


def test_an_older_database_names_the_next_step(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.store.engine.REVISIONS", (*schema.REVISIONS, "0999"))
    with pytest.raises(DatabaseTooOld, match="run `wiretape db upgrade`"):
        check_version(engine)


def test_revisions_go_forward_only() -> None:
    script = ScriptDirectory(str(migrations_folder()))
    for each in script.walk_revisions():
        with pytest.raises(NotImplementedError, match="forward only"):
            each.module.downgrade()


def test_the_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_file: Opener) -> None:
    odd = tmp_path / "50% of (these)"
    odd.symlink_to(migrations_folder())
    monkeypatch.setattr("proxy.store.migrate.migrations_folder", lambda: odd)
    engine = open_file(tmp_path / "wiretape.db", create=True)
    upgrade(engine)
    check_version(engine)


def test_the_folder_in_the_package_comes_first(tmp_path: Path) -> None:
    package = tmp_path / "proxy"
    (package / "_migrations").mkdir(parents=True)
    assert migrations_folder(package) == package / "_migrations"
    (package / "_migrations").rmdir()
    assert migrations_folder(package) == tmp_path / "migrations"


def test_a_file_of_another_program_is_left_alone(tmp_path: Path, open_file: Opener) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (a)")
    connection.close()
    with pytest.raises(UsageError, match="holds another program's tables: name another file"):
        upgrade(open_file(path))
    assert sql(open_file(path), "SELECT name FROM sqlite_master") == [("meta",)]


def test_two_processes_may_upgrade_at_once(tmp_path: Path, open_file: Opener) -> None:
    engines = [open_file(tmp_path / "wiretape.db", create=True) for _ in range(4)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(upgrade, engines))
    for engine in engines:
        check_version(engine)
    assert schema_differences(engines[0]) == []


def test_rows_have_a_place_for_every_column() -> None:
    elsewhere = {"tag_set", "target_long"}
    fields = set(Exchange.__dataclass_fields__) - {"tags"}
    assert fields == {column.name for column in schema.exchanges.c} - elsewhere
    assert set(ExchangeRow.__dataclass_fields__) - {"tags"} == set(schema.CARRIAGE) - elsewhere
    assert set(schema.NAMED) <= fields
    assert max(schema.NameKind) < 64


def test_the_list_shows_every_column_and_every_word_as_text(engine: Engine) -> None:
    with reading(engine) as connection:
        shown = set(execute(connection, "SELECT * FROM exchange_list").keys())
    assert {column.name for column in schema.exchanges.c} - {"target_long"} <= shown
    for words in (Origin, WireEnd, Outcome):
        for word in words:
            for each in (False, True):
                assert f"WHEN {word.value} THEN '{word.name.lower()}'" in views(postgres=each)["exchange_list"]


def test_open_engine_makes_no_tables(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/wiretape.db", create=True)
    assert sql(engine, "SELECT name FROM sqlite_master") == []
    engine.dispose()

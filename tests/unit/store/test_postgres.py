"""What Postgres' transactions promise, and how its troubles are told. What test_engine.py is for SQLite."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from proxy.store.engine import execute, insert_many, place_of, reading, rows, writing
from proxy.store.errors import DatabaseAway, ValueRefused
from proxy.store.postgres_errors import store_error
from proxy.store.schema import metadata
from tests.support.databases import POSTGRES, Opener, PostgresDatabase
from tests.support.journals import until
from tests.support.running import born
from tests.unit.store.support import sql

pytestmark = pytest.mark.engines(POSTGRES)

META = metadata.tables["meta"]
NAME = "INSERT INTO names (kind, value) VALUES (1, ?)"
KIND = "INSERT INTO names (kind, value) VALUES (?, 'x')"
_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def put(engine: Engine, key: str, **how: bool) -> None:
    with writing(engine, **how) as connection:
        execute(connection, "INSERT INTO meta VALUES (?, '')", (key,))


def keys(engine: Engine) -> list[str]:
    return [row[0] for row in sql(engine, "SELECT key FROM meta ORDER BY key")]


def in_a_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


# --- transactions ---


def test_a_durable_commit_waits_for_the_disk_and_the_next_one_does_not(engine: Engine) -> None:
    for durable in (True, False, True):
        with writing(engine, durable=durable) as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == ("on" if durable else "off")
            number = connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()::text").scalar()
            assert (number is not None) == durable, "what has no number is not flushed"


def test_a_durable_commit_that_fails_leaves_the_next_one_cheap(engine: Engine) -> None:
    with pytest.raises(RuntimeError), writing(engine, durable=True):
        raise RuntimeError
    with writing(engine) as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off"


def test_no_setting_outlives_its_transaction(engine: Engine) -> None:
    settings = "SELECT current_setting('lock_timeout'), current_setting('synchronous_commit')"
    with engine.connect() as connection:
        before = connection.exec_driver_sql(settings).one()
    with writing(engine, durable=True) as connection:
        mine = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        assert connection.exec_driver_sql(settings).one() != before
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() == mine
        assert connection.exec_driver_sql(settings).one() == before


def test_a_reader_cannot_write_and_its_connection_can_afterwards(opener: Opener) -> None:
    engine = opener()
    with pytest.raises(DatabaseAway, match="takes no writes"), reading(engine) as connection:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('a', 'b')")
    assert keys(engine) == []
    put(engine, "b")
    assert keys(engine) == ["b"]


def test_whether_a_transaction_may_write_is_the_servers_to_say(place: PostgresDatabase, opener: Opener) -> None:
    place.execute(f"ALTER DATABASE {place.name} SET default_transaction_read_only = on")
    engine = opener()
    assert keys(engine) == []
    for _ in range(2):  # on a new connection, and on one that has read only
        with pytest.raises(DatabaseAway, match="name the primary server"):
            put(engine, "a")
    assert keys(engine) == []


# --- values ---


@pytest.mark.parametrize(
    ("statement", "value"),
    [(KIND, 2**63), (NAME, "\ud800"), (NAME, "a\0b"), (NAME, object()), (NAME, None)],
    ids=["large", "surrogate", "NUL", "object", "NULL"],
)
def test_a_value_that_cannot_be_stored_is_refused_and_undone(engine: Engine, statement: str, value: object) -> None:
    def write() -> None:
        with writing(engine) as connection:
            execute(connection, "INSERT INTO meta VALUES ('a', 'b')")
            execute(connection, statement, (value,))

    with pytest.raises(
        ValueRefused, match=f"^{re.escape(f'the database {place_of(engine)} refuses a value: ')}"
    ) as raised:
        write()
    assert "INSERT" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert keys(engine) == []
    put(engine, "next")


def test_a_refusal_quotes_little_of_what_was_recorded(engine: Engine) -> None:
    text = "recorded words " * 1000
    with pytest.raises(ValueRefused) as raised, writing(engine) as connection:
        execute(connection, KIND, (text,))
    assert len(str(raised.value)) < 600
    put(engine, text[:1000])
    with pytest.raises(ValueRefused) as raised:
        put(engine, text[:1000])
    assert "recorded" not in str(raised.value)
    assert "meta_pkey" in str(raised.value)


BROKEN = {
    "there already": [("a", "b"), ("c", "d"), ("a", "e")],
    "NUL": [("a", "b"), ("c", "\0")],
    "surrogate": [("a", "b"), ("c", "\ud800")],
    "NULL": [("a", "b"), ("c", None)],
}


@pytest.mark.parametrize("values", BROKEN.values(), ids=BROKEN)
def test_rows_that_are_refused_in_the_middle_are_undone(engine: Engine, values: list[tuple[Any, ...]]) -> None:
    with pytest.raises(ValueRefused) as raised, writing(engine) as connection:
        insert_many(connection, META, values)
    assert "COPY" not in str(raised.value)
    assert keys(engine) == []
    with writing(engine) as connection:
        insert_many(connection, META, values[:1])
    assert keys(engine) == ["a"]


def test_our_own_mistakes_stay_visible(engine: Engine) -> None:
    for statement in ("SELEKT 1", "SELECT nothing()"):
        with pytest.raises(Exception, match=r"syntax error|does not exist") as raised, reading(engine) as connection:
            connection.exec_driver_sql(statement)
        assert not isinstance(raised.value, DatabaseAway | ValueRefused)
        with pytest.raises(psycopg.Error), reading(engine) as connection:
            list(rows(connection, statement))
    put(engine, "next")


def test_what_is_not_there_names_the_next_step(engine: Engine) -> None:
    for statement in ("SELECT * FROM nowhere", "SELECT nothing FROM meta"):
        with pytest.raises(DatabaseAway, match="wiretape db upgrade"):
            sql(engine, statement)


# --- who writes at the same time ---


def test_two_writers_beside_each_other_go_on_at_once(engine: Engine) -> None:
    with writing(engine, beside=True) as one, writing(engine, beside=True) as other:
        for number, connection in enumerate((one, other, one)):
            execute(connection, "INSERT INTO meta VALUES (?, '')", (str(number),))
    assert keys(engine) == ["0", "1", "2"]


def test_who_changes_history_waits_for_all_and_keeps_others_out(engine: Engine, opener: Opener) -> None:
    impatient = opener(busy_timeout=0.01)
    order: list[str] = []

    def change() -> None:
        with writing(engine):
            order.append("changed")

    with writing(engine, beside=True):
        with writing(engine, beside=True):
            thread = in_a_thread(change)
            until(lambda: sql(engine, _WAITING) == [(1,)])
            order.append("first ends")
        with pytest.raises(DatabaseAway, match="is locked by another process: end that process"):
            put(impatient, "while somebody waits", beside=True)
        order.append("second ends")
    thread.join(timeout=30)
    assert order == ["first ends", "second ends", "changed"]

    with writing(engine):
        for beside in (True, False):
            with pytest.raises(DatabaseAway, match="is locked by another process"):
                put(impatient, "x", beside=beside)
        assert keys(impatient) == []
    for beside in (True, False):
        put(impatient, str(beside), beside=beside)


def test_a_row_that_another_holds_is_not_waited_for_in_vain(engine: Engine, opener: Opener) -> None:
    put(engine, "a")
    with writing(engine, beside=True) as one:
        one.exec_driver_sql("UPDATE meta SET value = 'mine'")
        with (
            pytest.raises(DatabaseAway, match="is locked by another process"),
            writing(opener(busy_timeout=0.01), beside=True) as other,
        ):
            other.exec_driver_sql("UPDATE meta SET value = 'yours'")
    assert sql(engine, "SELECT value FROM meta") == [("mine",)]


def test_of_two_that_wait_for_one_another_one_is_told_so(engine: Engine) -> None:
    put(engine, "a")
    put(engine, "b")
    told: list[str] = []
    both = threading.Barrier(2)
    update = "UPDATE meta SET value = ? WHERE key = ?"

    def write(*wanted: str) -> None:
        try:
            with writing(engine, beside=True) as connection:
                connection.exec_driver_sql("SET LOCAL deadlock_timeout = '10ms'")
                execute(connection, update, (wanted[0], wanted[0]))
                both.wait(timeout=30)
                execute(connection, update, (wanted[0], wanted[1]))
        except DatabaseAway as error:
            told.append(str(error))

    threads = [in_a_thread(lambda wanted=wanted: write(*wanted)) for wanted in ("ab", "ba")]  # type: ignore[misc]  # mypy cannot infer a lambda's default
    for thread in threads:
        thread.join(timeout=30)
    assert len(told) == 1
    assert "another node waited for one another (deadlock detected)" in told[0]
    assert len({row[0] for row in sql(engine, "SELECT value FROM meta")}) == 1


def test_limits_that_the_server_sets_are_told_by_name(engine: Engine, place: PostgresDatabase) -> None:
    def take_long() -> None:
        with writing(engine) as connection:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '1ms'")
            connection.exec_driver_sql("SELECT pg_sleep(30)")

    def stand_still() -> None:
        with writing(engine) as connection:
            backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            # Last words that come with this statement's answer, or cross the next statement, are lost on libpq.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '500ms'")
            until(lambda: born(backend) == 0)
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(DatabaseAway, match="statement_timeout") as raised:
        take_long()
    assert "pg_sleep" not in str(raised.value)
    with pytest.raises(DatabaseAway, match="idle_in_transaction_session_timeout"):
        stand_still()
    put(engine, "next")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            psycopg.errors.DiskFull("could not extend file"),
            "has no room on its disk: make room (could not extend file)",
        ),
        (psycopg.errors.TransactionTimeout("x"), "(transaction_timeout): raise it for this user (x)"),
        (psycopg.errors.SerializationFailure("x"), "was changed by another node at the same moment (x)"),
        (psycopg.errors.IoError("x"), "reports an error of its disk or system: check the server's log (x)"),
        (psycopg.errors.DataCorrupted("x"), "reports a fault of its own: check the server's log (x)"),
        (
            psycopg.OperationalError("the connection is lost\nLINE 1: SELECT"),
            "cannot be reached (the connection is lost)",
        ),
        (psycopg.OperationalError(), "cannot be reached (OperationalError)"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_what_is_hard_to_bring_about(error: psycopg.Error, told: str) -> None:
    known = store_error(error, "PLACE")
    assert isinstance(known, DatabaseAway)
    assert str(known).startswith("the database PLACE ")
    assert str(known).endswith(told)

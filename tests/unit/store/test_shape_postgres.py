"""What `db check` compares on Postgres: with which rights, whose tables, and what of partitions matters to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from proxy.store.engine import backend_of, open_engine, writing
from proxy.store.errors import DatabaseAway
from proxy.store.migrate import schema_differences, upgrade
from proxy.store.partitions import existing, make
from tests.support.databases import POSTGRES, POSTGRES_16, Opener, PostgresDatabase
from tests.unit.store.support import sql

pytestmark = pytest.mark.engines(POSTGRES, POSTGRES_16)

NOW = datetime.now(UTC)

Granted = Callable[..., Engine]


@pytest.fixture
def granted(place: PostgresDatabase) -> Iterator[Granted]:
    """Opens the database as a new user who may connect to it, and what the statements say (`{user}`)."""
    with ExitStack() as stack:

        def open_as(*statements: str, user: str = "reader") -> Engine:
            user = f"{user}_{place.name}"
            place.execute(f"REVOKE ALL ON DATABASE {place.name} FROM PUBLIC; CREATE ROLE {user} LOGIN")
            stack.callback(place.execute, f"DROP OWNED BY {user} CASCADE; DROP ROLE {user}")
            place.execute(f"GRANT CONNECT ON DATABASE {place.name} TO {user}")
            for statement in statements:
                place.execute(statement.format(user=user, database=place.name))
            engine = open_engine(place.url.replace(place.server.user, user, 1), create=False)
            stack.callback(engine.dispose)
            return engine

        yield open_as


def found_nothing_left(place: PostgresDatabase) -> bool:
    return place.query("SELECT relname::text FROM pg_class WHERE relname LIKE '%wanted%'") == []


# --- rights ---


@pytest.mark.parametrize(
    "rights",
    [
        "GRANT CREATE ON SCHEMA public TO {user}",
        "GRANT TEMPORARY ON DATABASE {database} TO {user}",
        "GRANT CREATE ON SCHEMA public TO {user}; GRANT TEMPORARY ON DATABASE {database} TO {user}",
    ],
    ids=["the schema", "temporary tables", "both"],
)
def test_no_right_to_the_database_is_needed(place: PostgresDatabase, granted: Granted, rights: str) -> None:
    engine = granted(rights)
    wanted, found = backend_of(engine).shapes(engine)
    assert wanted == found
    place.execute("DROP VIEW tags; ALTER TABLE gaps ADD COLUMN mood text")
    assert schema_differences(engine) == ["table gaps: column mood is not of this version", "view tags is missing"]
    assert found_nothing_left(place)


def test_who_may_make_nothing_at_all_is_told_so(place: PostgresDatabase, granted: Granted) -> None:
    engine = granted("GRANT USAGE ON SCHEMA public TO {user}")
    with pytest.raises(DatabaseAway, match="refuses a right: make this user the owner of the database, or of a schema"):
        schema_differences(engine)
    assert found_nothing_left(place)


def test_it_waits_for_nobody_and_keeps_nobody_waiting(place: PostgresDatabase, granted: Granted) -> None:
    engine, other = granted("GRANT CREATE ON SCHEMA public TO {user}"), open_engine(place.url, create=False)
    with writing(other) as connection:
        connection.exec_driver_sql("LOCK TABLE exchanges, chunks IN ROW EXCLUSIVE MODE")
        assert schema_differences(engine) == []
    other.dispose()


# --- whose tables ---


@pytest.mark.parametrize("name", ["wire", '"My Schema"', '"wire-tape"'])
def test_tables_in_other_schemas_are_not_ours(place: PostgresDatabase, granted: Granted, name: str) -> None:
    """Another program has tables with our names in the schema that comes next in the search path."""
    theirs = "DROP VIEW tags, headers CASCADE; ALTER TABLE gaps ADD COLUMN mood text; DROP INDEX exchanges_slow"
    engine = granted(
        f"CREATE SCHEMA {name} AUTHORIZATION {{user}}",
        f"ALTER ROLE {{user}} SET search_path = {name}, public",
        "DROP TABLE alembic_version",
        theirs,
        "GRANT USAGE ON SCHEMA public TO {user}",
    )
    upgrade(engine)
    assert schema_differences(engine) == []
    with writing(engine) as connection:
        for each in ("DROP VIEW slow_streams", "DROP INDEX exchanges_costly", "ALTER TABLE usage ADD mood text"):
            connection.exec_driver_sql(each)
    assert schema_differences(engine) == [
        "table usage: column mood is not of this version",
        "index exchanges_costly is missing",
        "view slow_streams is missing",
    ]


def test_what_is_not_ours_is_left_out(place: PostgresDatabase, engine: Engine) -> None:
    place.execute(
        """CREATE TABLE mine (a int PRIMARY KEY, b text UNIQUE); CREATE VIEW my_view AS SELECT a FROM mine;
        CREATE INDEX mine_b ON exchanges (response_id, id); CREATE MATERIALIZED VIEW my_sums AS SELECT 1 AS one;
        CREATE TABLE parted (a int) PARTITION BY RANGE (a); CREATE TABLE parted_default PARTITION OF parted DEFAULT"""
    )
    assert schema_differences(engine) == []


# --- partitions ---


def test_which_partitions_there_are_does_not_matter(place: PostgresDatabase, engine: Engine, opener: Opener) -> None:
    make(engine, [NOW - timedelta(days=each) for each in (0, 40, 400)], {})
    assert schema_differences(engine) == []
    with writing(engine) as connection:
        for each in existing(connection)[::2]:
            connection.exec_driver_sql(f"DROP TABLE {each.name}")
    assert schema_differences(engine) == []
    (odd,) = sql(engine, "SELECT max(relname)::text FROM pg_class WHERE relname LIKE 'chunks\\_y%' AND relkind = 'r'")
    place.execute(f"ALTER TABLE chunks DETACH PARTITION {odd[0]}")
    place.execute(f"ALTER TABLE {odd[0]} ADD COLUMN kept_by text")
    assert schema_differences(opener()) == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DROP TABLE chunks_default", "table chunks: default partition is missing"),
        ("ALTER TABLE texts DETACH PARTITION texts_default", "table texts: default partition is missing"),
        ("ALTER TABLE texts DROP COLUMN words", "table texts: column words is missing"),
        ("DROP INDEX texts_words", "index texts_words is missing"),
        ("ALTER VIEW spend_daily RENAME TO spend_by_day", "view spend_daily is missing"),
        ("ALTER TABLE heads ALTER volatile DROP NOT NULL", "table heads: column volatile is 'json null, "),
        ("ALTER TABLE exchanges ADD CHECK (status < 600)", "table exchanges: CHECK ((status < 600)) is not of this"),
        ("ALTER TABLE chunks DROP CONSTRAINT chunks_pkey", "table chunks: PRIMARY KEY (exchange_id, seq) is missing"),
    ],
)
def test_what_matters_is_told(place: PostgresDatabase, engine: Engine, statement: str, told: str) -> None:
    place.execute(statement)
    said = schema_differences(engine)
    assert any(each.startswith(told) for each in said), said
    # Postgres drops the indexes on a column with it.
    assert [each for each in said if not each.startswith(("index texts_w", told))] == []


def test_a_table_without_partitions_is_told(place: PostgresDatabase, engine: Engine) -> None:
    place.execute("CREATE TABLE flat (LIKE gaps INCLUDING ALL); DROP TABLE gaps; ALTER TABLE flat RENAME TO gaps")
    assert schema_differences(engine) == [
        "table gaps: default partition is missing",
        "table gaps: parted by is 'none', should be 'RANGE (exchange_id)'",
        "table gaps: storage is 'table', should be 'partitioned'",
    ]


def test_an_index_that_does_not_cover_all_partitions_is_told(place: PostgresDatabase, engine: Engine) -> None:
    place.execute(
        "DROP INDEX exchanges_session;"
        "CREATE INDEX exchanges_session ON ONLY exchanges (session, id) WHERE session IS NOT NULL"
    )
    (told,) = schema_differences(engine)
    assert told.startswith("index exchanges_session: definition is ")
    assert "(not valid)" in told

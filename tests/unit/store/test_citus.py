"""The tables, and every statement that is sent, keep to what Citus runs; and `db distribute` asks for what it should.

No Citus is here: the server's functions are played by ones that note what they are asked for.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from proxy.errors import UsageError
from proxy.store.citus import DISTRIBUTED, REFERENCE, distribute, problems, schema_problems
from proxy.store.schema_postgres import PARTITIONED, TABLES
from tests.support.databases import PostgresDatabase

PLAYED = """
CREATE TABLE pg_dist_partition (logicalrelid regclass);
CREATE TABLE asked (number serial, what text);
CREATE FUNCTION create_reference_table(name regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO asked (what) VALUES ('reference ' || name);
    INSERT INTO pg_dist_partition VALUES (name);
END $$;
CREATE FUNCTION create_distributed_table(name regclass, spread text, colocate_with text) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN
    INSERT INTO asked (what) VALUES (name || ' by ' || spread || ' with ' || colocate_with);
    INSERT INTO pg_dist_partition VALUES (name);
END $$;
"""


def test_every_table_has_its_place() -> None:
    assert schema_problems() == []
    assert {*DISTRIBUTED, *REFERENCE} == {each.name for each in TABLES}
    assert next(iter(DISTRIBUTED)) == "exchanges", "the others are put beside it"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO billed (response_key) VALUES (1) ON CONFLICT (response_key, upstream) DO NOTHING",
        'INSERT INTO "spend_hours" ("hour") VALUES (1) ON CONFLICT (hour, writer) DO UPDATE SET "x" = 1',
        "UPDATE journals SET segment = 1 WHERE worker = 2",
        "UPDATE exchanges SET counted = FALSE WHERE id IN (1, 2)",
        "SELECT * FROM exchanges e JOIN meanings m ON m.exchange_id = e.id LEFT JOIN names n ON n.id = e.node",
        "SELECT id FROM exchanges WHERE journal IN (SELECT id FROM journals WHERE worker = 1)",
        "COPY chunks (exchange_id) FROM STDIN",
        "INSERT INTO names (kind) VALUES (1) ON CONFLICT DO NOTHING RETURNING id",
    ],
)
def test_what_citus_runs(statement: str) -> None:
    assert problems(statement) == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("INSERT INTO journals (id) VALUES (1) ON CONFLICT (id) DO NOTHING", "without worker"),
        ('INSERT INTO "chunks" VALUES (1) ON CONFLICT (seq) DO UPDATE SET seq = 1', "without exchange_id"),
        ("UPDATE chunks SET seq = 1, exchange_id = 2 WHERE seq = 3", "exchange_id of chunks is changed"),
        ('UPDATE "billed" SET "response_key" = 1', "response_key of billed is changed"),
        ("CREATE UNIQUE INDEX x ON exchanges (response_id)", "lacks id"),
        ("SELECT id FROM exchanges WHERE id = 1 FOR UPDATE", "are locked"),
        ("SELECT 1 FROM billed b LEFT JOIN exchanges e ON e.id = b.exchange", "do not lie together"),
        ("CREATE TABLE x (a int REFERENCES exchanges)", "foreign key"),
    ],
)
def test_what_it_does_not(statement: str, told: str) -> None:
    assert any(told in each for each in problems(statement)), problems(statement)


@pytest.mark.engines("postgres")
def test_distributed_as_it_should_be_and_once(place: PostgresDatabase, engine: Engine) -> None:
    place.execute(PLAYED)
    done = distribute(engine)
    assert set(done) == {*DISTRIBUTED, *REFERENCE}
    asked = [row[0] for row in place.query("SELECT what FROM asked ORDER BY number")]
    assert asked[: len(REFERENCE)] == [f"reference {each}" for each in REFERENCE]
    spread = asked[len(REFERENCE) :]
    assert spread[0] == "exchanges by id with none"
    assert "chunks by exchange_id with exchanges" in spread
    assert "journals by worker with none" in spread
    assert len([each for each in spread if each.endswith("with exchanges")]) == len(PARTITIONED) - 1
    assert distribute(engine) == []


@pytest.mark.engines("postgres")
def test_the_rest_is_done_where_it_broke_off(place: PostgresDatabase, engine: Engine) -> None:
    place.execute(PLAYED)
    place.execute("INSERT INTO pg_dist_partition VALUES ('names'::regclass), ('exchanges'::regclass)")
    assert len(distribute(engine)) == len(TABLES) - 2


@pytest.mark.engines("postgres")
def test_without_citus_it_says_how(engine: Engine) -> None:
    with pytest.raises(UsageError, match="CREATE EXTENSION citus"):
        distribute(engine)


@pytest.mark.engines("sqlite")
def test_a_file_cannot_be_distributed(engine: Engine) -> None:
    with pytest.raises(UsageError, match="is a file"):
        distribute(engine)

"""A schema of its own, for who may not use `public` or shares the database with other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.store.engine import backend_of, open_engine, reading, size
from proxy.store.migrate import schema_differences
from tests.support.databases import POSTGRES, POSTGRES_16, PostgresDatabase, postgres_of
from tests.support.here import run_here
from tests.support.journals import House, exchange
from tests.support.postgres import Server

pytestmark = pytest.mark.engines(POSTGRES, POSTGRES_16)


@dataclass
class Shared:
    """A database in which `tenant` owns nothing but a schema, and may make no other."""

    kind: str
    server: Server
    name: str

    def url(self, query: str = "") -> str:
        return self.server.url(self.name).replace(f"{self.server.user}@", "tenant@") + query

    def tables(self) -> dict[str, int]:
        """How many there are in each schema."""
        found = "SELECT schemaname::text, count(*) FROM pg_tables WHERE schemaname !~ '^(pg_|information)' GROUP BY 1"
        return dict(self.server.query(self.name, found))

    def house(self, home: Path, url: str) -> House:
        database = PostgresDatabase(self.kind, self.name)
        database.url = url
        return House(home, database)


@pytest.fixture
def shared(kind: str) -> Iterator[Shared]:
    server = postgres_of(kind)
    name = server.new_database()
    server.query("postgres", "CREATE ROLE tenant LOGIN")
    server.query(name, "CREATE SCHEMA mine AUTHORIZATION tenant")
    yield Shared(kind, server, name)
    server.drop(name)
    server.query("postgres", "DROP ROLE tenant")


@pytest.mark.parametrize("chosen", ["by the URL", "by the role"])
def test_a_schema_of_its_own(shared: Shared, chosen: str, tmp_path: Path) -> None:
    url = shared.url("&options=-csearch_path%3Dmine" if chosen == "by the URL" else "")
    if chosen == "by the role":
        shared.server.query("postgres", "ALTER ROLE tenant SET search_path = mine")
    assert run_here(tmp_path, "--database", url, "db", "upgrade").code == 0
    with shared.house(tmp_path / "home", url) as house:
        house.record(exchange(1))
        house.interpret()
        assert house.body(1) == [b"data: one\n\n", b"data: two\n\n"]
        assert [row["outcome"] for row in house.exchanges()] == ["completed"]
        assert isinstance(house.database, PostgresDatabase)
        house.database.close()
    ran = run_here(tmp_path, "--database", url, "db", "check")
    assert (ran.code, b"1 exchange (0 running), 3 chunks" in ran.out) == (0, True), ran
    assert b"/v1/chat/completions" in run_here(tmp_path, "--database", url, "ls", "--format", "json").out
    assert run_here(tmp_path, "--database", url, "db", "upgrade").code == 0
    assert list(shared.tables()) == ["mine"]


def test_two_of_them_in_one_database(shared: Shared, tmp_path: Path) -> None:
    urls = [shared.url(f"&options=-csearch_path%3D{name}") for name in ("mine", "yours")]
    shared.server.query(shared.name, "CREATE SCHEMA yours AUTHORIZATION tenant")
    for url in urls:
        assert run_here(tmp_path, "--database", url, "db", "upgrade").code == 0
    with shared.house(tmp_path / "home", urls[0]) as house:
        house.record(exchange(1))
        house.interpret()
    sizes = []
    for url in urls:
        engine = open_engine(url, create=False)
        assert schema_differences(engine) == []
        with reading(engine) as connection:
            sizes.append((len(backend_of(engine).tables(connection)), size(connection)))
        engine.dispose()
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] > sizes[1][1] > 0
    counts = shared.tables()
    assert counts["mine"] == counts["yours"] > 20


def test_a_name_that_must_be_quoted(shared: Shared, tmp_path: Path) -> None:
    shared.server.query(shared.name, 'CREATE SCHEMA "My-App" AUTHORIZATION tenant')
    shared.server.query("postgres", 'ALTER ROLE tenant SET search_path = "My-App"')
    url = shared.url()
    assert run_here(tmp_path, "--database", url, "db", "upgrade").code == 0
    engine = open_engine(url, create=False)
    assert schema_differences(engine) == []
    with reading(engine) as connection:
        assert "exchanges" in backend_of(engine).tables(connection)
        assert size(connection) > 0
    engine.dispose()

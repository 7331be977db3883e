"""Through PgBouncer in transaction mode all works as it does without: nothing depends on what a session remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.exchange import Side
from proxy.store.engine import open_engine
from proxy.store.errors import DatabaseAway
from proxy.store.fulltext import index_some
from proxy.store.migrate import schema_differences, upgrade
from tests.conftest import needs
from tests.support.databases import POSTGRES, PostgresDatabase, postgres_of
from tests.support.here import Ran, run_here
from tests.support.journals import Entry, House, exchange, exchange_id, merged, worker
from tests.support.pooler import Pooler, a_pooler

ANSWER = (
    b'data: {"id": "c%d", "object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [{"index": 0, "delta":'
    b' {"role": "assistant", "content": "the weather of %d"}, "finish_reason": "stop"}]}\n\n'
)
USAGE = (
    b'data: {"id": "c%d", "object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [], "usage":'
    b' {"prompt_tokens": 10, "completion_tokens": %d, "total_tokens": 20}}\n\ndata: [DONE]\n\n'
)
ASKED = b'{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "what about %d?"}]}'
ALL = "SELECT CAST(coalesce(sum(exchanges), 0) AS int) FROM spend_hours"


@pytest.fixture
def database() -> Iterator[str]:
    """An empty one."""
    server = postgres_of(POSTGRES)
    made = server.new_database()
    yield made
    server.drop(made)


@pytest.fixture
def pooler(database: str) -> Iterator[Pooler]:
    """Two of the server's processes for all that is asked."""
    with a_pooler(needs("pgbouncer"), postgres_of(POSTGRES), database) as made:
        yield made


Command = Callable[..., Ran]


@pytest.fixture
def wiretape(pooler: Pooler, database: str, tmp_path: Path) -> Command:
    """Run a command on the database, which must succeed."""

    def command(*arguments: str) -> Ran:
        ran = run_here(tmp_path, *arguments, variables={"WIRETAPE_DATABASE": pooler.url(database), "CI": "true"})
        assert ran.code == 0, ran
        return ran

    return command


def tape(first: int, count: int) -> list[Entry]:
    """Exchanges side by side, of one journal."""
    made = []
    for ordinal in range(1, count + 1):
        number = first + ordinal
        chunks = [part % (number, number) for part in (ANSWER, USAGE)]
        made.append(exchange(number, ordinal=ordinal, chunks=chunks, upload=[ASKED % number]))
    return merged(*made)


def a_house(home: Path, database: str, pooler: Pooler) -> House:
    through = PostgresDatabase(POSTGRES, database)
    through.url = pooler.url(database)
    made = House(home, through)
    made.busy_timeout = 10.0
    return made


def store(home: Path, database: str, pooler: Pooler, first: int, count: int) -> int:
    """Store exchanges and understand them; how many bodies are as they were."""
    with a_house(home, database, pooler) as house:
        house.record(tape(first, count), worker(first))
        house.interpret()
        wanted = [part % (first + 1, first + 1) for part in (ANSWER, USAGE)]
        same = house.body(first + 1) == wanted and house.body(first + 1, Side.REQUEST) == [ASKED % (first + 1)]
        assert isinstance(house.database, PostgresDatabase)
        house.database.close()
        return count if same else 0


def found(ran: Ran) -> list[dict[str, Any]]:
    return msgspec.json.decode(ran.out, type=list[dict[str, Any]])


def test_from_the_first_table_to_the_last_row(pooler: Pooler, database: str, wiretape: Command, tmp_path: Path) -> None:
    assert b"was brought to revision" in wiretape("db", "upgrade").out
    assert store(tmp_path / "home", database, pooler, 1000, 30) == 30
    engine = open_engine(pooler.url(database), create=False)
    while index_some(engine):
        pass
    assert schema_differences(engine) == []
    engine.dispose()
    assert b"30 exchanges (0 running)" in wiretape("db", "check").out
    assert b"\n" in wiretape("ls").out
    (only,) = found(wiretape("ls", "--search", "about 1007", "--format", "json"))
    assert only["id"] == str(exchange_id(1007))
    spent = msgspec.json.decode(wiretape("spend", "--since", "2020-01-01", "--format", "json").out)
    assert "gpt-4o-mini" in str(spent)
    wiretape("delete", "--yes", str(exchange_id(1007)))
    assert found(wiretape("ls", "--search", "about 1007", "--format", "json")) == []
    wiretape("reinterpret", "--since", "2020-01-01")
    assert b"29 exchanges (0 running)" in wiretape("db", "check").out
    assert postgres_of(POSTGRES).query(database, ALL) == [(30,)]  # what was spent stays so


@pytest.mark.parametrize(("size", "writers"), [(2, 1), (3, 2)])
def test_several_at_once(database: str, tmp_path: Path, size: int, writers: int) -> None:
    """Four threads, of which some store and the others read, share fewer of the server's processes."""
    with a_pooler(needs("pgbouncer"), postgres_of(POSTGRES), database, size=size) as pooler:
        engine = open_engine(pooler.url(database), create=False)
        upgrade(engine)

        def write(number: int) -> int:
            return store(tmp_path / f"{number}", database, pooler, number * 1000, 20)

        def read(_: int) -> int:
            return sum(len(schema_differences(engine)) for _ in range(5))

        with ThreadPoolExecutor(4) as threads:
            written = threads.map(write, range(1, writers + 1))
            seen = threads.map(read, range(4 - writers))
            assert (list(written), list(seen)) == ([20] * writers, [0] * (4 - writers))
        engine.dispose()
    assert postgres_of(POSTGRES).query(database, ALL) == [(20 * writers,)]


def test_a_pooler_that_is_too_small_is_told(database: str, tmp_path: Path) -> None:
    """What all nodes share is written beside the transaction."""
    with a_pooler(needs("pgbouncer"), postgres_of(POSTGRES), database, size=1, patience=1) as pooler:
        assert run_here(tmp_path, "--database", pooler.url(database), "db", "upgrade").code == 0
        with pytest.raises(
            DatabaseAway, match=r"with no connection free: let it have more than .* \(query_wait_timeout"
        ):
            store(tmp_path / "home", database, pooler, 1000, 1)

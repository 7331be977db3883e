"""The server stops in the middle of what is under way: nothing is half done, and the engine goes on once it is back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from proxy.store.engine import execute, insert_many, reading, rows, writing
from proxy.store.errors import DatabaseAway
from proxy.store.migrate import upgrade
from proxy.store.schema import metadata
from tests.support.databases import Opener, an_opener
from tests.support.postgres import Server
from tests.unit.store.support import sql

META = metadata.tables["meta"]
CRASH, SHUTDOWN = signal.SIGQUIT, signal.SIGINT
AWAY = r"cannot be reached|is being shut down|was ended by a crash"


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that nobody else uses."""
    made = Server(18).start()
    yield made
    made.remove()


@pytest.fixture
def server(own_server: Server) -> Server:
    """It runs when a test begins, whatever the last one did."""
    own_server.stop(CRASH)
    return own_server.start()


@pytest.fixture
def open_it(server: Server) -> Iterator[Opener]:
    name = server.new_database()
    with an_opener(server.url(name)) as opened:
        engine = opened()
        upgrade(engine)
        put(engine, "before")  # or a crash could take the tables with it
        yield opened


@pytest.fixture
def engine(open_it: Opener) -> Engine:
    return open_it()


def put(engine: Engine, key: str) -> None:
    with writing(engine, durable=True) as connection:
        execute(connection, "INSERT INTO meta VALUES (?, '')", (key,))


def keys(engine: Engine) -> list[str]:
    return [row[0] for row in sql(engine, "SELECT key FROM meta ORDER BY key")]


class Stopping(list[tuple[str, str]]):
    """Many rows; before the last of them are handed over the server stops."""

    def __init__(self, stop: Callable[[], None]) -> None:
        super().__init__((str(number), "x" * 1000) for number in range(5000))
        self._stop = stop

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for number, row in enumerate(super().__iter__()):
            if number == 1000:
                self._stop()
            yield row


@pytest.mark.parametrize("how", [CRASH, SHUTDOWN], ids=["crash", "shutdown"])
def test_in_the_middle_of_a_transaction(server: Server, engine: Engine, how: signal.Signals) -> None:
    def write() -> None:
        with writing(engine) as connection:
            execute(connection, "INSERT INTO meta VALUES ('lost', '')")
            server.stop(how)
            execute(connection, "INSERT INTO meta VALUES ('lost too', '')")

    with pytest.raises(DatabaseAway, match=AWAY):
        write()
    with pytest.raises(DatabaseAway, match="cannot be reached: start the server"):
        put(engine, "nowhere")
    server.start()
    put(engine, "after")
    assert keys(engine) == ["after", "before"]


def test_before_the_commit(server: Server, engine: Engine) -> None:
    def write() -> None:
        with writing(engine) as connection:
            execute(connection, "INSERT INTO meta VALUES ('lost', '')")
            server.stop(CRASH)

    with pytest.raises(DatabaseAway, match=AWAY):
        write()
    server.start()
    assert keys(engine) == ["before"]
    put(engine, "after")


@pytest.mark.parametrize("how", [CRASH, SHUTDOWN], ids=["crash", "shutdown"])
def test_in_the_middle_of_copying_rows(server: Server, engine: Engine, how: signal.Signals) -> None:
    def write() -> None:
        with writing(engine) as connection:
            insert_many(connection, META, Stopping(lambda: server.stop(how)))

    with pytest.raises(DatabaseAway, match=AWAY) as raised:
        write()
    assert "COPY" not in str(raised.value)
    server.start()
    assert keys(engine) == ["before"]
    put(engine, "after")
    assert keys(engine) == ["after", "before"]


def test_while_rows_are_read(server: Server, engine: Engine) -> None:
    def read() -> None:
        with reading(engine) as connection:
            connection.exec_driver_sql("SELECT 1").all()
            found = rows(connection, "SELECT number, repeat('x', 10000) FROM generate_series(1, 10000) AS number")
            next(found)
            server.stop(CRASH)
            list(found)

    with pytest.raises(DatabaseAway, match=AWAY):
        read()
    server.start()
    assert keys(engine) == ["before"]


@pytest.mark.parametrize("how", [CRASH, SHUTDOWN], ids=["crash", "shutdown"])
def test_between_two_transactions_nobody_notices(server: Server, engine: Engine, how: signal.Signals) -> None:
    with ExitStack() as stack:  # as many connections as several threads had
        for _ in range(4):
            assert stack.enter_context(reading(engine)).exec_driver_sql("SELECT 1").scalar() == 1
    server.stop(how)
    server.start()
    with ExitStack() as stack:
        for _ in range(5):
            assert stack.enter_context(reading(engine)).exec_driver_sql("SELECT 1").scalar() == 1
    put(engine, "after")
    assert keys(engine) == ["after", "before"]


def test_one_connection_that_an_administrator_ends(server: Server, engine: Engine) -> None:
    server.query(
        "postgres", "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname <> 'postgres'"
    )
    put(engine, "idle")

    def write() -> None:
        with writing(engine) as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            server.query("postgres", "SELECT pg_terminate_backend(%s, 10000)", pid)
            execute(connection, "INSERT INTO meta VALUES ('lost', '')")

    with pytest.raises(DatabaseAway, match=AWAY):
        write()
    assert keys(engine) == ["before", "idle"]

"""What a transaction promises, whichever database it is in."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import Engine

from proxy.store.engine import reading
from proxy.store.schema import NameKind
from proxy.store.write import Writer
from tests.support.databases import PostgresDatabase, SqliteDatabase
from tests.unit.store.support import sql

EVERYTHING = "SELECT key, value FROM meta ORDER BY key"


def put(writer: Writer, key: str) -> None:
    with writer.transaction():
        writer.set_meta(key, "kept")


def test_an_error_undoes_the_transaction(engine: Engine, writer: Writer) -> None:
    def fail() -> None:
        with writer.transaction():
            writer.set_meta("a", "b")
            raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError, match="of the caller"):
        fail()
    assert sql(engine, EVERYTHING) == []


def test_methods_of_the_writer_need_a_transaction(writer: Writer) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        writer.name_id(NameKind.MODEL, "gpt-4o")


_DIES = """
import os, sys
from proxy.store.engine import open_engine
from proxy.store.write import Writer
writer = Writer(open_engine(sys.argv[1], create=False))
with writer.transaction():
    writer.set_meta("first", "kept")
with writer.transaction():
    writer.set_meta("second", "lost")
    os.kill(os.getpid(), 9)
"""


def test_a_writer_that_is_killed_leaves_whole_transactions(
    engine: Engine, writer: Writer, place: SqliteDatabase | PostgresDatabase
) -> None:
    ended = subprocess.run([sys.executable, "-c", _DIES, place.url], check=False, timeout=60)
    assert ended.returncode == -9
    assert sql(engine, EVERYTHING) == [("first", "kept")]
    put(writer, "next")  # its lock went with it
    assert len(sql(engine, EVERYTHING)) == 2


def test_readers_see_one_state_while_a_writer_goes_on(engine: Engine, writer: Writer) -> None:
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 0
        put(writer, "a")
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 0
    assert sql(engine, EVERYTHING) == [("a", "kept")]


def test_many_threads_read_at_once(engine: Engine) -> None:
    started = threading.Barrier(20)
    seen: list[object] = []

    def read() -> None:
        with reading(engine) as connection:
            connection.exec_driver_sql("SELECT 1").all()
            started.wait(timeout=30)
            seen.append(connection.exec_driver_sql("SELECT count(*) FROM meta").scalar())

    threads = [threading.Thread(target=read, daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    for thread in threads:
        thread.join(timeout=deadline - time.monotonic())
    assert seen == [0] * 20

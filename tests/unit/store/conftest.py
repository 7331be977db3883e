"""A database of this version for each test, on each engine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine

from proxy.store.engine import open_engine
from proxy.store.write import Writer
from tests.support.databases import Opener, PostgresDatabase, SqliteDatabase, a_database, an_opener, template


@pytest.fixture
def place(kind: str, tmp_path: Path) -> Iterator[SqliteDatabase | PostgresDatabase]:
    """A database without rows."""
    with a_database(kind, tmp_path) as made:
        yield made


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a test on SQLite has its file."""
    return tmp_path / "wiretape.db"


@pytest.fixture
def opener(place: SqliteDatabase | PostgresDatabase) -> Iterator[Opener]:
    """Opens engines on the database."""
    with an_opener(place.url) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite file without rows."""
    path = tmp_path / "wiretape.db"
    shutil.copyfile(template(), path)
    return path


@pytest.fixture
def open_file() -> Iterator[Opener]:
    """Opens engines on files, closed when the test ends."""
    with ExitStack() as stack:

        def open_it(path: Path, *, create: bool = False, busy_timeout: float = 10.0) -> Engine:
            engine = open_engine(f"sqlite:///{path}", create=create, busy_timeout=busy_timeout)
            stack.callback(engine.dispose)
            return engine

        yield open_it


@pytest.fixture
def engine(opener: Opener) -> Engine:
    return opener()


@pytest.fixture
def writer(engine: Engine) -> Writer:
    return Writer(engine)

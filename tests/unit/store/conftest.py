"""A database of this version for each test, on a real file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from proxy.store.engine import open_engine
from proxy.store.migrate import upgrade
from proxy.store.write import Writer

Opener = Callable[..., Engine]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file at this version's revision, to be copied: an upgrade takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "wiretape.db"
    engine = open_engine(f"sqlite:///{path}", create=True)
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
def database(template: Path, tmp_path: Path) -> Path:
    """The path of a database without rows."""
    path = tmp_path / "wiretape.db"
    shutil.copy(template, path)
    return path


@pytest.fixture
def opener() -> Iterator[Opener]:
    """Opens engines that are closed when the test ends."""
    engines: list[Engine] = []

    def open_it(path: Path, *, create: bool = False, busy_timeout: float = 10.0) -> Engine:
        engines.append(open_engine(f"sqlite:///{path}", create=create, busy_timeout=busy_timeout))
        return engines[-1]

    yield open_it
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(database: Path, opener: Opener) -> Engine:
    return opener(database)


@pytest.fixture
def writer(engine: Engine) -> Writer:
    return Writer(engine)

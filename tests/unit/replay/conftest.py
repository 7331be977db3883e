"""A database in which each exchange is there for a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.databases import PostgresDatabase, SqliteDatabase
from tests.support.recordings import a_copy, recorded


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def database(kind: str, home: Path) -> Iterator[SqliteDatabase | PostgresDatabase]:
    with a_copy(kind, home / "wiretape.db") as copy:
        yield copy


@pytest.fixture
def ids(kind: str) -> dict[str, UUID]:
    """What is recorded, by the name that recordings.py gives it, the oldest first."""
    return recorded(kind).ids

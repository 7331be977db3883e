"""A database with everything in it comes from the first revision to the newest: whole or not at all, and nothing is
lost on the way."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from proxy.store import schema
from proxy.store.engine import check_version, open_engine
from proxy.store.migrate import schema_differences, upgrade
from proxy.store.schema_views import views
from tests.support.databases import POSTGRES, POSTGRES_16, SQLITE, kept_folder, postgres_of
from tests.support.running import PATIENCE, ROOT
from tests.unit.store.old_database import ENDED, OPEN, Old, make, upgrade_to

pytestmark = pytest.mark.engines(SQLITE, POSTGRES, POSTGRES_16)

FIRST, NEWEST = schema.REVISIONS[0], schema.REVISIONS[-1]

FROZEN = "43a494211e1e42d2bf82ed36bce337901a337eb312bab2a282f83a78554f68da"
"""What the first revision makes of a SQLite file, as it did in the version in which it was frozen."""


@cache
def _first(kind: str) -> Old:
    """A database at the first revision, to be copied."""
    return make(kind, kept_folder("old"), FIRST)


@pytest.fixture
def old(kind: str, tmp_path: Path) -> Iterator[Old]:
    """A copy of it."""
    first = _first(kind)
    if kind == SQLITE:
        path = tmp_path / "old.db"
        shutil.copyfile(first.url.removeprefix("sqlite:///"), path)
        yield Old(kind, f"sqlite:///{path}", "")
        return
    server = postgres_of(kind)
    name = server.new_database(first.name)
    yield Old(kind, server.url(name), name)
    server.drop(name)


@pytest.fixture
def engine(old: Old) -> Iterator[Engine]:
    made = open_engine(old.url, create=False)
    yield made
    made.dispose()


def same(old: Old) -> bool:
    """Whether all that was there at the first revision still is, in the same columns."""
    tables = _first(old.kind).columns()
    return old.rows(tables) == _first(old.kind).rows(tables)


def is_whole_and_old(old: Old) -> bool:
    return old.revision == FIRST and old.columns() == _first(old.kind).columns() and same(old)


def is_whole_and_new(old: Old, engine: Engine) -> bool:
    check_version(engine)
    return schema_differences(engine) == [] and same(old)


# --- what an upgrade does ---


def test_every_table_had_rows(kind: str) -> None:
    first = _first(kind)
    rows = first.rows(first.columns())
    assert [table for table, found in rows.items() if not found] == []
    assert {table for table in rows if len(rows[table]) > 1} >= {"exchanges", "chunks", "names", "texts"}
    ended = next(row for row in rows["exchanges"] if ENDED.bytes in map(_bytes, row))
    assert [at for at, value in enumerate(ended) if value is None] == [
        at for at, (name, _) in enumerate(first.columns()["exchanges"]) if name in ("target_long", "cost_reported_pico")
    ]


def _bytes(value: Any) -> Any:
    return getattr(value, "bytes", value)


def test_all_rows_are_there_unchanged_and_the_tables_are_this_versions(old: Old, engine: Engine) -> None:
    assert is_whole_and_old(old)
    upgrade(engine)
    assert is_whole_and_new(old, engine)
    upgrade(engine)
    assert is_whole_and_new(old, engine)


def test_views_answer(old: Old, engine: Engine) -> None:
    upgrade(engine)
    for view in views(postgres=old.kind != SQLITE):
        assert old.query(f"SELECT count(*) FROM {view}") > [(0,)], view  # noqa: S608 - ours
    listed = "SELECT id, outcome, origin, upstream, model_served, target FROM exchange_list ORDER BY id"
    assert old.query(listed) == [
        (str(ENDED), "completed", "live", "openai", "m-1", "/v1/messages"),
        (str(OPEN), None, "live", "openai", None, "/v1/messages"),
    ]
    assert old.query("SELECT name, value FROM headers ORDER BY position") == [
        ("Host", "api.example"),
        ("Date", "yesterday"),
    ]
    assert sorted(old.query("SELECT name, value FROM tags")) == [("env", "ci"), ("run", "4711")]
    assert [(str(day), *rest) for day, *rest in old.query(_SPENT)] == [("2024-10-04", "m-1", "0f" * 8, "CI", 1.0)]
    assert old.query("SELECT part, session, text FROM exchange_text ORDER BY seq") == [
        ("answer", "agent-7", "An answer, gr\xfc\xdfend"),
        ("prompt", "agent-7", "what was asked"),
    ]
    assert old.query("SELECT id, first_visible_ms, tokens_per_second FROM slow_streams") == [(str(ENDED), 3000, 25.0)]


_SPENT = "SELECT day, model, credential, credential_name, cost_usd FROM spend_daily"


@pytest.mark.engines(SQLITE)
def test_texts_are_still_found(old: Old, engine: Engine) -> None:
    upgrade(engine)
    assert old.query("SELECT rowid FROM texts_index WHERE texts_index MATCH 'grußend OR grüßend'") == [
        (old.query("SELECT id FROM texts WHERE seq = -1")[0][0],)
    ]


# --- interrupted, killed, twice at once ---


@pytest.mark.parametrize("when", ["before", "after"])
def test_interrupted_at_any_statement_it_leaves_the_old_state_and_can_run_again(
    kind: str, old: Old, engine: Engine, when: str
) -> None:
    for last in itertools.count():
        with interrupted(engine, f"{when}_cursor_execute", last):
            upgrade(engine)
        if old.revision == NEWEST:
            break  # it sends no more than that
        assert is_whole_and_old(old), last
    assert last > 4, "views that are made, and the revision"
    assert is_whole_and_new(old, engine)


@contextmanager
def interrupted(engine: Engine, when: str, last: int) -> Iterator[None]:
    """Only so many statements change something, and then comes a Ctrl-C, if there is one more."""
    sent = itertools.count()

    def interrupt(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if re.match(r"\s*(?:CREATE|ALTER|DROP|INSERT|UPDATE|DELETE)\b", statement) and next(sent) == last:
            raise KeyboardInterrupt

    event.listen(engine, when, interrupt)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        event.remove(engine, when, interrupt)


_UPGRADE = "import sys; from tests.unit.store.dying_upgrade import main; main(sys.argv[1], {last})"

Start = Callable[[int | None], "subprocess.Popen[str]"]


@pytest.fixture
def start(old: Old) -> Iterator[Start]:
    """Starts an upgrade in a process of its own, up to where it waits for a line."""
    started: list[subprocess.Popen[str]] = []

    def begin(last: int | None) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _UPGRADE.format(last=last), old.url]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload]  # as keywords
        started.append(process)
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.communicate()


def let_go(*processes: subprocess.Popen[str]) -> list[int]:
    """Let upgrades begin at the same moment; how they ended."""
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    return [each.wait(PATIENCE) for each in processes]


def test_killed_in_the_middle_it_leaves_the_old_state_and_can_run_again(old: Old, engine: Engine, start: Start) -> None:
    sent = _sent(old.kind)
    made = [place for place, statement in enumerate(sent) if statement.startswith("CREATE VIEW")]
    (moved,) = (place for place, statement in enumerate(sent) if statement.startswith("UPDATE"))
    ends = let_go(*[start(last) for last in (made[0], made[2], moved)])
    assert set(ends) == {-signal.SIGKILL}
    assert is_whole_and_old(old)
    upgrade(engine)
    assert is_whole_and_new(old, engine)


@cache
def _sent(kind: str) -> list[str]:
    """What an upgrade from the first revision sends, on a copy of its own."""
    with tempfile.TemporaryDirectory() as folder:
        copy = make(kind, Path(folder), FIRST)
        engine = open_engine(copy.url, create=False)
        sent: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *told: sent.append(told[2]))
        upgrade(engine)
        engine.dispose()
    return sent


def test_several_processes_may_upgrade_at_once(old: Old, engine: Engine, start: Start) -> None:
    assert let_go(*[start(None) for _ in range(3)]) == [0, 0, 0]
    assert is_whole_and_new(old, engine)


# --- what must not change any more ---


@pytest.mark.engines(SQLITE)
def test_the_first_revision_makes_what_it_made_when_it_was_frozen(kind: str, tmp_path: Path) -> None:
    """Databases of that version are out there: a later revision must find the same whichever program made them."""
    first = Old(kind, f"sqlite:///{tmp_path / 'first.db'}", "")
    upgrade_to(first.url, FIRST)
    made = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql <> '' AND tbl_name <> 'alembic_version'"
    plain = sorted([*row[:3], " ".join(row[3].split())] for row in first.query(made))
    assert hashlib.sha256(repr(plain).encode()).hexdigest() == FROZEN

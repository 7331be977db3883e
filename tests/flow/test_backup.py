"""The page on backups, carried out: its commands are taken from it, and what it promises is looked at."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import pytest

from proxy.journal.writer import JournalWriter
from tests.support.databases import SQLITE, PostgresDatabase, SqliteDatabase, a_postgres
from tests.support.here import run_here
from tests.support.journals import Entry, append, exchange, worker
from tests.support.running import ROOT, Running, environment, serving, starting, wait_for

PAGE = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```sh (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
KEY = "0f" * 32 + "\n"

_ANSWER = b"""{"id": "chatcmpl-%d", "object": "chat.completion", "model": "gpt-4o-mini", "choices": [{"index": 0,
"message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}],
"usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}}"""


def bought(number: int, **how: Any) -> list[Entry]:
    """An exchange that cost something."""
    asked = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'
    told = [("Content-Type", "application/json")]
    return exchange(number, upload=[asked], chunks=[_ANSWER % number], answered=told, **how)


class Site:
    """A machine: a home, and a database, which on Postgres is there whatever becomes of the machine."""

    def __init__(self, folder: Path, database: PostgresDatabase | None) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.journal = self.home / "journal"
        self.backup = folder.parent / "backup"
        self.kind = SQLITE if database is None else database.kind
        self.postgres = database
        self.database = database or SqliteDatabase(self.home / "wiretape.db")
        self.variables = {"WIRETAPE_HOME": str(self.home)}
        if database is not None:
            self.variables["WIRETAPE_DATABASE"] = database.url

    def made(self) -> Site:
        self.journal.mkdir(parents=True, mode=0o700)
        self.home.chmod(0o700)
        (self.home / "fingerprint.key").write_text(KEY)
        return self

    def do(self, *blocks: str, **more: str) -> str:
        """Carry out blocks of the page in one shell; what they print. What a shell is told to export is told to us."""
        places = [str(Path(sys.executable).parent), os.environ["PATH"]]
        if self.postgres is not None:
            places.insert(0, str(self.postgres.server.bin))
        told = {**self.variables, "BACKUP": str(self.backup), "PATH": os.pathsep.join(places), **more}
        script = "".join(["set -eu\n", *(BLOCKS[each] for each in blocks)])
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            env=environment(self.folder, told),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def back_up(self) -> None:
        self.do("home-backup", "sqlite-backup" if self.postgres is None else "postgres-backup")

    def restore(self, *first: str) -> None:
        """Into this home; on Postgres into another database, which is this one's from then on."""
        if self.postgres is None:
            self.do(*first, "sqlite-restore", "check")
            return
        server = self.postgres.server
        server.drop("restored")
        restored = PostgresDatabase(self.kind, "restored")
        self.do(*first, "postgres-restore", "check", SERVER=server.url("postgres"), RESTORED=restored.url)
        self.postgres = self.database = restored
        self.variables["WIRETAPE_DATABASE"] = restored.url

    def run(self, *arguments: str) -> Any:
        """What a command says as JSON."""
        return json.loads(run_here(self.folder, *arguments, "--format", "json", variables=self.variables).out)

    def check(self) -> dict[str, Any]:
        """What `db check` finds."""
        found: dict[str, Any] = self.run("db", "check")
        return found

    def spent(self) -> Any:
        return self.run("spend", "--since", "2020-01-01")

    @contextmanager
    def ingest(self) -> Iterator[Running]:
        with serving(self.folder, command="ingest", variables=self.variables, fresh=True) as running:
            yield running
            assert running.stop() == 0, running.log

    def ids(self, where: str = "interpreter IS NOT NULL") -> set[UUID]:
        found = self.database.query(f"SELECT id FROM exchanges WHERE {where}")  # noqa: S608 - ours
        return {UUID(bytes=bytes(row[0])) for row in found}

    def wait(self, count: int) -> None:
        wait_for(lambda: len(self.ids()) >= count, f"{count} exchanges that are stored and understood")

    def check_whole(self) -> None:
        """Each exchange that ended has its bytes, once, and is counted once."""
        ended = """SELECT e.id, e.request_chunks + e.response_chunks,
            (SELECT count(*) FROM chunks c WHERE c.exchange_id = e.id)
            + (SELECT CAST(coalesce(sum(t.chunks), 0) AS int) FROM tapes t WHERE t.exchange_id = e.id)
            FROM exchanges e WHERE e.outcome = 0 AND e.ordinal IS NOT NULL"""
        assert [row for row in self.database.query(ended) if row[1] != row[2]] == []
        summed = "SELECT CAST(sum(exchanges) AS int), CAST(sum(cost_pico) AS bigint) FROM spend_keys"
        counted = "SELECT count(*), CAST(sum(cost_pico) AS bigint) FROM exchanges WHERE counted"
        assert self.database.query(summed) == self.database.query(counted)


@pytest.fixture
def site(kind: str, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        database = None if kind == SQLITE else stack.enter_context(a_postgres(kind))
        (tmp_path / "first").mkdir()
        made = Site(tmp_path / "first", database).made()
        yield made
        if made.postgres is not None:
            made.database.close()  # type: ignore[union-attr]  # it is the Postgres


@pytest.fixture
def elsewhere(site: Site, tmp_path: Path) -> Iterator[Site]:
    """A new machine."""
    (tmp_path / "second").mkdir()
    made = Site(tmp_path / "second", site.postgres)
    yield made
    if made.postgres is not None:
        made.postgres.close()
        made.postgres.server.drop("restored")


@pytest.fixture
def forward(site: Site) -> Iterator[JournalWriter]:
    """What a forward writes, whose files are small."""
    writer = JournalWriter(site.journal, node="node", worker=worker(1), fsync_every=None, segment_bytes=20_000)
    yield writer
    writer.close()


class Traffic:
    """Goes on recording until it is told to stop; `done` are the exchanges that ended, in their order."""

    def __init__(self, writer: JournalWriter) -> None:
        self.done: list[int] = []
        self._writer = writer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.01):
            number += 1
            append(self._writer, bought(number))
            self.done.append(number)


def test_the_page_has_these_commands() -> None:
    halves = [f"{what}-{which}" for what in ("home", "sqlite", "postgres") for which in ("backup", "restore")]
    assert sorted(BLOCKS) == sorted([*halves, "check"])


def test_a_backup_while_it_is_written_to(site: Site, elsewhere: Site, forward: JournalWriter) -> None:
    """Nothing that was recorded before the backup began is missing on the new machine."""
    with site.ingest(), Traffic(forward) as traffic:
        site.wait(100)
        before = len(traffic.done)
        site.back_up()
        site.wait(before + 50)
    elsewhere.restore("home-restore")
    elsewhere.check_whole()
    with elsewhere.ingest():
        elsewhere.wait(before)
        wait_for(lambda: not any(elsewhere.journal.iterdir()), "all of the copied journal to be stored")
    found = elsewhere.check()
    assert found["differences"] == []
    assert found["losses"] == [], "what was not recorded yet is not missed"
    assert elsewhere.ids("outcome = 0") >= {UUID(bytes=_id(number)) for number in traffic.done[:before]}
    elsewhere.check_whole()
    assert elsewhere.ids() <= site.ids()


def _id(number: int) -> bytes:
    return bytes.fromhex(bought(number)[0].exchange.decode())


def test_spend_is_the_same_and_the_files_are_private(site: Site, elsewhere: Site, forward: JournalWriter) -> None:
    append(forward, [each for number in range(1, 11) for each in bought(number)])
    with site.ingest():
        site.wait(10)
    site.back_up()
    elsewhere.restore("home-restore")
    assert elsewhere.spent() == site.spent()
    assert elsewhere.spent()["total"]["cost_pico"] > 0
    for folder in (site.backup, elsewhere.home):
        for path in folder.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
    if site.postgres is not None:
        parts = "SELECT count(*) FROM pg_inherits"
        assert elsewhere.database.query(parts) == site.database.query(parts)


def test_a_running_forward_goes_on_and_what_is_lost_is_told(site: Site, forward: JournalWriter) -> None:
    """The database dies, the home does not."""
    append(forward, [each for number in range(1, 11) for each in bought(number)])
    append(forward, bought(11, wire_end=None))
    with site.ingest():
        site.wait(10)
        site.back_up()
        append(forward, bought(11)[-1:])
        for number in range(12, 101):
            append(forward, bought(number))
        site.wait(100)
        wait_for(lambda: len(list(site.journal.iterdir())) == 1, "stored files to be removed")
    left = {UUID(each.exchange.decode()) for each in _heads(site.journal)}
    append(forward, bought(101))
    site.restore()
    assert site.check()["losses"] == []
    with site.ingest() as ingest:
        wait_for(lambda: UUID(bytes=_id(101)) in site.ids(), "what was recorded last")
        append(forward, bought(102))
        wait_for(lambda: UUID(bytes=_id(102)) in site.ids(), "what is recorded now")
        assert re.search(r"segment \S+ is missing; going on with \d+", ingest.log)
    kept = {UUID(bytes=_id(number)) for number in (*range(1, 11), 101, 102)} | left
    assert site.ids("outcome = 0 AND ordinal IS NOT NULL") == kept
    assert len(site.ids("ordinal IS NULL")) <= 1, "of the one whose head was in the file before, the rest is there"
    site.check_whole()
    found = site.check()
    missing = 102 - found["counts"]["stored"]
    assert found["differences"] == []
    assert found["counts"]["missing"] == missing > 0
    assert any(f"{missing} of 102 exchanges never arrived" in each for each in found["losses"])


def _heads(folder: Path) -> list[Entry]:
    """The request heads of the files that are there."""
    found = []
    for path in folder.iterdir():
        found += [number for number in range(1, 200) if bought(number)[0].payload in path.read_bytes()]
    return [bought(number)[0] for number in found]


def test_without_its_key_a_restored_database_is_refused(site: Site, elsewhere: Site, forward: JournalWriter) -> None:
    append(forward, bought(1))
    with site.ingest():
        site.wait(1)
    site.back_up()
    elsewhere.restore("home-restore")
    (elsewhere.home / "fingerprint.key").unlink()
    with starting(elsewhere.folder, "ingest", variables=elsewhere.variables) as refused:
        assert refused.wait() == 2
        assert "the database holds fingerprints of another key" in refused.log


@pytest.mark.engines(SQLITE)
def test_a_copy_of_the_file_alone_is_no_backup(site: Site, forward: JournalWriter, tmp_path: Path) -> None:
    """Why the page says so."""
    append(forward, bought(1))
    with site.ingest():
        site.wait(1)
        shutil.copyfile(site.home / "wiretape.db", tmp_path / "copy.db")
        site.back_up()
        with closing(sqlite3.connect(site.backup / "wiretape.db")) as good:
            assert good.execute("SELECT count(*) FROM exchanges").fetchone() == (1,)
            assert good.execute("PRAGMA auto_vacuum").fetchone() == (2,)
            assert good.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copied:
        assert copied.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,), (
            "all of it was in the other file"
        )

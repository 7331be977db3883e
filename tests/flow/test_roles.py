"""What `wiretape serve` promises of its processes: any may die, a stop loses nothing, a start that fails says why."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.running import PATIENCE, Running, alive, serving, wait_for

EVENT = b"data: {}\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Patient:
    """An upstream that sends one event to each request and the second, and the end, when told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        chunk = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
        with connection:
            try:
                while connection.recv(65536):
                    connection.sendall(HEAD + chunk)
                    if not self.go_on.wait(2 * PATIENCE):
                        return
                    connection.sendall(chunk + b"0\r\n\r\n")
            except OSError:
                return

    def close(self) -> None:
        self.go_on.set()
        self._listener.close()


@pytest.fixture
def patient() -> Iterator[Patient]:
    upstream = Patient()
    yield upstream
    upstream.close()


def models(wiretape: Running, times: int = 1) -> None:
    """Requests that succeed, each an exchange."""
    for _ in range(times):
        answer = wiretape.client.get(f"{wiretape.base_url()}/v1/models")
        assert answer.status_code == httpx.codes.OK


def outcomes(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{folder / 'wiretape.db'}?mode=ro", uri=True)) as database:
        return dict(database.execute("select outcome, count(*) from exchange_list group by 1").fetchall())


def stored_later(tmp_path: Path, *flags: str, exchanges: int, database: str = "home") -> dict[str, int]:
    """The outcomes of what an earlier wiretape left in the journal, once an ingest has stored it all."""
    with serving(tmp_path, *flags, command="ingest") as ingest:
        wait_for(lambda: sum(outcomes(tmp_path / database).values()) == exchanges, "the rest to be stored")
        assert ingest.stop() == 0
    return outcomes(tmp_path / database)


# Deaths


def test_a_role_that_is_killed_is_started_again(tmp_path: Path) -> None:
    """While forward is away its port still takes connections, which the next worker serves."""
    with serving(tmp_path) as wiretape:
        models(wiretape)
        url, asked = wiretape.base_url(), 1
        for role in ("forward", "ingest", "console", "forward", "forward"):
            wiretape.wait_stored(asked)
            killed = wiretape.kill(role)
            assert wiretape.client.get(f"{url}/v1/models").status_code == httpx.codes.OK
            wiretape.successor(role, killed)
            models(wiretape)
            asked += 2
            assert f"{role} {killed} was killed by SIGKILL" in wiretape.log
        wiretape.wait_stored(asked)
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
        assert wiretape.stop() == 0
    assert outcomes(wiretape.home) == {"completed": asked}


def test_a_serve_that_is_killed_takes_its_roles_along_and_leaves_room_for_the_next(tmp_path: Path) -> None:
    with serving(tmp_path) as wiretape:
        models(wiretape, 3)
        family = wiretape.family()
        assert len(family) == 4
        ports = {"forward": int(wiretape.url.rpartition(":")[2]), "console": int(wiretape.console.rpartition(":")[2])}
        wiretape.process.kill()
        wiretape.wait()
        with serving(tmp_path, ports=ports) as successor:
            wait_for(lambda: not any(alive(*each) for each in family.items()), "the roles' end")
            models(successor)
            successor.wait_stored(4)
            assert successor.stop() == 0
    assert outcomes(wiretape.home) == {"completed": 4}


def test_what_was_counted_once_is_not_counted_again_after_the_next_start(tmp_path: Path) -> None:
    for start in (1, 2):
        with serving(tmp_path) as wiretape:
            models(wiretape, 3)
            wiretape.wait_stored(3 * start)
            assert wiretape.metrics()["wiretape_exchanges_accepted_total"] == 3 * start
            assert wiretape.stop() == 0


# Stopping


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_running_streams_finish(tmp_path: Path, patient: Patient, signum: int) -> None:
    with serving(tmp_path, "--upstream", f"slow={patient.url}") as wiretape:
        with wiretape.client.stream("POST", wiretape.base_url("slow"), content=b"{}") as stream:
            parts = stream.iter_raw()
            received = next(parts)
            data = wiretape.url
            wiretape.interrupt(signum)
            wait_for(lambda: _refuses(data), "the data port to be closed")
            assert wiretape.process.poll() is None
            patient.go_on.set()
            received += b"".join(parts)
        assert received == 2 * EVENT
        assert wiretape.wait() == 0
    assert outcomes(wiretape.home) == {"completed": 1}
    assert "stay in the journal" not in wiretape.log


def test_a_second_stop_waits_for_no_stream(tmp_path: Path, patient: Patient) -> None:
    with serving(tmp_path, "--upstream", f"slow={patient.url}", config="forward.shutdown_grace = '1h'") as wiretape:
        with wiretape.client.stream("POST", wiretape.base_url("slow"), content=b"{}") as stream:
            parts = stream.iter_raw()
            next(parts)
            data = wiretape.url
            wiretape.interrupt()
            wait_for(lambda: _refuses(data), "the data port to be closed")
            wiretape.interrupt()
            with pytest.raises(httpx.HTTPError):
                list(parts)
        assert wiretape.wait() == 0
    assert "completed" not in stored_later(tmp_path, exchanges=1)


def test_streams_that_take_too_long_are_cut(tmp_path: Path, patient: Patient) -> None:
    with serving(tmp_path, "--upstream", f"slow={patient.url}", config="forward.shutdown_grace = '200ms'") as wiretape:
        with wiretape.client.stream("POST", wiretape.base_url("slow"), content=b"{}") as stream:
            parts = stream.iter_raw()
            next(parts)
            wiretape.interrupt()
            with pytest.raises(httpx.HTTPError):
                list(parts)
        assert wiretape.wait() == 0


def test_with_the_database_away_it_starts_records_and_says_what_stays(tmp_path: Path) -> None:
    away = tmp_path / "disk"
    database = f"sqlite:///{away}/wiretape.db"
    with serving(tmp_path, "--database", database) as wiretape:
        models(wiretape, 2)
        ready = wiretape.client.get(f"{wiretape.console}/-/ready")
        assert ready.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert str(away) in ready.json()["problems"][0]
        wait_for(lambda: _with(wiretape, "wiretape_exchanges_waiting", 2), "the counts")
        wait_for(lambda: wiretape.metrics()["wiretape_journal_lag_bytes"], "the lag")
        assert wiretape.metrics()["wiretape_database_up"] == 0
        assert wiretape.stop() == 0
        assert len(re.findall(r"[0-9]+ bytes stay in the journal and will be stored", wiretape.log)) == 1
        assert len(re.findall(r"recording begins all the same", wiretape.log)) == 1
    away.mkdir()
    assert stored_later(tmp_path, "--database", database, exchanges=2, database="disk") == {"completed": 2}


def test_a_database_that_is_moved_away_is_not_made_anew(tmp_path: Path) -> None:
    with serving(tmp_path) as wiretape:
        models(wiretape)
        wiretape.wait_stored(1)
        database, aside = wiretape.home / "wiretape.db", wiretape.home / "aside.db"
        database.rename(aside)
        models(wiretape)
        wait_for(lambda: _with(wiretape, "wiretape_database_up", 0), "ingest to notice")
        killed = wiretape.kill("ingest")
        wiretape.successor("ingest", killed)
        assert not database.exists()
        aside.rename(database)
        wiretape.wait_stored(2)
        assert wiretape.stop() == 0


def test_kept_is_what_was_recorded_before_a_database_was_locked(tmp_path: Path) -> None:
    with serving(tmp_path) as wiretape:
        models(wiretape)
        wiretape.wait_stored(1)
        with closing(sqlite3.connect(wiretape.home / "wiretape.db", isolation_level=None)) as other:
            other.execute("begin exclusive")
            models(wiretape, 2)
            other.execute("rollback")
        wiretape.wait_stored(3)
        assert wiretape.stop() == 0


# Each role alone


def test_each_role_runs_alone(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", command="forward") as forward:
        assert forward.process.poll() is None
        models(forward, 3)
        assert forward.stop() == 0
    with serving(tmp_path, command="forward") as forward:
        wait_for(lambda: "more: wiretape upstreams" in forward.output, "its addresses")
        models(forward)
        assert not (forward.home / "wiretape.db").exists()
        with (
            serving(tmp_path, command="console", fresh=True) as console,
            serving(tmp_path, command="ingest", fresh=True) as ingest,
        ):
            console.wait_stored(4)
            ready = console.client.get(f"{console.console}/-/ready")
            assert ready.json() == {"ok": True, "problems": []}
            assert ingest.stop(signal.SIGTERM) == 0
            assert forward.stop() == 0
            ready = console.client.get(f"{console.console}/-/ready")
            assert len(ready.json()["problems"]) == 2
            assert console.stop() == 0
    assert outcomes(forward.home) == {"completed": 4}


def _with(wiretape: Running, name: str, value: float) -> dict[str, float]:
    """The metrics once one of them has a value; else nothing."""
    found = wiretape.metrics()
    return found if found.get(name) == value else {}


def _refuses(url: str) -> bool:
    with socket.socket() as probe:
        host, port = url.removeprefix("http://").split(":")
        return probe.connect_ex((host, int(port))) != 0

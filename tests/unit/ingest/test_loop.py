"""The loop: what it says of itself while it runs, how far behind it is, and how it stops."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable

import pytest

from proxy.ingest.run import Ingest, IngestOptions, store
from proxy.ingest.seat import Seat
from proxy.journal.writer import segment_name
from proxy.status import StatusFile, read_all
from proxy.store.migrate import upgrade
from tests.support.journals import House, append, exchange, image, merged, preamble, until, worker
from tests.unit.ingest.conftest import FINGERPRINT, Running

Start = Callable[..., Running]


def stored(house: House, number: int) -> None:
    """Until so many exchanges are there with all that belongs to them: their end comes last."""
    until(lambda: house.one("SELECT count(*) FROM exchanges WHERE outcome IS NOT NULL") == number)


# What it says


def test_facts(house: House, running: Start) -> None:
    house.record(merged(exchange(1), exchange(2)), worker(1))
    house.record(exchange(3, ordinal=5), worker(2))
    alive = house.journal(worker(3))
    append(alive, exchange(4, ordinal=1, wire_end=None))
    ingest = running()
    ingest.says("ended", lambda said: said == {"stored": 3, "highest": 7})
    ingest.says("journals", lambda said: said == {str(worker(3)): {"stored": 1, "highest": 1}})
    ingest.says("lag_bytes", lambda size: size == 0)
    facts = ingest.facts
    assert (facts["database"], facts["damage"], facts["stopping"], facts["lag_seconds"]) == ("ok", 0, False, 0.0)
    alive.close()
    ingest.says("ended", lambda said: said == {"stored": 4, "highest": 8})
    ingest.says("journals", lambda said: said == {})


def test_facts_after_a_restart(house: House, running: Start) -> None:
    """What was counted is in the database, not in the process."""
    house.record(exchange(1), worker(1))
    first = running()
    stored(house, 1)
    first.stop()
    assert first.facts["ended"] == {"stored": 1, "highest": 1}
    second = running()
    second.says("ended", lambda said: said == {"stored": 1, "highest": 1})


def test_damage_is_told_and_not_forgotten(house: House, running: Start) -> None:
    """Also not when the database is away in between, for which ingest begins anew."""
    shape = image(exchange(1), of=worker(1))
    house.put(shape._replace(data=shape.data[:-1] + b"?"), worker(1))
    ingest = running()
    ingest.says("damage", lambda number: number == 1)
    with house.database.away():
        ingest.says("database", lambda said: said != "ok")
    ingest.says("database", lambda said: said == "ok")
    assert ingest.facts["damage"] == 1


def test_a_dead_forwards_status_goes_with_its_journal(house: House, running: Start) -> None:
    """What it said last counts until all it recorded is stored; then it would count twice."""
    StatusFile(house.home, "forward").write({"worker": str(worker(1))})
    path = house.home / "status" / f"forward-{os.getpid()}.json"
    dead = path.with_name("forward-4194305.json")  # a process id beyond the kernel's highest
    dead.write_bytes(path.read_bytes().replace(b'"pid":%d' % os.getpid(), b'"pid":4194305'))
    house.record(exchange(1), worker(1))
    running()
    until(lambda: not dead.exists())
    assert path.exists(), "a living one tells of more than this journal"
    assert [status.role for status in read_all(house.home) if status.pid == 4194305] == []


# How far behind


def test_lag_while_the_database_is_away(house: House, running: Start) -> None:
    ingest = running()
    writer = house.journal()
    append(writer, exchange(1))
    stored(house, 1)
    begin = writer.offset
    with house.database.away():
        ingest.says("database", lambda said: said != "ok")
        append(writer, merged(*[exchange(number) for number in range(2, 50)]))
        appended = time.monotonic()
        ingest.says("lag_bytes", lambda size: size == writer.offset - begin)
        ingest.says("lag_seconds", lambda seconds: seconds > 1.0)
        assert ingest.facts["lag_seconds"] < time.monotonic() - appended + 3.0, "since all was stored, not the start"
    ingest.says("lag_bytes", lambda size: size == 0)
    assert ingest.facts["lag_seconds"] == 0.0


@pytest.mark.engines("sqlite")
def test_lag_without_any_database(house: House, running: Start) -> None:
    house.path.unlink()
    house.record(exchange(1), worker(1), segment_bytes=500)
    house.record(exchange(2), worker(2))
    size = sum(path.stat().st_size for path in house.folder.iterdir())
    ingest = running(create=False)
    ingest.says("lag_bytes", lambda said: said == size)
    ingest.says("lag_seconds", lambda seconds: seconds > 0)


def test_lag_of_a_journal_that_must_wait(house: House, running: Start) -> None:
    """It lags for ever, and others' progress does not hide it."""
    data = preamble(version=2, of=worker(1)) + b"x" * 1000
    house.put(image([])._replace(data=data), worker(1))
    writer = house.journal(worker(2))
    ingest = running()
    append(writer, exchange(1))
    stored(house, 1)
    ingest.says("lag_bytes", lambda size: size == len(data))
    ingest.says("lag_seconds", lambda seconds: seconds > 1.0)
    ingest.stop()
    assert ingest.error is None
    assert ingest.facts["lag_bytes"] == len(data)


def test_an_idle_hour_is_no_lag(running: Start) -> None:
    """The time in which nothing was recorded does not count once something is."""
    ingest = running()
    began = time.monotonic()
    until(lambda: ingest.ingest._current > began + 0.5)


# How it stops


def test_stopping_drains(house: House, running: Start) -> None:
    for number in range(1, 6):
        house.record(merged(*[exchange(10 * number + each) for each in range(9)]), worker(number), segment_bytes=2000)
    ingest = running()
    ingest.stop()
    assert house.one("SELECT count(*) FROM exchanges WHERE outcome = 0") == 45
    assert house.files == []
    assert ingest.facts["stopping"] is True
    assert ingest.facts["ended"]["stored"] == 45


def test_the_lifelines_end_stops(house: House, running: Start, lifeline: tuple[int, int]) -> None:
    reading, writing = lifeline
    house.record(exchange(1), worker(1))
    ingest = running(lifeline=reading)
    os.write(writing, b"x")  # a word is no end
    stored(house, 1)
    assert ingest.alive
    os.close(writing)
    until(lambda: not ingest.alive)
    assert ingest.error is None


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("away", [True, False])
def test_stopping_does_not_wait_for_what_cannot_be(house: House, running: Start, away: bool) -> None:
    """A database that is away, or journals that must stay: whoever stops wiretape is not made to wait for them."""
    house.put(image([])._replace(data=preamble(version=2, of=worker(1)) + b"x"), worker(1))
    (house.folder / segment_name(worker(2), 0)).mkdir()
    if away:
        house.path.unlink()
    ingest = running(create=False, drain_timeout=3600.0)
    ingest.says("database", lambda said: (said == "ok") != away)
    ingest.stop()
    assert ingest.error is None
    assert len(house.files) == 2


def test_a_living_worker_that_is_idle_does_not_hold_up_a_stop(house: House, running: Start) -> None:
    append(house.journal(worker(1)), exchange(1, wire_end=None))
    ingest = running(drain_timeout=3600.0)
    ingest.stop()
    assert house.one("SELECT count(*) FROM exchanges WHERE outcome IS NULL") == 1


def test_a_stop_ends_at_its_timeout(house: House, running: Start) -> None:
    """A record that its living worker has not finished writing is waited for, but not for ever."""
    shape = image(exchange(1), of=worker(1))
    writer = house.journal(worker(1))
    append(writer, exchange(1, wire_end=None))
    path = house.folder / segment_name(worker(1), 0)
    with path.open("ab") as file:
        file.write(shape.data[shape.begin : shape.begin + 50])
    ingest = running(drain_timeout=0.3)
    ingest.stop()
    assert ingest.facts["lag_bytes"] == 50


def test_what_comes_while_the_home_is_let_go_of_is_stored(house: House) -> None:
    """Another ingest that waits for the home ends when it is told to, and leaves it to us as long as we hold it."""

    class Parting(Ingest):
        comes = 2

        def disconnect(self) -> None:
            """What the other one waited for is complete after our last look, and before we let go."""
            if self.drained and self.comes:
                house.record(exchange(self.comes), worker(self.comes))
                self.comes -= 1
            super().disconnect()

    options = IngestOptions(house.home, house.url, FINGERPRINT, upgrade)
    ingest = Parting(options)
    ingest.on_signal(0, None)
    lock = os.open(house.home / "ingest.lock", os.O_RDWR | os.O_CREAT, 0o600)
    other = os.open(house.home / "ingest.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store(ingest, Seat(house.home, 0, lock))
        assert house.one("SELECT count(*) FROM exchanges WHERE outcome IS NOT NULL") == 2
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is let go of
    finally:
        ingest.close()
        os.close(lock)
        os.close(other)

"""A record that ingest fails at: twice is enough. One that ingest was only killed at by chance is stored."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from proxy.ingest.attempt import DEATHS, Attempts, Place
from tests.support.forked import forkserver
from tests.support.journals import (
    DEADLINE,
    WORKER,
    House,
    append,
    entries_of,
    exchange,
    json,
    merged,
    read_journal,
    until,
    worker,
)
from tests.unit.ingest import dying_ingest

PROCESSES = forkserver(dying_ingest.__name__)
TAPE = merged(exchange(1, chunks=[b"a", b"b", b"c"]), exchange(2))


def attempt(house: House) -> Path:
    return house.home / "ingest.attempt"


def leave(house: House, place: Place) -> None:
    """What an ingest leaves that dies in the midst of a batch."""
    house.stop()
    attempt(house).write_bytes(json(place))


def run_program(house: House) -> int:
    process = PROCESSES.Process(target=dying_ingest.main, args=(house.home,))
    process.start()
    process.join(DEADLINE)
    assert process.exitcode is not None
    return process.exitcode


def all_stored(house: House) -> bool:
    bodies = [house.body(1), house.body(2)]
    return bodies == [[b"a", b"b", b"c"], [b"data: one\n\n", b"data: two\n\n"]] and not [
        row for row in house.exchanges() if row["lost_records"] or row["outcome"] != "completed"
    ]


# With real deaths


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize(("function", "code"), [("crash", -signal.SIGABRT), ("fail", 1)])
def test_a_record_that_kills(house: House, function: str, code: int) -> None:
    """In its batch, then twice alone; then everything but it is stored, and its exchange says so."""
    house.execute(f"CREATE TRIGGER deadly AFTER INSERT ON chunks WHEN NEW.data = x'62' BEGIN SELECT {function}(); END;")
    house.record(TAPE)
    house.record(exchange(3), worker(1))
    assert [run_program(house) for _ in range(4)] == [code, code, code, 0]
    assert house.body(1) == [b"a", b"c"]
    assert len(house.body(2)) == len(house.body(3)) == 2
    rows = house.exchanges()
    assert {row["outcome"] for row in rows} == {"completed"}
    assert [row["lost_records"] for row in rows] == [1, 0, 0]
    assert "could not be stored" in rows[0]["interpretation_error"]
    assert house.files == []
    assert attempt(house).read_bytes() == b""


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize(("function", "code"), [("crash", -signal.SIGABRT), ("fail", 1)])
def test_an_exchange_whose_meaning_kills(house: House, function: str, code: int) -> None:
    """Among others, then twice alone; then it is left uninterpreted, and all others are read."""
    when = "WHEN NEW.exchange_id = (SELECT id FROM exchanges WHERE ordinal = 2)"
    house.execute(f"CREATE TRIGGER deadly AFTER INSERT ON meanings {when} BEGIN SELECT {function}(); END;")
    house.record(merged(exchange(1), exchange(2, record="meta"), exchange(3)))
    assert [run_program(house) for _ in range(4)] == [code, code, code, 0]
    rows = house.exchanges()
    assert [row["interpreter"] is None for row in rows] == [False] * 3
    assert [row["interpretation_error"] is None for row in rows] == [True, False, True]
    assert "ended ingest again and again" in rows[1]["interpretation_error"]
    assert [len(house.body(number)) for number in (1, 2, 3)] == [2, 0, 2]
    assert attempt(house).read_bytes() == b""


@pytest.mark.engines("sqlite")
def test_killed_from_outside_again_and_again(house: House) -> None:
    """Nothing tells such a death from chance; the record is stored as soon as ingest is left to do it."""
    house.execute("CREATE TRIGGER deadly AFTER INSERT ON chunks WHEN NEW.data = x'62' BEGIN SELECT die(); END;")
    house.record(TAPE)
    assert [run_program(house) for _ in range(4)] == [-signal.SIGKILL] * 4
    house.execute("DROP TRIGGER deadly")
    house.drain()
    assert all_stored(house)


@pytest.mark.engines("sqlite")
def test_the_first_record_of_a_journal_kills(house: House) -> None:
    house.execute("CREATE TRIGGER deadly AFTER INSERT ON heads WHEN NEW.side = 0 BEGIN SELECT crash(); END;")
    house.record(exchange(1))
    assert [run_program(house) for _ in range(4)] == [-signal.SIGABRT] * 3 + [0]
    row = house.exchange(1)
    assert (row["outcome"], row["target"], row["lost_records"]) == ("completed", None, 1)
    assert len(house.body(1)) == 2


# With what a death leaves


def test_after_a_death_all_goes_one_by_one(house: House) -> None:
    writer = house.journal()
    append(writer, TAPE)
    leave(house, Place(WORKER, 0, 0, 3))
    ends = [each.end for each in read_journal(house.folder)[:3]]
    positions = []
    for _ in range(4):
        house.carrier.pass_once()
        positions.append(house.one('SELECT "offset" FROM journals'))
    assert positions == [*ends, writer.offset], "as many as the batch could have held, then at full size again"
    assert all_stored(house)


@pytest.mark.parametrize("deaths", [0, DEATHS - 2, DEATHS - 1])
def test_chance_is_not_held_against_a_record(house: House, deaths: int) -> None:
    """Whoever kills an ingest that stores one by one always hits some record: that one is tried again, many times."""
    house.record(TAPE)
    leave(house, Place(WORKER, 0, 0, 1, deaths))
    house.drain()
    if deaths < DEATHS - 1:
        assert all_stored(house)
    else:
        assert house.exchange(1)["lost_records"] == 1
        assert house.exchange(1)["target"] is None


def test_killed_at_any_two_records(house: House) -> None:
    """In a batch, then alone at another: neither is a reason to leave anything out."""
    writer = house.journal()
    append(writer, TAPE)
    offsets = [0, *(each.end for each in read_journal(house.folder)[:-1])]
    for offset in offsets:
        leave(house, Place(WORKER, 0, offset, 5000))
        house.carrier.pass_once()
        assert house.one('SELECT "offset" FROM journals') > offset
        leave(house, Place(WORKER, 0, offset, 1))
    writer.close()
    house.drain()
    assert all_stored(house)


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"\0\0\0",
        b"{}",
        b'{"worker": 7}',
        json(Place(WORKER, 0, 777, 1, 9)),
        json(Place(WORKER, 1, 0, 1, 9)),
        json(Place(worker(9), 0, 0, 1, 9)),
        json(Place(WORKER, 0, 0, 1, 9)) + b"}}",
    ],
)
def test_what_says_nothing_of_the_next_batch_is_passed_over(house: House, left: bytes) -> None:
    house.record(TAPE)
    attempt(house).write_bytes(left)
    house.drain()
    assert all_stored(house)
    assert len(entries_of(read_journal(house.folder))) == 0


def test_a_home_that_cannot_take_the_note(house: House) -> None:
    attempt(house).mkdir()
    house.record(TAPE)
    house.drain()
    assert all_stored(house)


def test_waiting_for_the_database_is_not_held_against_a_record(house: House) -> None:
    """An ingest that waits for another's lock may well be killed for it."""
    writer = house.journal()
    append(writer, TAPE[:4])
    house.busy_timeout = DEADLINE
    house.drain()
    append(writer, TAPE[4:])
    attempt(house).write_bytes(json(Place(worker(9), 0, 0, 1)))  # for the emptiness to mean something
    with house.database.locked():
        storing = threading.Thread(target=house.drain)
        storing.start()
        until(lambda: attempt(house).read_bytes() == b"")
        assert storing.is_alive()
    storing.join(DEADLINE)
    writer.close()
    house.drain()
    assert all_stored(house)


def test_begin_and_done(tmp_path: Path) -> None:
    path = tmp_path / "attempt"
    first, second = Place(WORKER, 0, 10**15, 5000), Place(WORKER, 1, 0, 1, 1)
    attempts = Attempts(path)
    assert attempts.died_at is None
    attempts.begin(first)
    assert Attempts(path).died_at == first
    attempts.done()
    assert Attempts(path).died_at is None
    attempts.begin(first)
    attempts.begin(second)
    assert Attempts(path).died_at == second, "the shorter one leaves nothing of the longer"
    attempts.done()
    attempts.close()
    assert path.stat().st_mode & 0o777 == 0o600

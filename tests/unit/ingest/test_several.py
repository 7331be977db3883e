"""Several ingests on one shared database: each journal is one's own, nothing is stored or counted twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.errors import UsageError
from proxy.ingest import interpret
from proxy.ingest.run import Ingest, IngestOptions, run
from proxy.ingest.seat import Claims, seat
from proxy.status import read_all
from proxy.store.migrate import upgrade
from tests.support.journals import Entry, House, append, exchange, exchange_id, merged, until, worker
from tests.unit.ingest.conftest import FINGERPRINT, Running

Start = Callable[..., Running]

pytestmark = pytest.mark.engines("postgres")

READ = "SELECT count(*) FROM exchanges WHERE interpreter IS NOT NULL"


def tapes(of: int, count: int = 20) -> list[Entry]:
    return merged(*[exchange(of * 1000 + number, ordinal=number) for number in range(1, count + 1)])


def test_each_journal_is_stored_once(house: House, running: Start) -> None:
    for number in range(1, 7):
        house.record(tapes(number), worker(number))
    first, other = running(), running()
    until(lambda: house.one(READ) == 120)
    for each in (first, other):
        each.stop()
        assert each.error is None
    assert house.one("SELECT count(*), sum(stored), sum(highest_ordinal) FROM journals") == (6, 120, 120)
    assert house.query("SELECT exchange_id, seq FROM chunks GROUP BY 1, 2 HAVING count(*) > 1") == []
    assert house.one("SELECT CAST(sum(exchanges) AS int) FROM spend_hours") == 120
    assert house.files == []
    assert list((house.home / "claims").iterdir()) == []


def test_a_living_journal_passes_to_another_when_its_ingest_ends(house: House, running: Start) -> None:
    writer = house.journal(worker(1))
    append(writer, exchange(1))
    first = running()
    until(lambda: house.one(READ) == 1)
    second = running()
    append(writer, exchange(2, wire_end=None))
    until(lambda: house.one("SELECT count(*) FROM exchanges") == 2)
    first.stop()
    append(writer, exchange(3))
    until(lambda: house.one("SELECT count(*) FROM exchanges WHERE outcome IS NOT NULL") == 2)
    second.stop()
    writer.close()
    third = running()
    until(lambda: house.one("SELECT count(*) FROM exchanges WHERE outcome IS NULL") == 0)
    third.stop()
    assert [row["outcome"] for row in house.exchanges()] == ["completed", "interrupted", "completed"]
    assert house.one("SELECT stored, highest_ordinal FROM journals") == (3, 3)


def test_what_an_ingest_left_uninterpreted_is_read_by_another(
    house: House, running: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node may be gone for good."""
    house.record(tapes(1, 5), worker(1))
    house.drain()
    house.stop()
    assert house.one(READ) == 0
    monkeypatch.setattr(interpret, "LEFT_US", 0)
    other = running()
    until(lambda: house.one(READ) == 5)
    other.stop()
    assert house.one("SELECT CAST(sum(exchanges) AS int) FROM spend_hours") == 5


def test_what_another_is_about_to_interpret_is_left_to_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.record(exchange(1), worker(1))
    house.drain()
    monkeypatch.setattr(interpret, "LEFT_US", 10**17)
    house.interpreter._own = list
    assert house.interpreter.pass_over_others() is False
    assert house.one(READ) == 0
    monkeypatch.setattr(interpret, "LEFT_US", 0)
    house.interpreter.pass_over_others()
    assert house.one(READ) == 1


def test_an_ingest_says_only_what_is_its_homes_own(house: House) -> None:
    house.record(tapes(1, 3), worker(1))
    house.drain()
    for home, stored in ((house.home, 0), (house.home.parent / "elsewhere", 2)):
        if stored:
            with House(home, house.database) as other:
                other.record([*exchange(7001, ordinal=1), *exchange(7002, ordinal=2)], worker(2))
        ingest = Ingest(IngestOptions(home, house.url, FINGERPRINT, upgrade))
        ingest.on_signal(0, None)
        ingest.loop()
        (said,) = [status.facts for status in read_all(home)]
        ingest.close()
        assert (said["ended"], said["journals"]) == ({"stored": stored, "highest": stored}, {})
    assert house.one("SELECT CAST(sum(stored) AS int) FROM journals") == 5


def test_a_seat_for_each_and_no_more_than_there_are(tmp_path: Path) -> None:
    with ExitStack() as stack:
        taken = [stack.enter_context(seat(tmp_path, None, shared=True)) for _ in range(16)]
        assert [each.number for each in taken if each is not None] == list(range(16))
        assert len({each.attempt for each in taken if each is not None}) == 16
        with pytest.raises(UsageError, match="another ingest stores"), seat(tmp_path, None, shared=True):
            pass
    with seat(tmp_path, None, shared=False) as one:
        assert one is not None
        with pytest.raises(UsageError, match="another ingest stores"), seat(tmp_path, None, shared=False):
            pass


def test_a_claim_is_one_processs_until_it_is_done_or_gone(tmp_path: Path) -> None:
    mine, theirs = Claims(tmp_path), Claims(tmp_path)
    assert mine.claim(worker(1))
    assert mine.claim(worker(1)), "it has it already"
    assert not theirs.claim(worker(1))
    assert theirs.claim(worker(2))
    mine.done(worker(1))
    assert theirs.claim(worker(1)), "a new file"
    theirs.close()
    assert mine.claim(worker(2))
    mine.close()
    assert len(os.listdir(tmp_path / "claims")) == 2  # noqa: PTH208 - how many is all


def test_a_second_ingest_of_a_home_does_not_wait(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # they are this process'
    lifeline, other = os.pipe()
    os.close(other)
    with seat(house.home, None, shared=True):
        options = IngestOptions(house.home, house.url, FINGERPRINT, upgrade, lifeline=lifeline, patient=True)
        house.record(exchange(1))
        run(options)
    os.close(lifeline)
    assert house.exchange(1)["id"] == str(exchange_id(1))


def test_the_note_of_what_is_stored_is_the_seats_own(house: House) -> None:
    options = IngestOptions(house.home, house.url, FINGERPRINT, upgrade)
    ingest = Ingest(options, house.home / "ingest-3.attempt")
    house.record(exchange(1))
    ingest.on_signal(0, None)
    ingest.loop()
    ingest.close()
    assert (house.home / "ingest-3.attempt").exists()
    assert not (house.home / "ingest.attempt").exists()

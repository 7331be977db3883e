"""Segments: when they are removed, what may be wrong with them, and that one that cannot be stored stops no other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.journal.writer import segment_name
from proxy.store.errors import ValueRefused
from tests.support.journals import (
    SEED,
    WORKER,
    House,
    append,
    exchange,
    image,
    merged,
    preamble,
    worker,
)

JOURNAL = "SELECT segment, stored, highest_ordinal, lost_records, ended FROM journals WHERE worker = ?"


def names(*numbers: int) -> list[str]:
    return [segment_name(WORKER, number) for number in numbers]


def forbid(house: House) -> None:
    """Let no durable commit succeed."""
    for event in ("INSERT", "UPDATE"):
        house.database.refuse("meta", event, "NEW.key = 'durable_commit'")


def durable(house: House) -> list[tuple[str]]:
    return house.query("SELECT value FROM meta WHERE key = 'durable_commit'")


# Removed when stored for good


def test_full_segments_are_removed_while_the_worker_lives(house: House) -> None:
    writer = house.journal(segment_bytes=1500)
    append(writer, merged(*[exchange(number) for number in range(1, 8)]))
    assert writer.segment > 3
    house.drain()
    assert house.files == names(writer.segment)
    assert house.one(JOURNAL, WORKER.bytes)[:2] == (writer.segment, 7)
    append(writer, exchange(8))
    writer.close()
    assert house.drain() == [WORKER]
    assert house.files == []
    assert len(house.exchanges()) == 8


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("alive", [True, False])
def test_nothing_is_removed_before_a_durable_commit(house: House, alive: bool) -> None:
    writer = house.journal(segment_bytes=1500)
    append(writer, merged(*[exchange(number) for number in range(1, 5)]))
    if not alive:
        writer.close()
    files = house.files
    forbid(house)
    with pytest.raises(ValueRefused, match="no"):
        house.drain()
    assert house.files == files
    assert len(house.exchanges()) == 4, "stored they are, but power could still take them"
    house.stop()
    with pytest.raises(ValueRefused, match="no"):
        house.drain()
    assert house.files == files, "a new ingest knows no better"
    house.database.allow()
    house.stop()
    house.drain()
    assert house.files == (names(writer.segment) if alive else [])
    assert len(durable(house)) == 1


def copies(house: House) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in house.folder.iterdir()}


def put_back(files: dict[Path, bytes]) -> None:
    for path, data in files.items():
        path.write_bytes(data)


@pytest.mark.engines("sqlite")
def test_leftovers_of_a_crash_are_cleaned(house: House) -> None:
    """Ingest died between its commit and the removal; what it left is neither stored again nor left for good."""
    house.record(merged(exchange(1), exchange(2, wire_end=None)), segment_bytes=700)
    files = copies(house)
    house.drain()
    before = house.everything()
    house.stop()
    put_back(files)
    forbid(house)
    with pytest.raises(ValueRefused):
        house.drain()
    assert len(house.files) == len(files)
    house.database.allow()
    house.stop()
    assert house.drain() == []
    assert house.files == []
    assert house.everything() == before


def test_leftovers_of_a_living_worker_are_cleaned_at_once(house: House) -> None:
    """Not only when it is dead: they count as waiting, and may be what fills `max_journal`."""
    writer = house.journal(segment_bytes=700)
    append(writer, merged(exchange(1), exchange(2)))
    files = {path: data for path, data in copies(house).items() if path.name != names(writer.segment)[0]}
    house.drain()
    house.stop()
    put_back(files)
    house.drain()
    assert house.files == names(writer.segment)


# Files that are not what they were


def test_a_position_beyond_a_dead_journals_end_is_its_end(house: House) -> None:
    """After a power failure the database may know of more than the journal still holds."""
    writer = house.journal()
    append(writer, merged(exchange(1), exchange(2, wire_end=None)))
    house.drain()
    before = house.exchange(1)
    house.stop()
    writer.close()
    path = house.folder / names(0)[0]
    path.write_bytes(path.read_bytes()[:700])
    assert house.drain() == [WORKER]
    assert house.exchange(1) == before
    assert house.exchange(2)["outcome"] == "interrupted"
    assert house.one(JOURNAL, WORKER.bytes) == (0, 2, 2, 0, 1)
    assert house.files == []
    assert house.carrier.damage == 0


def test_a_torn_tail_is_the_end(house: House, caplog: pytest.LogCaptureFixture) -> None:
    shape = image(exchange(1))
    house.put(shape._replace(data=shape.data[:-5]))
    assert house.drain() == [WORKER]
    assert house.exchange(1)["outcome"] == "interrupted"
    end = shape.records[-1].offset
    assert f"{names(0)[0]} offset {end}: torn tail ({len(shape.data) - 5 - end} bytes)" in caplog.text


def test_the_last_segment_is_gone(house: House) -> None:
    """Its journal has an end all the same, as soon as anything of it is there to be seen."""
    writer = house.journal(segment_bytes=700)
    append(writer, merged(exchange(1), exchange(2, wire_end=None)))
    files = copies(house)
    house.drain()
    house.stop()
    writer.close()
    put_back({path: data for path, data in files.items() if path.name == names(0)[0]})
    (house.folder / names(writer.segment)[0]).unlink()
    assert house.drain() == [WORKER]
    assert house.exchange(2)["outcome"] == "interrupted"
    assert house.files == []


def test_a_missing_segment_is_named_and_passed_over(house: House, caplog: pytest.LogCaptureFixture) -> None:
    writer = house.journal()
    append(writer, exchange(1))
    house.drain()
    house.stop()
    writer.close()
    (house.folder / names(0)[0]).unlink()
    house.put(image(exchange(2), 2), segment=2)
    assert house.drain() == [WORKER]
    assert f"segment {names(0)[0]} is missing; going on with 2" in caplog.text
    assert [row["outcome"] for row in house.exchanges()] == ["completed", "completed"]
    assert house.one(JOURNAL, WORKER.bytes)[3:] == (1, 1)


def test_the_first_line_is_destroyed(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Without its seed nothing in the segment can be told from forgeries; the next one can."""
    house.put(image(exchange(1))._replace(data=b"?" * 1000))
    house.put(image(exchange(2), 1), segment=1)
    assert house.drain() == [WORKER]
    assert "offset 0: both copies of the first line are damaged (1000 bytes)" in caplog.text
    assert [row["ordinal"] for row in house.exchanges()] == [2]
    assert house.one(JOURNAL, WORKER.bytes) == (1, 1, 2, 1, 1)


def test_a_living_workers_file_was_removed(house: House) -> None:
    """It goes on in the next segment, and so does ingest; no exchange of it is taken for dead in between."""
    writer = house.journal()
    entries = exchange(1)
    append(writer, entries[:4])
    house.drain()
    (house.folder / names(0)[0]).unlink()
    assert house.drain() == []
    writer.refresh()
    assert house.drain() == []
    append(writer, entries[4:])
    writer.close()
    assert house.drain() == [WORKER]
    row = house.exchange(1)
    assert (row["outcome"], row["target"], row["response_chunks"]) == ("completed", "/v1/chat/completions?n=1", 2)


# Journals that must wait


def unreadable(house: House) -> None:
    """A folder in the file's place: it can be opened, but not read."""
    (house.folder / segment_name(worker(1), 0)).mkdir()


def of_another_version(house: House) -> None:
    house.put(image([])._replace(data=preamble(version=2, of=worker(1)) + b"who knows"), worker(1))


@pytest.mark.parametrize("spoil", [unreadable, of_another_version])
def test_a_journal_that_cannot_be_read_waits_alone(
    house: House, caplog: pytest.LogCaptureFixture, spoil: Callable[[House], None]
) -> None:
    caplog.set_level(logging.ERROR)
    spoil(house)
    house.record(exchange(2), worker(2))
    assert house.drain() == [worker(2)]
    assert house.carrier.stuck == {worker(1)}
    for _ in range(5):
        assert house.carrier.pass_once() == (False, [])
    assert len(caplog.records) == 1, "said once"
    assert segment_name(worker(1), 0) in caplog.text
    assert house.files == [segment_name(worker(1), 0)]
    path = house.folder / house.files[0]
    path.rmdir() if path.is_dir() else path.unlink()
    house.put(image(exchange(1), of=worker(1)), worker(1))
    assert house.drain() == [worker(1)]
    assert house.carrier.stuck == set()
    assert len(house.exchanges()) == 2


def test_a_newer_segment_of_a_known_journal_waits(house: House) -> None:
    """What came before it is stored."""
    house.record(exchange(1))
    house.put(image([])._replace(data=preamble(1, seed=SEED + 1, version=9)), segment=1)
    assert house.drain() == []
    assert house.files == names(1)
    assert house.exchange(1)["outcome"] == "completed"

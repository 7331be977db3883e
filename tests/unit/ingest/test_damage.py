"""One bit of a journal is wrong, anywhere: one record is left out and named with its place, all others are stored."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.journal import record
from proxy.journal.writer import segment_name
from tests.support.journals import WORKER, a_house, exchange, image, merged

SHAPE = image(merged(exchange(1, extras=True), exchange(2, chunks=[b"@ res+ \n" * 9, b"", b"\0\xff"]), exchange(3)))
CHUNKS = (record.REQUEST_CHUNK, record.RESPONSE_CHUNK)
COUNTER = iter(range(10**9))


class Said(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


@settings(max_examples=30)
@given(st.integers(0, len(SHAPE.data) - 1), st.integers(0, 7))
def test_a_flipped_bit_anywhere(folder: Path, kind: str, at: int, bit: int) -> None:
    hit = [each for each in SHAPE.records if each.offset <= at < each.end]
    broken = bytearray(SHAPE.data)
    broken[at] ^= 1 << bit
    said, log = Said(), logging.getLogger("ingest")
    with a_house(folder / str(next(COUNTER)), kind) as house:
        house.put(SHAPE._replace(data=bytes(broken)))
        log.addHandler(said)
        try:
            assert house.drain() == [WORKER]
        finally:
            log.removeHandler(said)
        rows = house.query("SELECT exchange_id, seq, data FROM chunks ORDER BY exchange_id, seq")
        lost = house.one("SELECT lost_records FROM journals")
        assert {row["outcome"] for row in house.exchanges()} <= {"completed", "interrupted"}
    intact = [each for each in SHAPE.records if each not in hit and each.kind in CHUNKS]
    assert sorted(rows) == sorted((bytes.fromhex(each.exchange.decode()), each.seq, each.payload) for each in intact)
    assert lost == len(hit), "the other copy of the first line makes up for one that is damaged"
    places = [f"journal: {segment_name(WORKER, 0)} offset {each.offset}: " for each in hit]
    assert len(said.lines) == len(places)
    assert all(line.startswith(place) for line, place in zip(said.lines, places, strict=True))

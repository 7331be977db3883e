"""A segment that its worker began in advance and did not live to use goes with the worker's journal, no other."""

from __future__ import annotations

from proxy.journal.writer import segment_name
from tests.support.journals import WORKER, House, exchange, worker


def test_a_dead_workers_draft_is_removed(house: House) -> None:
    house.record(exchange(1))
    draft, foreign = (house.folder / segment_name(of, 1) for of in (WORKER, worker(1)))
    for path in (draft, foreign):
        path.with_suffix(".new").write_bytes(b"")
    house.drain()
    assert house.files == [foreign.with_suffix(".new").name]

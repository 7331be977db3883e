"""Records into rows, without files or database: what is counted as lost, and that half a record is never taken."""

from __future__ import annotations

from uuid import UUID

import pytest

from proxy.exchange import Origin, WireEnd
from proxy.ingest.copy import Copier
from proxy.journal import record
from proxy.journal.record import Record
from proxy.store.rows import ExchangeRow, JournalRow
from tests.support.journals import STARTED_US, WORKER, Entry, exchange, exchange_id

KEY = exchange_id(1)


def copier(*still_open: ExchangeRow) -> Copier:
    return Copier(JournalRow(WORKER, "node", STARTED_US), still_open)


def known() -> ExchangeRow:
    """An exchange that an earlier ingest stored the beginning of."""
    return ExchangeRow(KEY, 1, STARTED_US, ordinal=1, target="/known")


def take(into: Copier, *entries: Entry) -> list[bool]:
    return [into.take(Record(*entry, 0, 0)) for entry in entries]


def lost(into: Copier, of: UUID = KEY) -> int:
    return into.batch.exchanges[of].lost_records


@pytest.mark.parametrize("gone", range(8))
def test_a_record_that_never_came_is_counted(gone: int) -> None:
    """Whichever it is, but for the last: of that nothing tells."""
    entries = exchange(1, extras=True)
    into = copier()
    take(into, *[entry for entry in entries if entry.seq != gone])
    assert lost(into) == 1
    assert into.journal.stored == (0 if gone == 0 else 1)


def test_many_that_never_came() -> None:
    into = copier()
    take(into, *[entry for entry in exchange(1, chunks=[b"x"] * 9) if entry.seq not in (0, 1, 5, 9, 10)])
    assert lost(into) == 5


def test_what_was_last_before_a_restart_is_not_known() -> None:
    into = copier(known())
    take(into, *exchange(1, extras=True)[5:])
    assert lost(into) == 0
    into = copier(known())
    take(into, *[entry for entry in exchange(1, extras=True)[5:] if entry.seq != 7])
    assert lost(into) == 1


@pytest.mark.parametrize("fresh", [True, False])
def test_what_is_not_understood_is_counted_once(fresh: bool) -> None:
    into = copier() if fresh else copier(known())
    entries = exchange(1, chunks=[b"a", b"b", b"c"])
    entries[4] = entries[4]._replace(kind=b"new")
    entries[5] = entries[5]._replace(kind=record.GAP, payload=b"?")
    told = take(into, *(entries if fresh else entries[4:]))
    assert told.count(False) == 2
    assert lost(into) == 2


@pytest.mark.parametrize("fresh", [True, False])
def test_damage_and_what_is_passed_over_are_counted_once(fresh: bool) -> None:
    into = copier() if fresh else copier(known())
    entries = exchange(1, chunks=[b"a", b"b", b"c"])
    if fresh:
        take(into, *entries[:4])
    into.lose(entries[4].exchange, entries[4].seq)
    into.pass_over(Record(*entries[5], 0, 0), "why")
    take(into, *entries[6:])
    assert lost(into) == 2
    assert into.batch.notes == {KEY: "why"}


def test_damage_of_a_head_makes_the_exchange_known() -> None:
    into = copier()
    into.lose(KEY.hex.encode(), 0)
    assert lost(into) == 1
    into.die()
    assert into.batch.exchanges[KEY].wire_end == WireEnd.WORKER_DIED


def test_damage_of_no_exchange() -> None:
    into = copier()
    into.lose(record.NIL, 0)
    into.pass_over(Record(record.NOTE, record.NIL, 0, 0, b"", 0, 0), "why")
    assert into.batch.exchanges == {}
    assert into.batch.notes == {}


def test_a_change_alone_makes_the_exchange_known() -> None:
    """A row without its exchange would belong to nothing, and nobody would find or delete it."""
    into = copier()
    assert take(into, exchange(1)[3]) == [True]
    assert list(into.batch.exchanges) == [KEY]
    assert [row.exchange for row in into.batch.changes] == [KEY]


def test_a_change_of_an_open_exchange_writes_no_row_of_it() -> None:
    into = copier(known())
    take(into, exchange(1)[3])
    assert into.batch.exchanges == {}


def test_what_is_sent_again_is_told() -> None:
    into = copier()
    take(into, *exchange(1, origin=int(Origin.RESEND), replay_of=str(exchange_id(2))), *exchange(3))
    rows = into.batch.exchanges
    assert (rows[KEY].origin, rows[KEY].replay_of) == (Origin.RESEND, exchange_id(2))
    assert rows[exchange_id(3)].replay_of is None
    assert not all(take(copier(), *exchange(1, replay_of="nonsense"))), "no id: no head"


def test_half_a_head_is_not_taken() -> None:
    entries = exchange(1, origin=77)
    into = copier()
    assert take(into, entries[0]) == [False]
    assert (into.journal.stored, into.journal.highest_ordinal) == (0, 0)
    assert into.batch.heads == []
    assert into.batch.exchanges[KEY].target is None


def test_what_ended_is_forgotten() -> None:
    """Memory holds open exchanges only."""
    into = copier()
    for number in range(1, 50):
        take(into, *exchange(number))
    assert (into.open, into._lanes) == ([], {})

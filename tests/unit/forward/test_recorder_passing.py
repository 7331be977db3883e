"""A journal that cannot be written, under `pass`: everything goes on, and what is missing is told when it can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from proxy.exchange import Change, Gap, RequestHead, ResponseHead, Side, WireEnd
from proxy.journal import record
from tests.unit.forward.tape import Stage, body_of, carry, decoded, end_of, kinds, sha


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path, "pass")
    yield made
    made.journal.close()


def test_what_could_not_be_recorded_is_counted(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.response_head(200, "", [])
    recorder.response_chunk(b"one")
    recorder.commit()
    with stage.failing():
        for data in (b"lost", b"too"):
            recorder.response_chunk(data)
            recorder.commit()
        recorder.request_chunk(b"up")
        recorder.commit()
    recorder.response_chunk(b"two")
    recorder.commit()
    recorder.end(WireEnd.UPSTREAM_END)
    recorder.commit()
    records = stage.records(recorder)
    assert kinds(records)[2:] == [record.RESPONSE_CHUNK, record.GAP, record.GAP, record.RESPONSE_CHUNK, record.END]
    assert decoded(records, record.GAP, Gap) == [Gap(Side.REQUEST, 2, "journal"), Gap(Side.RESPONSE, 7, "journal")]
    assert body_of(records) == b"onetwo"
    end = end_of(records)
    assert (end.response_bytes, end.request_bytes, end.response_hash) == (13, 2, sha(b"onelosttootwo"))
    assert (end.request_out_hash, end.response_out_hash) == (None, None), "all of it was passed on"
    assert stage.recording.failures == 3
    assert stage.recording.failing is None


@pytest.mark.parametrize("at_once", [False, True])
def test_nothing_raises_and_no_head_is_lost(stage: Stage, at_once: bool) -> None:
    recorder = stage.recorder()

    def commit() -> None:
        if not at_once:
            recorder.commit()

    with stage.failing():
        recorder.begin()
        recorder.request_chunk(b"up")
        commit()
        recorder.response_head(529, "Overloaded", [("a", "b")])
        recorder.change(Change("response_header_added", [("x", "y")]))
        commit()
        recorder.response_chunk(b"down")
        commit()
        recorder.trailers(Side.RESPONSE_TRAILERS, [("t", "u")])
        commit()
        recorder.response_chunk(b"more")
        recorder.end(WireEnd.UPSTREAM_END)
        recorder.commit()
    assert stage.recording.accepted == 1
    assert stage.records() == []
    stage.recording.settle()
    records = stage.records(recorder)
    assert kinds(records) == [
        record.REQUEST_HEAD,
        record.GAP,
        record.RESPONSE_HEAD,
        record.CHANGE,
        record.GAP,
        record.TRAILERS,
        record.GAP,
        record.END,
    ]
    assert [gap.size for gap in decoded(records, record.GAP, Gap)] == [2, 4, 4]
    assert decoded(records, record.RESPONSE_HEAD, ResponseHead)[0].status == 529
    end = end_of(records)
    assert (end.response_bytes, end.response_hash, end.response_out_hash) == (8, sha(b"downmore"), None)
    assert [item.seq for item in records] == list(range(8))


def test_the_body_of_a_request_that_began_without_a_journal_is_missing(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.request_chunk(b"abc")
    with stage.failing():
        recorder.begin()
    recorder.response_chunk(b"x")
    recorder.commit()
    records = stage.records(recorder)
    assert kinds(records) == [record.REQUEST_HEAD, record.GAP, record.RESPONSE_CHUNK]
    assert decoded(records, record.GAP, Gap) == [Gap(Side.REQUEST, 3, "journal")]


def test_what_was_missing_is_told_in_one_write_with_what_comes_next(stage: Stage) -> None:
    recorder = stage.recorder()
    with stage.failing():
        recorder.begin()
        recorder.response_head(200, "", [])
        recorder.response_chunk(b"lost")
        recorder.commit()
    with stage.counting() as writes:
        recorder.response_chunk(b"kept")
        recorder.commit()
    assert (writes.count, writes.records) == (1, 4)


def test_a_cap_and_a_failing_journal(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "pass", max_body=6)
    recorder = stage.recorder()
    recorder.begin()
    with stage.failing():
        recorder.response_chunk(b"1234")
        recorder.commit()
    recorder.response_chunk(b"5678")
    recorder.commit()
    recorder.end(WireEnd.UPSTREAM_END)
    recorder.commit()
    records = stage.records(recorder)
    assert body_of(records) == b"56"
    assert decoded(records, record.GAP, Gap) == [Gap(Side.RESPONSE, 4, "journal"), Gap(Side.RESPONSE, 2, "cap")]
    stage.journal.close()


def test_ordinals_are_given_as_heads_are_written(stage: Stage) -> None:
    first, second = stage.recorder(), stage.recorder()
    with stage.failing():
        first.begin()
    second.begin()
    for recorder in (first, second):
        recorder.end(WireEnd.UPSTREAM_END)
        recorder.commit()
    heads = [item for item in stage.records() if item.kind == record.REQUEST_HEAD]
    ordinals = {item.exchange: msgspec.json.decode(item.payload, type=RequestHead).ordinal for item in heads}
    assert ordinals == {UUID(second.id).hex.encode(): 1, UUID(first.id).hex.encode(): 2}
    assert stage.recording.accepted == 2


def test_all_that_is_owed_is_written_once(stage: Stage) -> None:
    with stage.failing():
        recorders = [stage.recorder() for _ in range(3)]
        for recorder in recorders:
            carry(recorder, [b"up"], [b"down"])
        stage.recording.settle()
    assert stage.recording.owed == recorders
    stage.recording.settle()
    stage.recording.settle()
    assert stage.recording.owed == []
    for number, recorder in enumerate(recorders, 1):
        records = stage.records(recorder)
        assert decoded(records, record.REQUEST_HEAD, RequestHead)[0].ordinal == number
        assert kinds(records).count(record.END) == 1

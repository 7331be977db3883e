"""A journal that cannot be written, under `refuse`: nothing of what was to be committed stays, or may be passed on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from proxy.exchange import Change, Gap, RequestHead, ResponseHead, Side, WireEnd
from proxy.forward.recorder import Recorder
from proxy.forward.recording import PROBE
from proxy.journal import record
from proxy.journal.writer import JournalError
from tests.unit.forward.tape import Stage, body_of, carry, decoded, end_of, kinds, sha


def test_a_request_is_turned_away_before_an_exchange_begins(stage: Stage) -> None:
    carry(stage.recorder(), [], [])
    turned_away = stage.recorder()
    turned_away.request_chunk(b"abc")
    with stage.failing(), pytest.raises(JournalError, match="cannot be written"):
        turned_away.begin()
    assert (stage.recording.accepted, stage.recording.failures) == (1, 1)
    failing = stage.recording.failing
    assert failing is not None
    carry(stage.recorder(), [], [])
    heads = decoded(stage.records(), record.REQUEST_HEAD, RequestHead)
    assert [head.ordinal for head in heads] == [1, 2], "a request that was turned away has no ordinal"
    assert (stage.recording.failing, stage.recording.owed) == (None, [])
    assert stage.records(turned_away) == []


STEPS: dict[str, Callable[[Recorder], None]] = {
    "request_chunk": lambda recorder: recorder.request_chunk(b"abc"),
    "response_head": lambda recorder: recorder.response_head(200, "OK", []),
    "response_chunk": lambda recorder: recorder.response_chunk(b"abc"),
    "trailers": lambda recorder: recorder.trailers(Side.RESPONSE_TRAILERS, [("a", "b")]),
    "change": lambda recorder: recorder.change(Change("own_response", [], 503, "{}")),
}


@pytest.mark.parametrize("with_end", [False, True])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_commit_raises_whatever_it_holds(stage: Stage, step: Callable[[Recorder], None], with_end: bool) -> None:
    recorder = stage.recorder()
    recorder.begin()
    step(recorder)
    if with_end:
        recorder.end(WireEnd.UPSTREAM_END)
    with stage.failing():
        with pytest.raises(JournalError):
            recorder.commit()
        assert stage.recording.owed == [], "it has not ended: its relay will say how"
        recorder.end(WireEnd.JOURNAL_ERROR, "full")
        recorder.commit_late()
    assert stage.recording.owed == [recorder]
    stage.recording.settle()
    assert stage.recording.owed == []
    records = stage.records(recorder)
    assert kinds(records)[-1] == record.END
    assert end_of(records).wire_end == WireEnd.JOURNAL_ERROR


@pytest.mark.parametrize("room", [0, 1, 60, 150, 300])
def test_nothing_stays_of_a_commit_that_failed(stage: Stage, room: int) -> None:
    """However much of it went into the file: what is there is what may be passed on."""
    recorder = stage.recorder()
    recorder.begin()
    before = stage.journal.offset
    with stage.failing(room):
        recorder.response_head(200, "OK", [("A", "b" * 100)])
        recorder.response_chunk(b"x" * 200)
        recorder.end(WireEnd.UPSTREAM_END)
        with pytest.raises(JournalError):
            recorder.commit()
    paths = sorted(stage.folder.glob("*.journal"))
    assert paths[0].stat().st_size == before
    assert kinds(stage.records()) == [record.REQUEST_HEAD]


@pytest.mark.parametrize("room", [0, 1, 60])
def test_a_broken_stream_tells_what_is_missing_once_it_can(stage: Stage, room: int) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.response_head(200, "", [])
    recorder.response_chunk(b"one")
    recorder.commit()
    with stage.failing(room):
        recorder.response_chunk(b"th")
        recorder.response_chunk(b"ree")
        with pytest.raises(JournalError):
            recorder.commit()
        recorder.end(WireEnd.JOURNAL_ERROR, "full")
        recorder.commit_late()
        stage.recording.settle()
        assert stage.recording.owed == [recorder]
    carry(stage.recorder(), [], [])
    records = stage.records(recorder)
    assert kinds(records)[-2:] == [record.GAP, record.END]
    assert decoded(records, record.GAP, Gap) == [Gap(Side.RESPONSE, 5, "journal")]
    end = end_of(records)
    assert (end.wire_end, end.error, end.response_bytes) == (WireEnd.JOURNAL_ERROR, "full", 8)
    assert (end.response_hash, end.response_out_hash) == (sha(b"onethree"), sha(b"one"))
    assert [item.seq for item in records] == list(range(len(records)))
    assert kinds(stage.records())[-3:] == [record.REQUEST_HEAD, record.RESPONSE_HEAD, record.END]


def test_both_sides_of_a_failed_commit_count_as_not_passed_on(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.request_chunk(b"up")
    recorder.response_chunk(b"down")
    with stage.failing():
        with pytest.raises(JournalError):
            recorder.commit()
        recorder.end(WireEnd.JOURNAL_ERROR)
        recorder.commit_late()
    stage.recording.settle()
    records = stage.records(recorder)
    assert decoded(records, record.GAP, Gap) == [Gap(Side.REQUEST, 2, "journal"), Gap(Side.RESPONSE, 4, "journal")]
    end = end_of(records)
    assert (end.request_hash, end.request_out_hash) == (sha(b"up"), sha(b""))
    assert (end.response_hash, end.response_out_hash) == (sha(b"down"), sha(b""))


def test_our_own_answer_to_a_journal_that_fails_is_recorded_late(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    change = Change("own_response", [], 503, "{}")
    recorder.request_chunk(b"abc")
    with stage.failing():
        with pytest.raises(JournalError):
            recorder.commit()
        recorder.change(change)
        recorder.end(WireEnd.JOURNAL_ERROR, "full")
        recorder.commit_late()
    stage.recording.settle()
    records = stage.records(recorder)
    assert kinds(records) == [record.REQUEST_HEAD, record.GAP, record.CHANGE, record.END]
    assert decoded(records, record.CHANGE, Change) == [change]


def test_what_was_told_and_could_not_be_written_keeps_its_order(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    with stage.failing():
        recorder.response_head(103, "", [])
        recorder.response_chunk(b"ab")
        recorder.trailers(Side.RESPONSE_TRAILERS, [("t", "u")])
        recorder.response_chunk(b"c")
        with pytest.raises(JournalError):
            recorder.commit()
    recorder.end(WireEnd.JOURNAL_ERROR)
    recorder.commit_late()
    records = stage.records(recorder)
    assert kinds(records)[1:] == [record.RESPONSE_HEAD, record.GAP, record.TRAILERS, record.GAP, record.END]
    assert [gap.size for gap in decoded(records, record.GAP, Gap)] == [2, 1]
    assert decoded(records, record.RESPONSE_HEAD, ResponseHead)[0].status == 103


# Ends that are owed


def test_an_end_alone_is_owed_and_no_reason_to_break_what_is_complete(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.response_head(200, "", [])
    recorder.response_chunk(b"all")
    recorder.commit()
    with stage.failing():
        recorder.end(WireEnd.UPSTREAM_END)
        recorder.commit()
    assert stage.recording.owed == [recorder]
    assert stage.recording.failing is not None
    stage.recording.settle()
    end = end_of(stage.records(recorder))
    assert (end.wire_end, end.response_hash, end.response_out_hash) == (WireEnd.UPSTREAM_END, sha(b"all"), None)


def test_so_is_one_with_the_gap_of_a_capped_body(tmp_path: Path) -> None:
    stage = Stage(tmp_path, max_body=2)
    recorder = stage.recorder()
    recorder.begin()
    recorder.response_chunk(b"1234")
    recorder.commit()
    with stage.failing():
        recorder.end(WireEnd.UPSTREAM_END)
        recorder.commit()
    stage.recording.settle()
    records = stage.records(recorder)
    assert kinds(records) == [record.REQUEST_HEAD, record.RESPONSE_CHUNK, record.GAP, record.END]
    assert decoded(records, record.GAP, Gap) == [Gap(Side.RESPONSE, 2, "cap")]
    assert end_of(records).response_out_hash is None
    stage.journal.close()


def test_owed_ends_are_written_in_their_order_and_stop_at_the_first_failure(stage: Stage) -> None:
    recorders = [stage.recorder() for _ in range(3)]
    for recorder in recorders:
        recorder.begin()
    with stage.failing():
        for recorder in recorders:
            recorder.end(WireEnd.UPSTREAM_END)
            recorder.commit()
        before = stage.recording.failures
        stage.recording.settle()
        assert stage.recording.failures == before + 1
    assert stage.recording.owed == recorders
    stage.recording.settle()
    ends = [item.exchange for item in stage.records() if item.kind == record.END]
    assert ends == [UUID(recorder.id).hex.encode() for recorder in recorders]
    stage.recording.settle()
    assert len(stage.records()) == 6


def test_what_is_owed_goes_before_a_new_exchange(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    with stage.failing():
        recorder.end(WireEnd.UPSTREAM_END)
        recorder.commit_late()
    stage.recorder().begin()
    found = [item.kind for item in stage.records() if item.kind != record.NOTE]
    assert found == [record.REQUEST_HEAD, record.END, record.REQUEST_HEAD]


# Whether it works again


def test_a_new_request_waits_for_as_much_room_as_was_missing(stage: Stage) -> None:
    """Its head may fit where the response would not, which is paid for by then."""
    recorder = stage.recorder()
    recorder.begin()
    with stage.failing(room=2000):
        recorder.response_chunk(b"x" * 5000)
        with pytest.raises(JournalError):
            recorder.commit()
        with pytest.raises(JournalError):
            stage.recorder().begin()
        recorder.end(WireEnd.JOURNAL_ERROR)
        recorder.commit_late()
        assert stage.recording.owed == [], "so much there is room for"
        failing = stage.recording.failing
    assert failing is not None
    stage.recorder().begin()
    assert (stage.recording.failing, stage.recording.lacking) == (None, 0)
    notes = [len(item.payload) for item in stage.records() if item.kind == record.NOTE]
    assert notes == [5000]
    assert stage.recording.accepted == 2


def test_not_more_than_so_much_is_tried(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    with stage.failing():
        recorder.response_chunk(b"x" * (2 * PROBE))
        with pytest.raises(JournalError):
            recorder.commit()
    stage.recording.try_again()
    assert [len(item.payload) for item in stage.records() if item.kind == record.NOTE] == [PROBE]
    assert stage.recording.failing is None


def test_max_journal_reached(tmp_path: Path) -> None:
    stage = Stage(tmp_path, max_bytes=4000)
    recorder = stage.recorder()
    recorder.begin()
    recorder.response_chunk(b"x" * 4000)
    with pytest.raises(JournalError, match="max_journal"):
        recorder.commit()
    assert stage.recording.failing is not None
    assert "max_journal" in stage.recording.failing
    assert body_of(stage.records()) == b""
    stage.journal.close()

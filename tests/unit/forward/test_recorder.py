"""The tape of one exchange: what is written, in which order, in one write a commit, and what its end tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.exchange import Change, Gap, RequestHead, ResponseHead, Side, Trailers, WireEnd
from proxy.forward.recorder import Recorder, Unrecorded
from proxy.journal import record
from tests.unit.forward.tape import Stage, body_of, carry, decoded, end_of, kinds, sha

KEY = b"sk-" + b"a" * 40


def test_a_whole_exchange_in_order(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.request_chunk(b"ab")
    recorder.begin()
    recorder.request_chunk(b"c")
    recorder.trailers(Side.REQUEST_TRAILERS, [("R", "w")])
    recorder.commit()
    recorder.request_complete()
    recorder.response_head(103, "", [("Link", "x")])
    recorder.response_head(299, "Odd \xe9", [("A", ""), ("a", "\xff")])
    recorder.change(Change("response_header_added", [("x-wiretape-exchange", recorder.id)]))
    recorder.response_chunk(b"1")
    recorder.commit()
    recorder.response_chunk(b"23")
    recorder.trailers(Side.RESPONSE_TRAILERS, [("T", "v")])
    recorder.end(WireEnd.UPSTREAM_END)
    recorder.commit()
    records = stage.records(recorder)
    assert kinds(records) == [
        record.REQUEST_HEAD,
        record.REQUEST_CHUNK,
        record.REQUEST_CHUNK,
        record.TRAILERS,
        record.RESPONSE_HEAD,
        record.RESPONSE_HEAD,
        record.CHANGE,
        record.RESPONSE_CHUNK,
        record.RESPONSE_CHUNK,
        record.TRAILERS,
        record.END,
    ]
    assert [item.seq for item in records] == list(range(11))
    assert [item.at_us for item in records] == sorted(item.at_us for item in records)
    assert records[0].at_us == 0
    assert decoded(records, record.RESPONSE_HEAD, ResponseHead) == [
        ResponseHead(103, [("Link", "x")], ""),
        ResponseHead(299, [("A", ""), ("a", "\xff")], "Odd \xe9"),
    ]
    assert decoded(records, record.TRAILERS, Trailers) == [
        Trailers(Side.REQUEST_TRAILERS, [("R", "w")]),
        Trailers(Side.RESPONSE_TRAILERS, [("T", "v")]),
    ]
    assert (body_of(records, record.REQUEST_CHUNK), body_of(records)) == (b"abc", b"123")


# One write


def test_nothing_is_written_before_a_commit_and_then_all_at_once(stage: Stage) -> None:
    recorder = stage.recorder()
    with stage.counting() as writes:
        recorder.request_chunk(b"abc")
    assert writes.count == writes.bytes == 0
    with stage.counting() as writes:
        recorder.begin()
    assert (writes.count, writes.records) == (1, 2)
    with stage.counting() as writes:
        recorder.request_complete()
        recorder.response_head(103, "", [])
        recorder.response_head(200, "", [])
        recorder.change(Change("response_header_added", []))
        recorder.response_chunk(b"one")
        recorder.response_chunk(b"two")
        recorder.trailers(Side.RESPONSE_TRAILERS, [])
        recorder.end(WireEnd.UPSTREAM_END)
    assert writes.count == writes.bytes == 0
    assert kinds(stage.records(recorder)) == [record.REQUEST_HEAD, record.REQUEST_CHUNK]
    with stage.counting() as writes:
        recorder.commit()
    assert (writes.count, writes.records) == (1, 7)
    with stage.counting() as writes:
        recorder.commit()
        recorder.commit_late()
    assert writes.count == 0, "there was nothing more"
    (path,) = stage.folder.glob("*.journal")
    assert path.stat().st_size == stage.journal.offset


def test_a_usual_exchange_takes_as_many_writes_as_socket_reads(stage: Stage) -> None:
    with stage.counting() as writes:
        carry(stage.recorder(), [], [b"one", b"two", b"three"])
    assert (writes.count, writes.records) == (6, 6)  # the request, the head, three reads, the end


def test_what_is_too_large_for_one_record_is_still_one_write(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    with stage.counting() as writes:
        recorder.response_chunk(b"x" * (record.MAX_PAYLOAD + 1))
        recorder.commit()
    assert (writes.count, writes.records) == (1, 2)


def test_commits_of_several_exchanges_do_not_mix(stage: Stage) -> None:
    one, two = stage.recorder(), stage.recorder()
    for recorder in (one, two):
        recorder.begin()
    one.response_head(200, "", [])
    two.response_head(500, "", [])
    one.response_chunk(b"one")
    two.response_chunk(b"two")
    two.commit()
    assert kinds(stage.records(one)) == [record.REQUEST_HEAD]
    one.commit()
    for recorder, body in ((one, b"one"), (two, b"two")):
        assert body_of(stage.records(recorder)) == body
        assert [item.seq for item in stage.records(recorder)] == [0, 1, 2]


# The end


def test_the_end_tells_counts_hashes_and_marks(stage: Stage) -> None:
    recorder = stage.recorder()
    carry(recorder, [b"ab", b"c"], [b"12", b"3", b"4"])
    end = end_of(stage.records(recorder))
    assert (end.wire_end, end.error, end.masked) == (WireEnd.UPSTREAM_END, None, False)
    assert (end.request_bytes, end.request_chunks, end.response_bytes, end.response_chunks) == (3, 2, 4, 3)
    assert (end.request_hash, end.response_hash) == (sha(b"abc"), sha(b"1234"))
    assert (end.request_out_hash, end.response_out_hash) == (None, None)
    assert end.request_sent_us is not None
    assert end.head_us is not None
    assert end.first_byte_us is not None
    assert end.last_byte_us is not None
    assert 0 < end.request_sent_us < end.head_us < end.first_byte_us < end.last_byte_us
    assert end.overhead_us > 0
    chunks = [item.at_us for item in stage.records(recorder) if item.kind == record.RESPONSE_CHUNK]
    assert (chunks[0], chunks[-1]) == (end.first_byte_us, end.last_byte_us)


def test_the_end_counts_what_it_is_committed_with(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.request_chunk(b"abc")
    recorder.begin()
    recorder.response_head(200, "", [])
    recorder.response_chunk(b"12")
    recorder.response_chunk(b"3")
    recorder.end(WireEnd.UPSTREAM_END)
    recorder.commit()
    end = end_of(stage.records(recorder))
    assert (end.request_hash, end.response_hash) == (sha(b"abc"), sha(b"123"))
    assert (end.request_out_hash, end.response_out_hash) == (None, None)
    assert (end.response_bytes, end.response_chunks) == (3, 2)


def test_the_time_of_an_end_is_when_it_came(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.end(WireEnd.UPSTREAM_END)
    for _ in range(10):
        recorder._at()
    recorder.commit()
    records = stage.records(recorder)
    assert records[-1].at_us < 5000


def test_the_mark_of_the_head_is_that_of_the_final_one(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.response_head(103, "", [])
    recorder.response_head(200, "", [])
    recorder.end(WireEnd.UPSTREAM_END)
    recorder.commit()
    records = stage.records(recorder)
    assert end_of(records).head_us == [item.at_us for item in records if item.kind == record.RESPONSE_HEAD][-1]


def test_an_exchange_without_anything(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.end(WireEnd.UPSTREAM_ERROR, "connect: refused")
    recorder.commit_late()
    end = end_of(stage.records(recorder))
    assert (end.error, end.request_bytes, end.response_bytes) == ("connect: refused", 0, 0)
    assert (end.request_sent_us, end.head_us, end.first_byte_us, end.last_byte_us) == (None, None, None, None)
    assert end.request_hash == end.response_hash == sha(b"")
    assert (end.request_out_hash, end.response_out_hash) == (None, None)


def test_what_is_withheld_shows_in_the_out_hash(stage: Stage) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.request_chunk(b"abc")
    recorder.response_head(200, "", [])
    recorder.response_chunk(b"one")
    recorder.commit()
    recorder.withhold(Side.RESPONSE)
    recorder.response_chunk(b"two")
    recorder.commit()
    recorder.withhold(Side.RESPONSE)
    recorder.response_chunk(b"three")
    recorder.end(WireEnd.CLIENT_LEFT)
    recorder.commit()
    end = end_of(stage.records(recorder))
    assert end.request_out_hash is None
    assert (end.response_hash, end.response_out_hash) == (sha(b"onetwothree"), sha(b"one"))
    assert body_of(stage.records(recorder)) == b"onetwothree"


@pytest.mark.parametrize("side", [Side.REQUEST, Side.RESPONSE])
def test_withholding_what_never_comes_changes_nothing(stage: Stage, side: Side) -> None:
    recorder = stage.recorder()
    recorder.begin()
    recorder.request_chunk(b"abc")
    recorder.response_chunk(b"one")
    recorder.commit()
    recorder.withhold(side)
    recorder.end(WireEnd.CLIENT_LEFT)
    recorder.commit()
    end = end_of(stage.records(recorder))
    assert (end.request_out_hash, end.response_out_hash) == (None, None)


@pytest.mark.parametrize("body", [b"", b"abc"])
def test_a_request_that_never_went_anywhere(stage: Stage, body: bytes) -> None:
    recorder = stage.recorder()
    if body:
        recorder.request_chunk(body)
    recorder.begin()
    recorder.withhold_request()
    recorder.end(WireEnd.UPSTREAM_ERROR, "connect: refused")
    recorder.commit_late()
    end = end_of(stage.records(recorder))
    assert (end.request_hash, end.request_out_hash) == (sha(body), sha(b"") if body else None)


# Around one exchange


def test_ordinals_count_the_journals_exchanges(stage: Stage) -> None:
    recorders = [stage.recorder() for _ in range(5)]
    for recorder in recorders:
        recorder.begin()
    for recorder in reversed(recorders):
        recorder.end(WireEnd.UPSTREAM_END)
        recorder.commit()
    heads = decoded(stage.records(), record.REQUEST_HEAD, RequestHead)
    assert [head.ordinal for head in heads] == [1, 2, 3, 4, 5]
    assert stage.recording.accepted == 5


def test_unrecorded_leaves_nothing_but_a_count(stage: Stage) -> None:
    carry(stage.recorder(Unrecorded), [b"ab"], [b"12"])
    recorder = stage.recorder(Unrecorded)
    recorder.request_chunk(b"abc")
    recorder.begin()
    recorder.withhold_request()
    recorder.withhold(Side.RESPONSE)
    recorder.change(Change("own_response", []))
    recorder.trailers(Side.RESPONSE_TRAILERS, [])
    recorder.end(WireEnd.REFUSED, "x")
    recorder.commit_late()
    assert stage.records() == []
    assert (stage.recording.unrecorded, stage.recording.accepted) == (2, 0)
    with stage.failing():
        carry(stage.recorder(Unrecorded), [b"ab"], [b"12"])
    assert stage.recording.failing is None


# Masking


def test_keys_in_both_bodies_are_masked_and_hashes_are_of_what_crossed(stage: Stage) -> None:
    recorder = stage.recorder()
    carry(recorder, [b'{"k": "' + KEY[:9], KEY[9:] + b'"}'], [KEY])
    records = stage.records(recorder)
    assert body_of(records, record.REQUEST_CHUNK) == b'{"k": "' + KEY[:6] + b"*" * 37 + b'"}'
    assert body_of(records) == KEY[:6] + b"*" * 37
    end = end_of(records)
    assert end.masked is True
    assert (end.request_hash, end.request_out_hash) == (sha(b'{"k": "' + KEY + b'"}'), None)
    assert end.response_hash == sha(KEY)


@pytest.mark.parametrize(
    ("encoding", "masked"),
    [
        ("", True),
        (" ", True),
        ("identity", True),
        ("Identity", True),
        ("gzip", False),
        ("br, gzip", False),
        ("x", False),
    ],
)
def test_encoded_bodies_are_not_looked_into(stage: Stage, encoding: str, masked: bool) -> None:
    recorder = stage.recorder(Recorder, ("Content-Encoding", encoding))
    recorder.begin()
    recorder.request_chunk(KEY)
    recorder.response_head(200, "", [("content-encoding", encoding)])
    recorder.response_chunk(KEY)
    recorder.end(WireEnd.UPSTREAM_END)
    recorder.commit()
    records = stage.records(recorder)
    assert end_of(records).masked is masked
    assert (KEY in body_of(records), KEY in body_of(records, record.REQUEST_CHUNK)) == (not masked, not masked)


# Limits


@pytest.mark.parametrize("cut", [[10], [4, 6], [1] * 10, [5, 5], [4, 1, 5]])
def test_the_recorded_part_of_a_body_is_capped(tmp_path: Path, cut: list[int]) -> None:
    stage = Stage(tmp_path, max_body=5)
    recorder = stage.recorder()
    body = b"0123456789"
    parts = [body[sum(cut[:at]) : sum(cut[: at + 1])] for at in range(len(cut))]
    carry(recorder, [b"12345"], parts)
    records = stage.records(recorder)
    assert body_of(records) == b"01234"
    assert body_of(records, record.REQUEST_CHUNK) == b"12345"
    assert decoded(records, record.GAP, Gap) == [Gap(Side.RESPONSE, 5, "cap")]
    end = end_of(records)
    assert (end.response_bytes, end.response_hash, end.response_out_hash) == (10, sha(body), None)
    stage.journal.close()


def test_a_chunk_larger_than_a_record(stage: Stage) -> None:
    recorder = stage.recorder()
    data = b"x" * record.MAX_PAYLOAD + b"yz"
    carry(recorder, [], [data])
    chunks = [item for item in stage.records(recorder) if item.kind == record.RESPONSE_CHUNK]
    assert [len(item.payload) for item in chunks] == [record.MAX_PAYLOAD, 2]
    assert chunks[0].at_us == chunks[1].at_us
    assert end_of(stage.records(recorder)).response_chunks == 1

"""A chunk by the short way leaves what one by the long way does, also where it cannot be written, is cut or masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.exchange import WireEnd
from proxy.forward.recorder import Recorder, Unrecorded
from proxy.journal import record
from proxy.journal.writer import JournalError
from tests.unit.forward.tape import Stage, end_of

KEY = b"sk-" + b"a1B2" * 8
Way = Callable[[Recorder, bytes], None]
TIMES = ("request_sent_us", "head_us", "first_byte_us", "last_byte_us", "overhead_us")


@dataclass
class Step:
    """A chunk, and how many bytes of it and its head the journal has room for; None: for all."""

    data: bytes
    room: int | None = None


def short_way(recorder: Recorder, data: bytes) -> None:
    recorder.response_data(data)


def long_way(recorder: Recorder, data: bytes) -> None:
    recorder.response_chunk(data)
    recorder.commit()


def left(take: Way, on_failure: str, max_body: int | None, steps: list[Step]) -> tuple[object, ...]:
    """Which chunks may be passed on, what is thought of the journal then, and all that is on the tape but for times."""
    with TemporaryDirectory() as folder:
        stage = Stage(Path(folder), on_failure, max_body)
        recorder = stage.recorder()
        recorder.begin()
        recorder.response_head(200, "OK", [])
        recorder.commit()
        passed = list(_taken(stage, recorder, take, steps))
        recorder.end(WireEnd.UPSTREAM_END)
        recorder.commit_late()
        stage.recording.settle()
        records = stage.records(recorder)
        end = end_of(records)
        facts = {name: getattr(end, name) for name in end.__struct_fields__ if name not in TIMES}
        tape = [(item.kind, item.seq, item.payload) for item in records if item.kind != record.END]
        stage.journal.close()
        return passed, tape, facts


def _taken(stage: Stage, recorder: Recorder, take: Way, steps: list[Step]) -> Iterator[tuple[object, ...]]:
    recording = stage.recording
    for step in steps:
        with stage.failing(step.room) if step.room is not None else nullcontext():
            try:
                take(recorder, step.data)
                passed = True
            except JournalError:
                passed = False
        yield passed, recording.failures, recording.failing is None, recording.lacking


chunks = st.binary(min_size=1, max_size=40) | st.sampled_from([KEY, KEY[:9], KEY[9:], b"x" * 300])
tapes = st.lists(st.builds(Step, chunks, st.none() | st.integers(0, 90)), max_size=6)


@pytest.mark.parametrize("on_failure", ["refuse", "pass"])
@given(max_body=st.none() | st.integers(0, 120), steps=tapes)
@example(max_body=None, steps=[Step(KEY[:9]), Step(KEY[9:])])
@example(max_body=None, steps=[Step(b"a"), Step(b"b", 0), Step(b"c"), Step(b"d", 60), Step(b"e")])
@example(max_body=3, steps=[Step(b"ab"), Step(b"cd"), Step(b"ef")])
def test_both_ways_leave_the_same(on_failure: str, max_body: int | None, steps: list[Step]) -> None:
    assert left(short_way, on_failure, max_body, steps) == left(long_way, on_failure, max_body, steps)


@pytest.mark.parametrize("way", [short_way, long_way])
def test_what_can_be_written_shows_that_another_could_be_now(stage: Stage, way: Way) -> None:
    other, recorder = stage.recorder(), stage.recorder()
    for each in (other, recorder):
        each.begin()
    with stage.failing(), pytest.raises(JournalError):
        way(other, b"x" * 100)
    way(recorder, b"y" * 99)
    assert stage.recording.failing is not None, "what was too much may still be"
    way(recorder, b"y" * 100)
    assert stage.recording.failing is None


def test_what_is_not_recorded_leaves_nothing_by_either(stage: Stage) -> None:
    recorder = stage.recorder(Unrecorded)
    recorder.begin()
    recorder.response_data(b"abc")
    recorder.end(WireEnd.UPSTREAM_END)
    recorder.commit()
    assert stage.records() == []

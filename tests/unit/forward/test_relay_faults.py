"""Faults of our own, whatever calls us: they end the exchange they happen in, say where they are, and no more."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from proxy.exchange import WireEnd
from proxy.journal import record
from proxy.wire.interface import Upload
from tests.unit.forward.relaying import EARLY, HEAD, SWITCH, Run, ScriptedUpstream, play, turns
from tests.unit.forward.tape import Stage, kinds

Step = Callable[[Run], None]


def trailers(run: Run) -> None:
    run.relay.on_end([(b"T", b"v")])
    run.relay.flush()


# What is told, and whether a head is out before it. Each takes down something, for which the clock is asked.
STEPS: dict[str, tuple[Step, bool]] = {
    "an interim head": (lambda run: run.told(EARLY), False),
    "a head": (lambda run: run.told(HEAD), False),
    "a switch": (lambda run: run.told(SWITCH), False),
    "bytes": (lambda run: run.told(b"def"), True),
    "trailers": (trailers, True),
    "an end": (lambda run: run.told("end"), True),
    "the request's bytes": (lambda run: run.relay.on_body(b"c"), False),
    "the request's bytes, late": (lambda run: run.relay.on_body(b"c"), True),
    "the request's end": (lambda run: run.relay.on_request_end([]), False),
    "the request's trailers": (lambda run: run.relay.on_request_end([(b"T", b"v")]), False),
}


def assert_ended_by_a_fault(run: Run, begun: bool) -> None:
    """And the client knows that it is not complete, and the upstream that nobody listens."""
    assert run.over == 1
    assert run.client.log[-1] == "abort" if begun else run.client.log[-3:] == ["head 500", "body", "end"]
    if not begun:
        assert run.error["type"] == "wiretape_internal_error"
        assert "Secret" not in run.error["message"]
    end = run.end
    assert end.wire_end == WireEnd.WORKER_DIED
    assert end.error is not None
    assert end.error.startswith("RuntimeError at ")


@pytest.mark.parametrize("name", STEPS)
def test_a_fault_in_recording(stage: Stage, name: str, caplog: pytest.LogCaptureFixture) -> None:
    step, begun = STEPS[name]

    async def main() -> None:
        run, other = Run(stage, upload=Upload(b"ab", complete=False)), Run(stage)
        if begun:
            run.told(HEAD, b"abc")
        run.clock.fail_in = 0
        step(run)
        assert_ended_by_a_fault(run, begun)
        assert "abort" in run.upstream.log or "end" in name or name == "trailers"
        other.told(HEAD, b"abc", "end")
        assert other.end.wire_end == WireEnd.UPSTREAM_END

    with caplog.at_level(logging.ERROR):
        play(main)
    assert caplog.messages[0].startswith("internal error in exchange ")
    assert "Secret" not in caplog.text


def test_a_fault_in_recording_the_added_header(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, expose_id=True)
        run.clock.fail_in = 1
        run.told(HEAD, b"abc")
        assert_ended_by_a_fault(run, begun=False)

    play(main)


SIDES: dict[str, tuple[Step, bool]] = {
    "interim": (lambda run: run.told(EARLY), False),
    "start": (lambda run: run.told(HEAD), False),
    "tunnel": (lambda run: run.told(SWITCH), False),
    "write": (lambda run: run.told(b"def"), True),
    "flush": (lambda run: run.told(b"def"), True),
}


@pytest.mark.parametrize("name", SIDES)
def test_a_fault_on_the_clients_side(stage: Stage, name: str) -> None:
    step, begun = SIDES[name]

    async def main() -> None:
        run = Run(stage)
        if begun:
            run.told(HEAD, b"abc")
        run.client.fail = name
        step(run)
        assert_ended_by_a_fault(run, begun)
        assert run.upstream.log[-1] == "abort"

    play(main)


@pytest.mark.parametrize("name", ["end", "flush"])
def test_a_fault_at_the_very_end_is_none_of_the_upstreams(stage: Stage, name: str) -> None:
    """All is recorded; but the client must not wait for ever."""

    async def main() -> None:
        run = Run(stage)
        run.told(HEAD, b"abc")
        run.client.fail = name
        run.told("end")
        assert (run.over, run.client.log[-1]) == (1, "abort")
        assert run.end.wire_end == WireEnd.UPSTREAM_END

    play(main)


@pytest.mark.parametrize("name", ["start upstream", "connect"])
def test_a_fault_on_the_upstreams_side(stage: Stage, name: str) -> None:
    async def main() -> None:
        upstream = ScriptedUpstream(waiting=name == "start upstream")
        upstream.fail = name
        upstream.connected.set()
        run = Run(stage, upstream)
        await turns()
        assert_ended_by_a_fault(run, begun=False)

    play(main)


def test_a_fault_while_it_connects(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, ScriptedUpstream(waiting=False), upload=Upload(b"ab", complete=False))
        await turns()
        run.clock.fail_in = 0
        run.relay.on_body(b"c")
        assert_ended_by_a_fault(run, begun=False)
        run.upstream.connected.set()
        await turns()
        assert run.upstream.log[-1] in {"connect", "abort"}

    play(main)


def test_what_was_told_before_the_fault_and_not_passed_on_stays_so(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        run.relay.on_head(HEAD)
        run.relay.on_chunk(b"abc")
        run.clock.fail_in = 0
        run.relay.on_chunk(b"def")
        run.relay.flush()
        assert run.client.log == ["head 500", "body", "end"]
        assert kinds(run.tape)[-2:] == [record.CHANGE, record.END]

    play(main)

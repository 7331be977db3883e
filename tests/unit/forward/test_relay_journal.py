"""A journal that fails amid an exchange: nothing that could not be recorded is passed on, and nothing after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.exchange import Gap, Side, WireEnd
from proxy.forward.relay import Relay
from proxy.journal import record
from proxy.journal.writer import JournalError
from proxy.wire.interface import RequestError, Upload
from tests.unit.forward.relaying import BROKEN, EARLY, HEAD, SWITCH, Run, ScriptedUpstream, play, turns
from tests.unit.forward.tape import Stage, body_of, decoded, kinds, sha


def unchecked(run: Run) -> Run:
    """Our own answer goes out although it cannot be recorded yet."""
    run.client.records = None
    return run


# Before it began


LATER: dict[str, Callable[[Relay], None]] = {
    "the client leaves": lambda relay: relay.on_lost(reset=True),
    "the request fails": lambda relay: relay.on_request_failed(RequestError(400, "bad_request", "bad")),
    "the request goes on": lambda relay: relay.on_body(b"more"),
    "the request ends": lambda relay: relay.on_request_end([]),
    "the client is slow": lambda relay: relay.pause_response(),
}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_what_never_began_stays_so_whatever_comes(stage: Stage, later: Callable[[Relay], None]) -> None:
    """The wire may have told it already, and for nobody else to hear; else there would be an exchange that nobody
    counted."""

    async def main() -> None:
        run = unchecked(Run(stage, upload=Upload(b"ab", complete=False), begin=False))
        with stage.failing():
            with pytest.raises(JournalError):
                run.relay.begin()
            later(run.relay)
        stage.recording.settle()
        later(run.relay)
        stage.recording.settle()
        assert (run.client.log, run.upstream.log, run.tape) == ([], [], [])
        assert (stage.recording.accepted, stage.recording.owed) == (0, [])

    play(main)


# On the way up


def test_a_request_that_cannot_be_recorded_while_nothing_is_sent(stage: Stage) -> None:
    async def main() -> None:
        run = unchecked(Run(stage, ScriptedUpstream(waiting=False), upload=Upload(b"ab", complete=False)))
        await turns()
        with stage.failing():
            run.relay.on_body(b"c")
        assert run.client.log == ["head 503", "body", "end"]
        headers = dict(run.client.heads[0].headers)
        assert headers[b"retry-after"].isdigit(), "it may be sent again"
        assert run.upstream.log == ["connect"]
        stage.recording.settle()
        assert run.error["message"].startswith("not sent to the upstream, because it could not be recorded: ")
        assert run.end.wire_end == WireEnd.JOURNAL_ERROR
        assert run.end.request_out_hash == sha(b"")

    play(main)


@pytest.mark.parametrize("step", ["body", "trailers"])
def test_a_request_that_cannot_be_recorded_while_it_is_sent(stage: Stage, step: str) -> None:
    async def main() -> None:
        run = unchecked(Run(stage, upload=Upload(b"ab", complete=False)))
        with stage.failing():
            if step == "body":
                run.relay.on_body(b"c")
            else:
                run.relay.on_request_end([(b"T", b"v")])
        assert (run.upstream.received, run.upstream.log) == (b"ab", ["begin", "abort"])
        assert run.client.log == ["head 503", "body", "end"]
        headers = dict(run.client.heads[0].headers)
        assert headers[b"x-should-retry"] == b"false", "the upstream was asked, and may bill it"
        stage.recording.settle()
        assert run.error["type"] == "wiretape_cannot_record"
        end = run.end
        assert (end.wire_end, end.request_out_hash) == (WireEnd.JOURNAL_ERROR, sha(b"ab") if step == "body" else None)

    play(main)


# On the way down


@pytest.mark.parametrize("at_once", [False, True])
def test_a_head_that_cannot_be_recorded_is_not_passed_on(stage: Stage, at_once: bool) -> None:
    async def main() -> None:
        run = unchecked(Run(stage, expose_id=True))
        with stage.failing():
            if at_once:
                run.told(EARLY, HEAD, b"abc", "end")
            else:
                run.told(HEAD)
        assert run.client.log == ["head 503", "body", "end"]
        assert run.upstream.log == ["begin and end", *([] if at_once else ["abort"])]
        stage.recording.settle()
        assert run.error["message"].startswith("the upstream was asked, but its response could not be recorded")
        end = run.end
        assert (end.wire_end, end.response_bytes) == (WireEnd.JOURNAL_ERROR, 3 if at_once else 0)
        assert end.response_out_hash == (sha(b"") if at_once else None)

    play(main)


@pytest.mark.parametrize("end", [False, True])
def test_bytes_that_cannot_be_recorded_break_the_response(stage: Stage, end: bool) -> None:
    async def main() -> None:
        run = Run(stage)
        run.told(HEAD, b"abc")
        with stage.failing():
            run.told(b"def", *(["end"] if end else []))
            run.told(b"ghi", "end")
        assert run.client.log == ["head 200", "body", "abort"]
        assert (run.client.body, body_of(run.tape)) == (b"abc", b"abc")
        stage.recording.settle()
        found = run.end
        assert found.wire_end == WireEnd.JOURNAL_ERROR
        assert (found.response_hash, found.response_out_hash) == (sha(b"abcdef"), sha(b"abc"))
        assert decoded(run.tape, record.GAP, Gap) == [Gap(Side.RESPONSE, 3, "journal")]

    play(main)


def test_trailers_that_cannot_be_recorded_break_the_response(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, takes_trailers=True)
        run.told(HEAD, b"abc")
        with stage.failing():
            run.relay.on_end([(b"T", b"v")])
            run.relay.flush()
        assert run.client.log == ["head 200", "body", "abort"]

    play(main)


def test_an_end_that_cannot_be_recorded_breaks_nothing(stage: Stage) -> None:
    """All that the client got is recorded; that it was all can be said later."""

    async def main() -> None:
        run = unchecked(Run(stage))
        run.told(HEAD, b"abc")
        with stage.failing():
            run.told("end")
        assert run.client.log == ["head 200", "body", "end"]
        assert run.over == 1
        stage.recording.settle()
        assert run.end.wire_end == WireEnd.UPSTREAM_END

    play(main)


def test_a_slow_client_gets_no_end_of_what_could_not_be_recorded(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        run.told(HEAD, b"abc")
        run.relay.pause_response()
        with stage.failing():
            run.told(b"def", "end")
        run.relay.resume_response()
        assert run.client.log == ["head 200", "body", "abort"]
        assert run.over == 1

    play(main)


def test_a_switch_of_protocols_that_cannot_be_recorded_is_none(stage: Stage) -> None:
    async def main() -> None:
        run = unchecked(Run(stage, method=b"GET", upload=Upload()))
        with stage.failing():
            run.told(SWITCH, b"hello")
        assert run.client.log == ["head 503", "body", "end"]
        assert run.upstream.log[-1] == "abort"
        stage.recording.settle()
        assert run.end.wire_end == WireEnd.JOURNAL_ERROR

    play(main)


def test_what_comes_for_who_has_left_may_be_missing(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, drain=True)
        run.told(HEAD, b"abc")
        run.relay.on_lost(reset=False)
        with stage.failing():
            run.told(b"def")
        assert run.client.log == ["head 200", "body"]
        stage.recording.settle()
        assert run.over == 1
        assert run.end.response_out_hash == sha(b"abc")

    play(main)


@pytest.mark.parametrize("begun", [False, True])
def test_both_the_upstream_and_the_journal_fail(stage: Stage, begun: bool) -> None:
    async def main() -> None:
        run = unchecked(Run(stage))
        if begun:
            run.told(HEAD, b"abc")
        with stage.failing():
            run.relay.on_chunk(b"def") if begun else run.relay.on_interim(EARLY)
            run.relay.on_broken(BROKEN)
        assert run.client.log == (["head 200", "body", "abort"] if begun else ["head 502", "body", "end"])
        stage.recording.settle()
        assert kinds(run.tape)[-1] == record.END
        end = run.end
        assert end.wire_end == WireEnd.UPSTREAM_ERROR
        assert end.response_out_hash == (sha(b"abc") if begun else None)

    play(main)


def test_others_go_on_when_it_works_again(stage: Stage) -> None:
    async def main() -> None:
        one, two = unchecked(Run(stage)), Run(stage)
        with stage.failing():
            one.told(HEAD, b"abc")
        two.told(HEAD, b"abc", "end")
        assert two.client.log == ["head 200", "body", "end"]
        assert two.end.wire_end == WireEnd.UPSTREAM_END

    play(main)


# Under `pass`


def test_told_to_pass_everything_passes(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "pass")

    async def main() -> None:
        with stage.failing():
            run = unchecked(Run(stage, upload=Upload(b"ab", complete=False), begin=False))
            run.upstream.records = None
            run.relay.begin()
            run.relay.start()
            run.relay.on_body(b"c")
            run.relay.on_request_end([])
            run.told(EARLY, HEAD, b"one")
            run.told(b"two", "end")
        assert (run.upstream.received, run.client.body) == (b"abc", b"onetwo")
        assert run.client.log == ["interim 103", "head 200", "body", "body", "end"]
        stage.recording.settle()
        end = run.end
        assert (end.wire_end, end.request_hash, end.response_hash) == (
            WireEnd.UPSTREAM_END,
            sha(b"abc"),
            sha(b"onetwo"),
        )
        assert (end.request_out_hash, end.response_out_hash) == (None, None)

    play(main)
    stage.journal.close()

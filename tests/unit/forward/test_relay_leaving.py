"""A client that leaves, is slow, or has an upstream that is: who is told to wait, and what still comes is recorded."""

from __future__ import annotations

import pytest

from proxy.exchange import WireEnd
from proxy.journal import record
from proxy.wire.interface import Upload, UpstreamResponse
from tests.unit.forward.relaying import BROKEN, EARLY, HEAD, Run, play
from tests.unit.forward.tape import Stage, body_of, kinds, sha

# It leaves


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_the_upstream_is_let_go(stage: Stage, begun: bool, reset: bool) -> None:
    async def main() -> None:
        run = Run(stage)
        if begun:
            run.told(HEAD, b"abc")
        run.relay.on_lost(reset=reset)
        assert run.upstream.log == ["begin and end", "abort"]
        assert run.client.log == (["head 200", "body"] if begun else [])
        end = run.end
        assert (end.wire_end, end.error, end.response_out_hash) == (WireEnd.CLIENT_LEFT, None, None)

    play(main)


def test_what_was_told_and_not_flushed_is_recorded_but_not_passed_on(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        run.told(HEAD, b"abc")
        run.relay.on_chunk(b"def")
        run.relay.on_lost(reset=False)
        assert run.client.body == b"abc"
        end = run.end
        assert (end.response_hash, end.response_out_hash) == (sha(b"abcdef"), sha(b"abc"))

    play(main)


@pytest.mark.parametrize("left_before", ["the head", "the body", "the end"])
def test_told_to_drain_all_is_recorded_and_nothing_passed_on(stage: Stage, left_before: str) -> None:
    async def main() -> None:
        run = Run(stage, drain=True, expose_id=True)
        steps: dict[str, tuple[UpstreamResponse | bytes | str, ...]] = {
            "the head": (EARLY, HEAD),
            "the body": (b"abc",),
            "the end": (b"def", "end"),
        }
        logs: list[str] | None = None
        for name, told in steps.items():
            if name == left_before:
                run.relay.on_lost(reset=False)
                logs = list(run.client.log)
            run.told(*told)
            assert logs is None or run.client.log == logs
        assert run.upstream.log == ["begin and end"], "the connection may carry another exchange"
        assert body_of(run.tape) == b"abcdef"
        end = run.end
        passed = {"the head": b"", "the body": b"", "the end": b"abc"}[left_before]
        assert (end.wire_end, end.response_hash, end.response_out_hash) == (
            WireEnd.CLIENT_LEFT,
            sha(b"abcdef"),
            sha(passed),
        )
        assert (record.CHANGE in kinds(run.tape)) == (left_before != "the head"), "no head was changed for nobody"

    play(main)


def test_told_to_drain_it_lets_go_of_a_request_that_is_not_complete(stage: Stage) -> None:
    """Half a request must not be taken for a whole one."""

    async def main() -> None:
        run = Run(stage, drain=True, upload=Upload(b"ab", complete=False))
        run.relay.on_lost(reset=False)
        assert run.upstream.log == ["begin", "abort"]
        assert run.end.wire_end == WireEnd.CLIENT_LEFT

    play(main)


def test_told_to_drain_it_does_not_wait_for_who_was_slow(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, drain=True)
        run.told(HEAD, b"abc")
        run.relay.pause_response()
        run.relay.on_lost(reset=True)
        assert run.upstream.log[1:] == ["pause", "resume"]
        run.relay.pause_response()
        run.told(b"def", "end")
        assert run.upstream.log[1:] == ["pause", "resume"]
        assert run.end.response_bytes == 6

    play(main)


def test_who_leaves_when_all_that_lacks_is_to_take_it(stage: Stage) -> None:
    """The upstream has ended, the client had not taken all: it is complete, but not for the client."""

    async def main() -> None:
        for drain in (False, True):
            run = Run(stage, drain=drain)
            run.told(HEAD, b"abc")
            run.relay.pause_response()
            run.told(b"def", "end")
            assert run.over == 0
            run.relay.on_lost(reset=False)
            assert run.end.wire_end == WireEnd.CLIENT_LEFT
            assert "abort" not in run.upstream.log, "the connection may carry another exchange"

    play(main)


# It is slow


def test_a_slow_client_holds_the_upstream_back(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        run.told(HEAD, b"abc")
        run.relay.pause_response()
        assert run.upstream.log == ["begin and end", "pause"]
        run.told(b"def")
        assert run.client.body == b"abcdef", "what has come goes on its way"
        run.relay.resume_response()
        run.relay.resume_response()
        assert run.upstream.log == ["begin and end", "pause", "resume"]
        run.told("end")
        assert run.end.wire_end == WireEnd.UPSTREAM_END

    play(main)


def test_the_end_waits_until_the_client_has_taken_what_came_before(stage: Stage) -> None:
    """Or a client that leaves then would be recorded as one that got it all."""

    async def main() -> None:
        run = Run(stage, takes_trailers=True)
        run.told(HEAD, b"abc")
        run.relay.pause_response()
        run.relay.on_chunk(b"def")
        run.relay.on_end([(b"T", b"v")])
        run.relay.flush()
        assert (run.client.log, run.over) == (["head 200", "body", "body"], 0)
        assert body_of(run.tape) == b"abcdef"
        run.relay.resume_response()
        assert (run.client.log[-1], run.client.trailers) == ("end", [(b"T", b"v")])
        assert run.end.wire_end == WireEnd.UPSTREAM_END

    play(main)


def test_a_connection_that_was_let_go_is_not_told_to_go_on(stage: Stage) -> None:
    """It may carry another exchange by then, whose own pause this would end."""

    async def main() -> None:
        run = Run(stage)
        run.told(HEAD, b"abc")
        run.relay.pause_response()
        run.told("end")
        run.relay.resume_response()
        run.relay.pause_response()
        run.relay.resume_response()
        assert run.upstream.log == ["begin and end", "pause"]

    play(main)


def test_an_upstream_that_breaks_while_the_client_is_slow(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        run.told(HEAD, b"abc")
        run.relay.pause_response()
        run.relay.on_broken(BROKEN)
        assert run.client.log == ["head 200", "body", "abort"]
        assert run.end.wire_end == WireEnd.UPSTREAM_ERROR

    play(main)


def test_a_slow_upstream_holds_the_client_back(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, upload=Upload(b"ab", complete=False))
        run.relay.pause_upload()
        run.relay.resume_upload()
        assert run.client.log == ["pause upload", "resume upload"]
        run.relay.stop()

    play(main)


def test_a_client_that_is_slow_before_there_is_an_upstream(stage: Stage) -> None:
    """An answer before this one may still be on its way to it."""

    async def main() -> None:
        run = Run(stage, begin=False)
        run.relay.begin()
        run.relay.pause_response()
        run.relay.start()
        run.told(HEAD, b"abc")
        assert "pause" in run.upstream.log
        run.relay.resume_response()
        assert run.upstream.log[-1] == "resume"
        run.relay.stop()

    play(main)

"""One exchange between a client and an upstream that do what the test says: what passes, when, and how it ends."""

from __future__ import annotations

import asyncio

import pytest

from proxy.exchange import Change, ResponseHead, Trailers, WireEnd
from proxy.exchange import Side as Part
from proxy.journal import record
from proxy.wire.interface import RequestError, Upload, UpstreamError, UpstreamResponse
from tests.unit.forward.relaying import BROKEN, EARLY, HEAD, Run, ScriptedUpstream, play, turns
from tests.unit.forward.tape import Stage, body_of, decoded, kinds, sha

# What passes


def test_a_whole_exchange(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, upload=Upload(b"ab", complete=False))
        assert kinds(run.tape) == [record.REQUEST_HEAD, record.REQUEST_CHUNK]
        run.relay.on_body(b"c")
        run.relay.on_request_end([])
        assert (run.upstream.received, run.upstream.log) == (b"abc", ["begin", "write", "end"])
        run.told(HEAD, b"one")
        assert (run.client.log, run.client.body) == (["head 200", "body"], b"one"), "it waits for nothing"
        run.told(b"two")
        run.told(b"three", "end")
        assert run.client.log == ["head 200", "body", "body", "body", "end"]
        assert run.client.body == b"onetwothree"
        assert run.upstream.log == ["begin", "write", "end"], "the connection may carry another exchange"
        end = run.end
        assert (end.wire_end, end.error) == (WireEnd.UPSTREAM_END, None)
        assert (end.request_hash, end.response_hash) == (sha(b"abc"), sha(b"onetwothree"))
        assert (end.request_out_hash, end.response_out_hash) == (None, None)
        assert end.request_sent_us is not None
        assert end.head_us is not None
        assert end.request_sent_us < end.head_us

    play(main)


def test_nothing_passes_before_all_of_a_read_is_told_and_journaled(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        before = kinds(run.tape)
        run.relay.on_interim(EARLY)
        run.relay.on_head(HEAD)
        run.relay.on_chunk(b"abc")
        run.relay.on_end([])
        assert (run.client.log, kinds(run.tape)) == ([], before)
        with stage.counting() as writes:
            run.relay.flush()
        assert run.client.log == ["interim 103", "head 200", "body", "end"]
        assert (writes.count, writes.records) == (1, 4)

    play(main)


def test_each_read_takes_one_write(stage: Stage) -> None:
    async def main() -> None:
        with stage.counting() as writes:
            run = Run(stage, upload=Upload(b"{}"))
        assert writes.count == 1, "the head and what of the body is there"
        for told in ((HEAD, b"one"), (b"two",), (b"three", "end")):
            with stage.counting() as writes:
                run.told(*told)
            assert writes.count == 1

    play(main)


def test_interim_responses_pass_and_are_recorded(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        run.told(EARLY)
        run.told(EARLY, UpstreamResponse(103, b"", [(b"Connection", b"x"), (b"X", b"1"), (b"Y", b"2")], bodiless=True))
        run.told(HEAD, "end")
        assert run.client.log == ["interim 103", "interim 103", "interim 103", "head 200", "end"]
        assert run.client.heads[2].headers == [(b"Y", b"2")]
        assert [head.status for head in decoded(run.tape, record.RESPONSE_HEAD, ResponseHead)] == [103, 103, 103, 200]

    play(main)


@pytest.mark.parametrize("expose_id", [False, True])
def test_one_header_is_added_and_the_change_recorded(stage: Stage, expose_id: bool) -> None:
    async def main() -> None:
        run = Run(stage, expose_id=expose_id)
        headers = [(b"X-b", b"1"), (b"Connection", b"close, x-c"), (b"X-C", b"2"), (b"x-B", b"\xe9")]
        run.told(EARLY, UpstreamResponse(299, b"\xe9 odd", headers, bodiless=True), "end")
        head = run.client.heads[1]
        ours = [(b"x-wiretape-exchange", run.recorder.id.encode())] if expose_id else []
        assert (head.status, head.reason, head.bodiless) == (299, b"\xe9 odd", True)
        assert head.headers == [(b"X-b", b"1"), (b"x-B", b"\xe9"), *ours]
        assert run.client.heads[0].headers == [(b"Link", b"x")], "once is enough"
        changes = decoded(run.tape, record.CHANGE, Change)
        expected = [Change("response_header_added", [("x-wiretape-exchange", run.recorder.id)])]
        assert changes == (expected if expose_id else [])
        found = decoded(run.tape, record.RESPONSE_HEAD, ResponseHead)[1]
        assert found.headers[:2] == [("X-b", "1"), ("Connection", "close, x-c")], "recorded as it came"

    play(main)


def test_trailers_pass_both_ways_but_for_those_that_frame(stage: Stage) -> None:
    async def main() -> None:
        up, down = [(b"U", b"1"), (b"Content-Length", b"9")], [(b"Host", b"evil"), (b"D", b"2")]
        run = Run(stage, upload=Upload(b"", complete=False), takes_trailers=True)
        run.relay.on_request_end(up)
        assert run.upstream.trailers == [(b"U", b"1")]
        run.told(HEAD, b"abc")
        run.relay.on_end(down)
        run.relay.flush()
        assert (run.client.trailers, run.client.log[-1]) == ([(b"D", b"2")], "end")
        assert decoded(run.tape, record.TRAILERS, Trailers) == [
            Trailers(Part.REQUEST_TRAILERS, [("U", "1"), ("Content-Length", "9")]),
            Trailers(Part.RESPONSE_TRAILERS, [("Host", "evil"), ("D", "2")]),
        ]

    play(main)


def test_trailers_that_are_there_when_it_begins(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, upload=Upload(b"abc", True, [(b"U", b"1"), (b"Host", b"evil")]))
        assert (run.upstream.log, run.upstream.trailers) == (["begin and end"], [(b"U", b"1")])
        assert kinds(run.tape) == [record.REQUEST_HEAD, record.REQUEST_CHUNK, record.TRAILERS]
        run.relay.stop()

    play(main)


# The upstream fails


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("closed", 502, "upstream_broken"),
        ("malformed", 502, "upstream_broken"),
        ("timeout", 504, "upstream_timeout"),
    ],
)
def test_before_a_head_it_is_told_in_our_own_words(stage: Stage, code: str, status: int, kind: str) -> None:
    async def main() -> None:
        run = Run(stage, expose_id=True)
        run.relay.on_broken(UpstreamError(code, "it broke"))
        run.relay.flush()
        assert run.client.log == [f"head {status}", "body", "end"]
        assert (run.error["type"], run.error["message"]) == (f"wiretape_{kind}", "o: it broke")
        assert (b"x-wiretape-exchange", run.recorder.id.encode()) in run.client.heads[0].headers
        end = run.end
        assert (end.wire_end, end.error) == (WireEnd.UPSTREAM_ERROR, f"{code}: it broke")
        assert (end.response_bytes, end.response_out_hash) == (0, None), "our answer is no response"

    play(main)


def test_our_own_answer_to_head_has_no_body(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, method=b"HEAD", upload=Upload())
        run.client.records = None
        run.relay.on_broken(BROKEN)
        assert (run.client.log, run.client.heads[0].bodiless) == (["head 502", "end"], True)

    play(main)


def test_interim_responses_do_not_stand_in_the_way_of_our_own_answer(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        run.relay.on_interim(EARLY)
        run.relay.on_broken(BROKEN)
        assert run.client.log == ["interim 103", "head 502", "body", "end"]
        assert run.end.wire_end == WireEnd.UPSTREAM_ERROR

    play(main)


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("body", [b"", b"abc"])
def test_after_a_head_it_is_broken_off_behind_what_came(stage: Stage, body: bytes, flushed: bool) -> None:
    async def main() -> None:
        run = Run(stage)
        run.relay.on_head(HEAD)
        if body:
            run.relay.on_chunk(body)
        if flushed:
            run.relay.flush()
        run.relay.on_broken(BROKEN)
        assert run.client.log == ["head 200", *(["body"] if body else []), "abort"]
        assert (run.client.body, body_of(run.tape)) == (body, body)
        end = run.end
        assert (end.wire_end, end.error, end.response_out_hash) == (
            WireEnd.UPSTREAM_ERROR,
            "incomplete: it broke",
            None,
        )

    play(main)


def test_what_came_first_decides_how_it_ended(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage)
        run.told(HEAD, b"abc")
        run.relay.on_broken(BROKEN)
        run.relay.on_lost(reset=False)
        assert (run.end.wire_end, run.end.error) == (WireEnd.UPSTREAM_ERROR, "incomplete: it broke")
        run = Run(stage, drain=True)
        run.told(HEAD, b"abc")
        run.relay.on_lost(reset=False)
        run.told(b"def")
        run.relay.on_broken(BROKEN)
        assert (run.end.wire_end, run.end.error, run.end.response_bytes) == (WireEnd.CLIENT_LEFT, None, 6)

    play(main)


# The request cannot be taken


def test_a_request_that_fails_is_answered_and_the_upstream_let_go(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, upload=Upload(b"ab", complete=False))
        run.relay.on_request_failed(RequestError(408, "request_timeout", "too slow"))
        assert run.client.log == ["head 408", "body", "end"]
        assert (run.error["type"], run.error["message"]) == ("wiretape_request_timeout", "too slow")
        assert (b"connection", b"close") in run.client.heads[0].headers
        assert run.upstream.log == ["begin", "abort"], "never an end: it was none"
        assert (run.end.wire_end, run.end.error) == (WireEnd.REFUSED, "too slow")

    play(main)


def test_a_request_that_fails_amid_its_answer_breaks_it(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, upload=Upload(b"ab", complete=False))
        run.told(HEAD, b"abc")
        run.relay.on_request_failed(RequestError(400, "bad_request", "bad"))
        assert run.client.log == ["head 200", "body", "abort"]
        assert run.upstream.log == ["begin", "abort"]
        assert run.end.wire_end == WireEnd.REFUSED

    play(main)


@pytest.mark.parametrize("late", [False, True])
def test_a_body_over_the_limit(stage: Stage, late: bool) -> None:
    async def main() -> None:
        run = Run(stage, limit=3, upload=Upload(b"abc" if late else b"abcd", complete=not late))
        if late:
            assert run.upstream.log == ["begin"], "so much may be"
            run.relay.on_body(b"d")
            assert (run.upstream.received, run.upstream.log) == (b"abc", ["begin", "abort"])
        else:
            assert run.upstream.log == [], "the upstream never hears of it"
        assert run.client.log == ["head 413", "body", "end"]
        assert run.error["message"] == "the request body is over max_request_body (3 bytes)"
        assert run.end.wire_end == WireEnd.REFUSED

    play(main)


# It is stopped


@pytest.mark.parametrize("begun", [False, True])
def test_wiretape_stops(stage: Stage, begun: bool) -> None:
    async def main() -> None:
        run = Run(stage)
        if begun:
            run.told(HEAD, b"abc")
        run.relay.stop()
        assert run.client.log == (["head 200", "body", "abort"] if begun else ["head 500", "body", "end"])
        assert run.upstream.log[-1] == "abort"
        assert (run.end.wire_end, run.end.error) == (
            WireEnd.WORKER_DIED,
            "wiretape was stopped before the stream ended",
        )

    play(main)


def test_an_answer_that_is_there_at_once_comes_after_the_request(stage: Stage) -> None:
    async def main() -> None:
        upstream = ScriptedUpstream(waiting=False)

        def answer() -> None:
            asyncio.get_running_loop().call_soon(run.told, HEAD, "end")

        upstream.on_begin = answer
        upstream.connected.set()
        run = Run(stage, upstream)
        await turns()
        end = run.end
        assert end.request_sent_us is not None
        assert end.head_us is not None
        assert end.request_sent_us < end.head_us

    play(main)


def test_after_the_end_nothing_more_happens(stage: Stage) -> None:
    async def main() -> None:
        for number in range(3):
            run = Run(stage, upload=Upload(b"ab", complete=False))
            if number == 0:
                run.told(HEAD, b"abc", "end")
            elif number == 1:
                run.relay.on_lost(reset=True)
            else:
                run.relay.on_broken(BROKEN)
            logs, tape = (list(run.client.log), list(run.upstream.log)), run.tape
            run.relay.on_body(b"late")
            run.relay.on_request_end([(b"T", b"v")])
            run.relay.on_request_failed(RequestError(400, "bad_request", "bad"))
            run.told(EARLY, HEAD, b"late", "end")
            run.relay.on_broken(BROKEN)
            run.relay.on_lost(reset=False)
            run.relay.stop()
            assert (run.client.log, run.upstream.log) == logs
            assert (run.tape, run.over) == (tape, 1)

    play(main)

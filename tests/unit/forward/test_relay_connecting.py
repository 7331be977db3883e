"""A relay that has no connection yet: what the client sends waits for it, and what never went anywhere says so."""

from __future__ import annotations

import pytest

from proxy.exchange import WireEnd
from proxy.forward.relay import EARLY_HIGH
from proxy.journal import record
from proxy.wire.interface import RequestError, Upload, UpstreamError
from tests.unit.forward.relaying import HEAD, Run, ScriptedUpstream, play, turns
from tests.unit.forward.tape import Stage, body_of, kinds, sha

RETRY = UpstreamError("closed", "it had died", retry=True)


async def connecting(
    stage: Stage, upload: Upload | None = None, *, limit: int | None = None, drain: bool = False
) -> Run:
    """None waits in the pool."""
    run = Run(stage, ScriptedUpstream(waiting=False), upload=upload, limit=limit, drain=drain)
    await turns()
    assert run.upstream.log == ["connect"]
    return run


async def connect(run: Run) -> None:
    run.upstream.connected.set()
    await turns()


def test_what_the_client_sends_meanwhile_goes_with_the_head(stage: Stage) -> None:
    async def main() -> None:
        run = await connecting(stage, Upload(b"a", complete=False))
        run.relay.on_body(b"b")
        run.relay.on_body(b"c")
        assert body_of(run.tape, record.REQUEST_CHUNK) == b"abc", "it is recorded as it comes"
        await connect(run)
        assert (run.upstream.log, run.upstream.received) == (["connect", "begin"], b"abc")
        run.relay.on_body(b"d")
        run.relay.on_request_end([])
        assert (run.upstream.log[2:], run.upstream.received) == (["write", "end"], b"abcd")
        run.told(HEAD, "end")
        assert (run.end.wire_end, run.end.request_hash, run.end.request_out_hash) == (
            WireEnd.UPSTREAM_END,
            sha(b"abcd"),
            None,
        )

    play(main)


def test_a_request_that_becomes_complete_meanwhile(stage: Stage) -> None:
    async def main() -> None:
        run = await connecting(stage, Upload(b"a", complete=False))
        run.relay.on_body(b"b")
        run.relay.on_request_end([(b"T", b"v"), (b"Host", b"evil")])
        assert kinds(run.tape)[-1] == record.TRAILERS
        await connect(run)
        assert (run.upstream.log, run.upstream.received) == (["connect", "begin and end"], b"ab")
        assert run.upstream.trailers == [(b"T", b"v")]
        run.told(HEAD, "end")
        assert run.end.request_sent_us is not None

    play(main)


def test_it_does_not_take_up_more_than_so_much(stage: Stage) -> None:
    async def main() -> None:
        run = await connecting(stage, Upload(b"x" * EARLY_HIGH, complete=False))
        assert run.client.log == []
        run.relay.on_body(b"x")
        run.relay.on_body(b"y")
        assert run.client.log == ["pause upload"]
        await connect(run)
        assert run.client.log == ["pause upload", "resume upload"]
        assert len(run.upstream.received) == EARLY_HIGH + 2
        run.relay.on_body(b"z")
        assert run.client.log == ["pause upload", "resume upload"]
        run.relay.stop()

    play(main)


# No connection comes about


@pytest.mark.parametrize("body", [b"", b"abc"])
@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("connect", 502, "upstream_unreachable"),
        ("tls", 502, "upstream_unreachable"),
        ("connect_timeout", 504, "upstream_timeout"),
    ],
)
def test_nobody_is_there(stage: Stage, code: str, status: int, kind: str, body: bytes) -> None:
    async def main() -> None:
        run = await connecting(stage, Upload(body))
        run.upstream.refusal = UpstreamError(code, "nobody")
        await connect(run)
        assert run.client.log == [f"head {status}", "body", "end"]
        assert (run.error["type"], run.error["message"]) == (f"wiretape_{kind}", "o: nobody")
        end = run.end
        assert (end.wire_end, end.error, end.request_sent_us) == (WireEnd.UPSTREAM_ERROR, f"{code}: nobody", None)
        assert (end.request_hash, end.request_out_hash) == (sha(body), sha(b"") if body else None)

    play(main)


ENDS = {
    "the client leaves": lambda run: run.relay.on_lost(reset=False),
    "the request fails": lambda run: run.relay.on_request_failed(RequestError(400, "bad_request", "bad")),
    "the request is too large": lambda run: run.relay.on_body(b"d"),
    "wiretape stops": lambda run: run.relay.stop(),
}


@pytest.mark.parametrize("how", ENDS)
def test_what_ends_it_meanwhile_leaves_no_connection_and_says_that_nothing_went_out(stage: Stage, how: str) -> None:
    async def main() -> None:
        run = await connecting(stage, Upload(b"abc", complete=False), limit=3)
        ENDS[how](run)
        assert run.over == 1
        await connect(run)
        assert run.upstream.log == ["connect"] or run.upstream.log[-1] == "abort"
        end = run.end
        assert (end.request_hash, end.request_out_hash) == (sha(b"abc"), sha(b"")), "nothing was passed on"

    play(main)


def test_a_body_that_is_too_large_at_once_was_not_passed_on_either(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, upload=Upload(b"abcd"), limit=3)
        assert run.upstream.log == []
        assert (run.end.request_hash, run.end.request_out_hash) == (sha(b"abcd"), sha(b""))

    play(main)


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("later", range(6))
def test_who_leaves_amid_the_connecting_leaves_no_connection_behind(stage: Stage, drain: bool, later: int) -> None:
    """`later` steps of the event loop after the connection is there, or in the midst of its coming about."""

    async def main() -> None:
        run = await connecting(stage, drain=drain)
        run.upstream.connected.set()
        await turns(later)
        run.relay.on_lost(reset=False)
        await turns()
        if run.upstream.listener is not None and "abort" not in run.upstream.log:
            assert drain, "the connection is still there"
            run.told(HEAD, "end")
        assert run.end.wire_end == WireEnd.CLIENT_LEFT
        assert run.client.log == []

    play(main)


# A connection that had died


def test_what_nobody_can_have_read_is_sent_once_more(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, method=b"GET", upload=Upload())
        assert run.upstream.log == ["begin and end"]
        run.relay.on_broken(RETRY)
        assert (run.over, run.client.log) == (0, [])
        await connect(run)
        assert run.upstream.log == ["begin and end", "connect", "begin and end"]
        run.told(HEAD, b"abc", "end")
        assert run.client.log == ["head 200", "body", "end"]
        assert (run.end.wire_end, run.end.error) == (WireEnd.UPSTREAM_END, None)

    play(main)


def test_but_not_twice(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, method=b"GET", upload=Upload())
        run.relay.on_broken(RETRY)
        await connect(run)
        run.relay.on_broken(RETRY)
        await turns()
        assert run.upstream.log.count("connect") == 1
        assert run.client.log == ["head 502", "body", "end"]
        assert (run.end.wire_end, run.end.error) == (WireEnd.UPSTREAM_ERROR, "closed: it had died")

    play(main)


def test_nor_for_who_has_left(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, method=b"GET", upload=Upload(), drain=True)
        run.relay.on_lost(reset=False)
        run.relay.on_broken(RETRY)
        await turns()
        assert "connect" not in run.upstream.log
        assert run.end.wire_end == WireEnd.CLIENT_LEFT

    play(main)


def test_the_second_connection_may_fail_to_come_about(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, method=b"GET", upload=Upload())
        run.relay.on_broken(RETRY)
        run.upstream.refusal = UpstreamError("connect", "nobody")
        await connect(run)
        assert run.client.log == ["head 502", "body", "end"]
        assert run.end.error == "connect: nobody"

    play(main)


def test_who_leaves_before_the_second_connection(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, method=b"GET", upload=Upload())
        run.relay.on_broken(RETRY)
        await turns()
        run.relay.on_lost(reset=True)
        await connect(run)
        assert run.upstream.log[1:] in (["connect"], ["connect", "begin and end", "abort"])
        assert run.end.wire_end == WireEnd.CLIENT_LEFT

    play(main)

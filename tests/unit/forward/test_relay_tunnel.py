"""A relay whose exchange became a tunnel: bytes both ways, recorded first, and an end that comes in two halves."""

from __future__ import annotations

import pytest

import proxy.forward.tunnel as tunnel_module
from proxy.exchange import Change, WireEnd
from proxy.journal import record
from proxy.wire.interface import Upload, UpstreamError
from tests.unit.forward.relaying import HEAD, SWITCH, Run, eventually, play, turns
from tests.unit.forward.tape import Stage, body_of, decoded, kinds, sha


def opened(stage: Stage, *, limit: int | None = None, drain: bool = False, expose_id: bool = False) -> Run:
    run = Run(stage, upload=Upload(), method=b"GET", limit=limit, drain=drain, expose_id=expose_id)
    run.told(SWITCH, b"hello")
    return run


def test_bytes_pass_both_ways(stage: Stage) -> None:
    async def main() -> None:
        run = opened(stage, expose_id=True)
        assert (run.client.log, run.client.body) == (["tunnel", "body"], b"hello")
        added = (b"x-wiretape-exchange", run.recorder.id.encode())
        assert run.client.heads[0].headers == [*SWITCH.headers, added], "it is for this very hop"
        assert [change.kind for change in decoded(run.tape, record.CHANGE, Change)] == ["response_header_added"]
        with stage.counting() as writes:
            run.relay.on_body(b"up")
        assert (writes.count, run.upstream.received) == (1, b"up")
        with stage.counting() as writes:
            run.told(b"down")
        assert (writes.count, run.client.body) == (1, b"hellodown")
        assert (body_of(run.tape, record.REQUEST_CHUNK), body_of(run.tape)) == (b"up", b"hellodown")
        run.relay.stop()

    play(main)


def test_a_limit_for_bodies_is_none_for_tunnels(stage: Stage) -> None:
    async def main() -> None:
        run = opened(stage, limit=3)
        run.relay.on_body(b"0123456789")
        assert run.upstream.received == b"0123456789"
        run.relay.stop()

    play(main)


@pytest.mark.parametrize("client_first", [False, True])
def test_it_ends_with_its_second_half(stage: Stage, client_first: bool) -> None:
    async def main() -> None:
        run = opened(stage)
        if client_first:
            run.relay.on_request_end([])
            assert (run.over, run.upstream.log[-1]) == (0, "end")
            run.told(b"still")
            assert run.client.body == b"hellostill"
            run.told("end")
            assert run.client.log[-1] == "end"
        else:
            run.told("end")
            assert (run.over, run.client.log[-1]) == (0, "end")
            run.relay.on_body(b"still")
            assert run.upstream.received == b"still"
            run.relay.on_request_end([])
            assert "end" in run.upstream.log
        end = run.end
        assert (end.wire_end, end.error) == (WireEnd.UPSTREAM_END, None)
        assert (end.request_out_hash, end.response_out_hash) == (None, None)
        assert kinds(run.tape)[-1] == record.END

    play(main)


def test_last_bytes_come_before_the_end(stage: Stage) -> None:
    async def main() -> None:
        run = opened(stage)
        run.told(b"bye", "end")
        assert run.client.log == ["tunnel", "body", "body", "end"]
        run.relay.on_lost(reset=False)
        assert run.end.wire_end == WireEnd.CLIENT_LEFT

    play(main)


def test_a_slow_client_holds_it_back(stage: Stage) -> None:
    async def main() -> None:
        run = opened(stage)
        run.relay.pause_response()
        run.relay.resume_response()
        assert run.upstream.log[-2:] == ["pause", "resume"]
        run.relay.pause_upload()
        run.relay.resume_upload()
        assert run.client.log[-2:] == ["pause upload", "resume upload"]
        run.relay.stop()

    play(main)


def test_the_upstreams_end_reaches_a_client_that_was_slow(stage: Stage) -> None:
    async def main() -> None:
        run = opened(stage)
        run.relay.pause_response()
        run.told(b"bye", "end")
        assert run.client.body == b"hellobye"
        run.relay.resume_response()
        assert run.client.log[-1] == "end"
        run.relay.on_request_end([])
        assert run.end.wire_end == WireEnd.UPSTREAM_END

    play(main)


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_the_client_leaves(stage: Stage, half: bool, drain: bool) -> None:
    """There is nothing to drain: a conversation needs two."""

    async def main() -> None:
        run = opened(stage, drain=drain)
        if half:
            run.relay.on_request_end([])
        run.relay.on_lost(reset=True)
        assert run.upstream.log[-1] == "abort"
        assert run.end.wire_end == WireEnd.CLIENT_LEFT
        assert run.client.log == ["tunnel", "body"]

    play(main)


@pytest.mark.parametrize("half", [False, True])
def test_the_upstream_breaks(stage: Stage, half: bool) -> None:
    async def main() -> None:
        run = opened(stage)
        if half:
            run.relay.on_request_end([])
        run.relay.on_chunk(b"more")
        run.relay.on_broken(UpstreamError("reset", "the upstream reset the tunnel"))
        assert run.client.log == ["tunnel", "body", "body", "abort"]
        end = run.end
        assert (end.wire_end, end.error) == (WireEnd.UPSTREAM_ERROR, "reset: the upstream reset the tunnel")

    play(main)


@pytest.mark.parametrize("up", [False, True])
def test_the_journal_fails(stage: Stage, up: bool) -> None:
    async def main() -> None:
        run = opened(stage)
        with stage.failing():
            run.relay.on_body(b"lost") if up else run.told(b"lost")
        assert run.client.log == ["tunnel", "body", "abort"]
        assert (run.upstream.received, run.upstream.log[-1]) == (b"", "abort")
        stage.recording.settle()
        end = run.end
        assert end.wire_end == WireEnd.JOURNAL_ERROR
        assert (end.request_out_hash, end.response_out_hash) == (
            sha(b"") if up else None,
            None if up else sha(b"hello"),
        )

    play(main)


@pytest.mark.parametrize("client_first", [False, True])
def test_silence_behind_the_first_end_does_not_last_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, client_first: bool
) -> None:
    monkeypatch.setattr(tunnel_module, "SILENCE", 0.02)

    async def main() -> None:
        run = opened(stage)
        if client_first:
            run.relay.on_request_end([])
        else:
            run.told("end")
        await eventually(lambda: run.over == 1, "it is over")
        assert run.client.log[-1] == "abort"
        assert run.upstream.log[-1] == "abort"
        assert run.end.wire_end == (WireEnd.CLIENT_LEFT if client_first else WireEnd.UPSTREAM_END)

    play(main)


def test_whoever_still_speaks_may_go_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel_module, "SILENCE", 3600.0)

    async def main() -> None:
        run = opened(stage)
        run.relay.on_request_end([])
        tunnel = run.relay._tunnel
        assert tunnel is not None
        timers = []
        for _ in range(3):
            run.told(b"still")
            assert tunnel._timer is not None
            timers.append(tunnel._timer)
        assert [timer.cancelled() for timer in timers] == [True, True, False]
        run.told("end")
        assert timers[-1].cancelled(), "no timer outlives its exchange"

    play(main)


def test_an_upgrade_that_is_refused_is_an_exchange_like_any_other(stage: Stage) -> None:
    async def main() -> None:
        run = Run(stage, upload=Upload(), method=b"GET")
        run.told(HEAD, b"no", "end")
        assert run.client.log == ["head 200", "body", "end"]
        assert run.end.wire_end == WireEnd.UPSTREAM_END
        await turns()

    play(main)

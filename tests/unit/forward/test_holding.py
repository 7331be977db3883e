"""Requests that are signed before they go: held to their end where all of a body is signed, else carried on."""

from __future__ import annotations

import threading

import pytest

from proxy.exchange import WireEnd
from proxy.forward.signer import Signer
from proxy.journal import record
from tests.support.rawhttp import DEADLINE, Peer, chunked, until
from tests.unit.forward.asking import ASKING, CHAT, JSON, PLAIN, REFUSAL, STREAM, STREAMED, Answers, answer, post, scene
from tests.unit.forward.serving import HOST
from tests.unit.forward.signing import Scripted
from tests.unit.forward.tape import Stage, body_of

OK = answer(b"{}")
OTHER = b"POST /o/v1/other HTTP/1.1\r\n"
LENGTH = b"%b%bContent-Length: 10\r\n\r\n" % (OTHER, HOST)
CHUNKS = b"%b%bTransfer-Encoding: chunked\r\n\r\n" % (OTHER, HOST)


@pytest.mark.parametrize("begin", [LENGTH + b"01234", CHUNKS + b"5\r\n01234\r\n"])
def test_all_of_it_is_signed_before_any_of_it_goes(stage: Stage, begin: bytes) -> None:
    source, upstream = Scripted(), Answers(OK)
    with scene(stage, upstream, key=Signer(source)) as here:
        here.client.send(begin)
        until(lambda: body_of(stage.records(), record.REQUEST_CHUNK) == b"01234", "half of it to be recorded")
        assert not source.threads
        assert not here.upstream.peers
        here.client.send(b"56789" if begin.startswith(LENGTH) else b"5\r\n56789\r\n0\r\n\r\n")
        assert here.client.read_message().status == 200
        here.holds(b"0123456789", b"{}")
        assert [(each.kind, each.headers) for each in here.changes][1:] == [
            ("request_header_added", [("Authorization", here.changes[-1].headers[0][1])])
        ]
    assert source.signed[0::3] == (b"POST", b"0123456789")
    (got,) = upstream.requests
    assert (got.body, got.one("authorization")) == (b"0123456789", b"token-1")


def test_what_needs_no_body_does_not_wait_for_it(stage: Stage) -> None:
    source, begun = Scripted(whole=False), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_until(b"\r\n\r\n01234")
        begun.set()
        peer.read_until(b"56789")
        peer.send(OK)

    with scene(stage, script, key=Signer(source)) as here:
        here.client.send(LENGTH + b"01234")
        assert begun.wait(DEADLINE)
        assert here.client.send(b"56789").read_message().status == 200
        here.holds(b"0123456789", b"{}")
    assert source.signed[3] == b""


def test_a_client_that_waits_to_be_told_to_go_on(stage: Stage) -> None:
    upstream = Answers(OK)
    with scene(stage, upstream, key=Signer(Scripted())) as here:
        here.client.send(LENGTH.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert here.client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        assert here.client.send(b"0123456789").read_message().status == 200
        assert "own_interim" in [each.kind for each in here.changes]


def test_what_cannot_be_recorded_does_not_go(stage: Stage) -> None:
    source, upstream = Scripted(), Answers(OK)
    with scene(stage, upstream, key=Signer(source)) as here:
        here.client.send(LENGTH + b"01234")
        until(lambda: body_of(stage.records(), record.REQUEST_CHUNK) == b"01234", "half of it to be recorded")
        source.fetch()
        with stage.failing():
            assert here.client.send(b"56789").read_message().status == 503
    assert not upstream.requests


def test_what_is_not_recorded_is_signed_as_well(stage: Stage) -> None:
    upstream = Answers(OK)
    with scene(stage, upstream, key=Signer(Scripted()), record="none") as here:
        assert here.ask(b"0123456789", line=OTHER).status == 200
    assert upstream.requests[0].one("authorization") == b"token-1"
    assert not stage.records()


def test_a_request_that_is_changed_is_signed_as_it_goes_and_anew_where_it_was_refused(stage: Stage) -> None:
    source = Scripted()
    upstream = Answers(answer(REFUSAL, b"HTTP/1.1 400 Bad Request\r\n"), STREAMED)
    signed = []
    source.on_sign = lambda asked: signed.append(asked.body)
    with scene(stage, upstream, key=Signer(source)) as here:
        assert here.ask(PLAIN).body == STREAM
        here.holds(PLAIN, STREAM)
    assert signed == [ASKING, PLAIN]
    assert [each.body for each in upstream.requests] == [ASKING, PLAIN]
    assert [each.all("authorization") for each in upstream.requests] == [[b"token-1"]] * 2
    assert source.fetched == 1


def test_what_goes_on_a_dead_connection_is_sent_again_as_it_was_signed(stage: Stage) -> None:
    source = Scripted()
    requests: list[bytes] = []

    def dying(peer: Peer) -> None:
        peer.read_message()
        peer.send(OK)
        peer.read_message()
        peer.rst()

    def living(peer: Peer) -> None:
        message = peer.read_message()
        requests.append(message.one("authorization") or b"")
        peer.send(OK)

    with scene(stage, dying, living, key=Signer(source)) as here:
        assert here.ask(b"1", line=OTHER).status == 200
        again = here.client.send(b"GET /o/v1/other HTTP/1.1\r\n%b\r\n" % HOST)
        assert again.read_message().status == 200
    assert requests == [b"token-1"]


def test_too_much_of_it(stage: Stage) -> None:
    upstream = Answers(OK)
    with scene(stage, upstream, key=Signer(Scripted()), limit=8) as here:
        refused = here.client.send(LENGTH + b"0123456789").read_message()
        assert refused.status == 413
        assert b"forward.transform_limit (8 bytes)" in refused.body
    assert not upstream.requests
    assert not stage.records()


def test_too_much_of_it_in_pieces(stage: Stage) -> None:
    upstream = Answers(OK)
    with scene(stage, upstream, key=Signer(Scripted()), limit=8) as here:
        here.client.send(CHUNKS + b"5\r\n01234\r\n5\r\n56789\r\n")
        assert here.client.read_message().status == 413
        assert here.end().wire_end == WireEnd.REFUSED
    assert not upstream.requests


def test_the_client_leaves_while_it_is_held(stage: Stage) -> None:
    upstream = Answers(OK)
    with scene(stage, upstream, key=Signer(Scripted())) as here:
        here.client.send(CHUNKS + b"5\r\n01234\r\n").rst()
        assert here.end().wire_end == WireEnd.CLIENT_LEFT
    assert not upstream.requests


def test_a_refusal_is_told_and_the_next_request_has_others(stage: Stage) -> None:
    source, upstream = Scripted(), Answers(answer(b"no", b"HTTP/1.1 401 No\r\n"), OK)
    with scene(stage, upstream, key=Signer(source)) as here:
        refused = here.ask(b"x", line=OTHER)
        assert (refused.status, refused.body) == (401, b"no")
        assert refused.one("x-wiretape-credentials") == b"the credentials, with which o is asked, were refused"
        assert here.ask(b"x", line=OTHER).status == 200
    assert [each.one("authorization") for each in upstream.requests] == [b"token-1", b"token-2"]


def test_one_plan_is_signed_again_and_again(stage: Stage) -> None:
    """Heads that are known are planned once; what is signed is not."""
    source, upstream = Scripted(), Answers(OK)
    with scene(stage, upstream, key=Signer(source)) as here:
        for number in range(3):
            source.fetch()
            assert here.client.send(post(b"%d" % number, JSON, line=CHAT)).read_message().status == 200
    assert [each.one("authorization") for each in upstream.requests] == [b"token-1", b"token-2", b"token-3"]


def test_trailers_go_with_it(stage: Stage) -> None:
    upstream = Answers(OK)
    with scene(stage, upstream, key=Signer(Scripted())) as here:
        here.client.send(CHUNKS.replace(b"chunked", b"chunked\r\nTrailer: x-sum"))
        here.client.send(chunked(b"a", trailers=[(b"X-Sum", b"1")]))
        assert here.client.read_message().status == 200
    assert upstream.requests[0].trailers == [(b"X-Sum", b"1")]


@pytest.mark.parametrize("whole", [True, False])
def test_a_tunnel(stage: Stage, whole: bool) -> None:
    """What comes once the protocol has changed is held by nobody."""

    def script(peer: Peer) -> None:
        assert b"\r\nAuthorization: token-1\r\n" in peer.read_until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello")
        peer.send(peer.read_exactly(4)[::-1])
        peer.wait_hung_up()

    with scene(stage, script, key=Signer(Scripted(whole=whole))) as here:
        here.client.send(b"GET /o/v1/live HTTP/1.1\r\n%bConnection: upgrade\r\nUpgrade: x\r\n\r\n" % HOST)
        assert here.client.read_until(b"hello").startswith(b"HTTP/1.1 101")
        assert here.client.send(b"abcd").read_exactly(4) == b"dcba"
        here.client.fin()
        here.holds(b"abcd", b"hellodcba")


def test_a_refusal_that_no_client_hears_any_more_counts_all_the_same(stage: Stage) -> None:
    source, asked, gone = Scripted(), threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        asked.set()
        assert gone.wait(DEADLINE)
        peer.send(answer(b"no", b"HTTP/1.1 401 No\r\n"))

    held = Signer(source)
    with scene(stage, script, key=held, drain=True) as here:
        here.client.send(post(b"x", line=OTHER))
        assert asked.wait(DEADLINE)
        here.client.rst()
        until(lambda: all(relay._left for relay in here.served.app._relays), "that is noticed")
        gone.set()
        assert here.end().wire_end == WireEnd.CLIENT_LEFT
    assert not held.ready()

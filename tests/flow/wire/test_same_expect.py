"""`Expect: 100-continue` is between client and origin: who waits for the 100 gets the origin's, or its final answer."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import (
    Actor,
    Run,
    assert_same_requests,
    assert_same_responses,
    error_type,
    finish,
    twice,
)
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Body, Stage, chunk, request, response
from tests.support.rawhttp import End, Ended, Peer, RawHeaders

EXPECT = b"Expect: 100-continue"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODY = b"x" * 50_000
FRAMINGS: dict[str, tuple[bytes, bytes]] = {
    "length": (b"Content-Length: %d" % len(BODY), BODY),
    "chunks": (b"Transfer-Encoding: chunked", chunk(BODY) + LAST_CHUNK),
}
framings = pytest.mark.parametrize("framing", FRAMINGS)


def _continuing(*interim: bytes) -> Actor:
    """An origin that says so before it reads a body, and answers with how long that was."""

    def origin(peer: Peer, run: Run) -> None:
        try:
            while True:
                _, headers = peer.read_head()
                peer.send(*interim)
                peer.send(response(b"%d" % len(_body(peer, headers))))
        except Ended:
            return

    return origin


def _body(peer: Peer, headers: RawHeaders) -> bytes:
    """What belongs to a head that was read, and nothing of what follows."""
    lengths = [int(value) for name, value in headers if name.lower() == b"content-length"]
    return peer.read_exactly(lengths[0]) if lengths else Body(peer, headers).rest()


@framings
def test_the_origins_100_comes_and_then_the_body_goes(stage: Stage, framing: str) -> None:
    line, body = FRAMINGS[framing]

    def client(peer: Peer, run: Run) -> None:
        for _ in range(2):
            peer.send(request(run.at(), None, b"A: 1", EXPECT, line))
            assert peer.read_head() == (b"HTTP/1.1 100 Continue", [])
            peer.send(body)
            assert peer.read_message().body == b"%d" % len(BODY)

    both = twice(stage, client, _continuing(CONTINUE))
    assert_same_requests(both)
    assert_same_responses(both)
    assert [each.one("expect") for each in both.proxied.requests] == [b"100-continue"] * 2
    assert [each.outcome for each in stage.recorded(both.origin, 2)] == ["completed"] * 2


@framings
def test_nobody_else_says_100(stage: Stage, framing: str) -> None:
    """The origin is one that knows nothing of it; clients send the body after a while all the same."""
    line, body = FRAMINGS[framing]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, EXPECT, line))
        run.wait("the head arrived")
        assert not peer.has_arrived(0.3)
        peer.send(body)
        assert peer.read_message().body == b"%d" % len(BODY)

    def origin(peer: Peer, run: Run) -> None:
        _, headers = peer.read_head()
        assert not peer.has_arrived()
        run.tell("the head arrived")
        peer.send(response(b"%d" % len(_body(peer, headers))))

    both = twice(stage, client, origin)
    assert_same_requests(both)
    assert_same_responses(both)
    assert [each.status for each in both.proxied.responses] == [200]


@framings
@pytest.mark.parametrize("status", [b"417 Expectation Failed", b"401 Unauthorized", b"413 Too Large", b"200 OK"])
def test_a_final_answer_instead(stage: Stage, status: bytes, framing: str) -> None:
    """It comes at once, though the body never does; and the upstream's request is never complete."""
    line, _ = FRAMINGS[framing]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, EXPECT, line))
        assert peer.read_message().body == b"no"
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        peer.read_head()
        peer.send(response(b"no", b"B: 1", status=status))
        finish(peer)

    both = twice(stage, client, origin, settled=True)
    assert_same_requests(both)
    assert_same_responses(both)
    assert both.proxied.requests == []
    assert both.proxied.client.ended is End.FIN


@framings
def test_who_does_not_wait(stage: Stage, framing: str) -> None:
    line, body = FRAMINGS[framing]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, EXPECT, line), body, request(run.at(), b"next"))
        assert [peer.read_message().status for _ in range(4)] == [100, 200, 100, 200]

    both = twice(stage, client, _continuing(CONTINUE))
    assert_same_requests(both)
    assert_same_responses(both)


def test_other_interim_answers_before_and_behind(stage: Stage) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n"
    processing = b"HTTP/1.1 102 Processing\r\n\r\n"

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, EXPECT, FRAMINGS["length"][0]))
        assert [peer.read_message().status for _ in range(4)] == [103, 100, 102, 100]
        peer.send(BODY)
        assert peer.read_message().status == 200

    both = twice(stage, client, _continuing(hints, CONTINUE, processing, CONTINUE))
    assert_same_requests(both)
    assert_same_responses(both)


def test_an_answer_that_streams_while_the_body_is_still_waited_for(stage: Stage) -> None:
    """A final answer is no reason for the client not to send: both may go on."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, EXPECT, b"Transfer-Encoding: chunked"))
        peer.read_until(chunk(b"began"))
        peer.send(chunk(b"the body"), LAST_CHUNK)
        peer.read_until(LAST_CHUNK)

    def origin(peer: Peer, run: Run) -> None:
        peer.read_head()
        peer.send(STREAM, chunk(b"began"))
        peer.read_until(chunk(b"the body") + LAST_CHUNK)
        peer.send(chunk(b"done"), LAST_CHUNK)

    both = twice(stage, client, origin)
    assert_same_requests(both)
    assert_same_responses(both)
    assert [each.body for each in both.proxied.responses] == [b"begandone"]


@pytest.mark.parametrize(
    "line", [b"expect: 100-Continue", b"EXPECT: 100-continue", b"Expect: something-else", b"Expect:"], ids=bytes.decode
)
def test_it_passes_however_it_is_written(stage: Stage, line: bytes) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"body", b"A: 1", line)).read_message()

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)


@pytest.mark.parametrize("line", [EXPECT, b"A: 1"], ids=["with Expect", "without"])
def test_http_1_0_gets_no_interim_answer(stage: Stage, line: bytes) -> None:
    """It knows of none, and would take one for the final one (RFC 9110, 15.2)."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"body", line).replace(b"HTTP/1.1", b"HTTP/1.0"))
        peer.read_to_end()

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(CONTINUE, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", response(b"answer"))

    both = twice(stage, client, origin)
    assert_same_requests(both)
    assert [each.status for each in both.direct.responses] == [100, 103, 200]
    assert [each.body for each in both.proxied.responses] == [b"answer"]
    assert (both.proxied.client.rest, both.proxied.client.ended) == (b"", End.FIN)


# Without the origin


def test_an_origin_that_goes_instead_of_continuing(stage: Stage) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()

    with stage.origin(script) as origin, stage.client() as client:
        client.send(request(origin.at(), None, EXPECT, b"Content-Length: 5"))
        answer = client.read_message()
        assert (answer.status, error_type(answer)) == (502, "wiretape_upstream_broken")
        client.read_to_end()
        assert client.ended is End.FIN
        assert stage.only(origin).outcome == "upstream_failed"


@pytest.mark.parametrize("target", [b"/nobody-of-this-name/x", b"/-/live"], ids=["unknown", "health"])
def test_what_never_goes_to_an_origin_is_answered_at_once(stage: Stage, target: bytes) -> None:
    with stage.origin(Answering()), stage.client() as client:
        client.send(request(target, None, EXPECT, b"Content-Length: 5"))
        assert client.read_message().status in (200, 404)

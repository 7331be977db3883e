"""Requests sent behind each other are answered one by one, in order; what no request may follow is not read as one."""

from __future__ import annotations

import random

import pytest

from tests.flow.wire.differential import (
    Both,
    Run,
    assert_same_requests,
    assert_same_responses,
    error_type,
    finish,
    twice,
)
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Stage, chunk, request, response
from tests.support.rawhttp import End, Ended, Peer

CHUNKED = b"Transfer-Encoding: chunked"
CLOSE = b"Connection: close"


def _mixed(run: Run) -> list[bytes]:
    """Requests of every framing; each names itself, so that none can be taken for another."""
    return [
        request(run.at(b"/1"), b"one"),
        request(run.at(b"/2"), method=b"GET"),
        request(run.at(b"/3?"), None, CHUNKED) + chunk(b"th") + chunk(b"ree") + LAST_CHUNK,
        request(run.at(b"/4"), b"", method=b"DELETE"),
        request(run.at(b"/5"), None, CHUNKED) + LAST_CHUNK,
        request(run.at(b"/6"), b"x" * 100_000),
        request(run.at(b"/7"), b"seven", method=b"PROPFIND"),
        request(run.at(b"/8"), None, CHUNKED, b"Trailer: X-Sum") + chunk(b"8") + b"0\r\nX-Sum: 8\r\n\r\n",
        request(run.at(b"/9"), method=b"OPTIONS"),
    ]


def _echo(peer: Peer, run: Run) -> None:
    """Answers name what was asked, now with a length, now in chunks."""
    try:
        while True:
            while peer.read_exactly(2) == b"\r\n":
                pass  # a blank line
            peer._taken -= 2
            asked = peer.read_message()
            told = asked.target + b" " + asked.body
            peer.send(response(told) if len(asked.target) % 2 else STREAM + chunk(told) + LAST_CHUNK)
    except Ended:
        return


def _read(peer: Peer, run: Run) -> None:
    for data in _mixed(run):
        name = data.split(b" ")[1][len(run.at(b"")) :]
        assert peer.read_message().body.startswith(name + b" ")


def test_all_at_once(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(*_mixed(run))
        _read(peer, run)

    both = twice(stage, client, _echo)
    assert_same_requests(both)
    assert_same_responses(both)
    outcomes = [each.outcome for each in stage.recorded(both.origin, len(_mixed(both.proxied)))]
    assert set(outcomes) == {"completed"}


@pytest.mark.parametrize("seed", range(5))
def test_cut_anywhere(stage: Stage, seed: int) -> None:
    def client(peer: Peer, run: Run) -> None:
        chance, data = random.Random(seed), b"".join(_mixed(run))
        cuts = sorted(chance.randrange(len(data)) for _ in range(40))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            peer.send(data[begin:end])
        _read(peer, run)

    both = twice(stage, client, _echo)
    assert_same_requests(both)
    assert_same_responses(both)


def test_a_hundred(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(*[request(run.at(b"/%d" % number), b"%d" % number) for number in range(100)])
        for number in range(100):
            assert peer.read_message().body == b"/%d %d" % (number, number)

    both = twice(stage, client, _echo)
    assert_same_requests(both)
    assert_same_responses(both)


def test_the_next_waits_for_the_one_before(stage: Stage) -> None:
    """It is not begun as long as that one's answer comes."""

    def origin(peer: Peer, run: Run) -> None:
        if len(run.origin.peers) == 1:
            assert peer.read_message().target == b"/slow"
            peer.send(STREAM, chunk(b"slow, "))
            run.wait("the first piece arrived")
            assert len(run.origin.peers) == 1
            peer.send(chunk(b"and last"), LAST_CHUNK)
        _echo(peer, run)

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(b"/slow"), b"{}"), request(run.at(b"/next"), b"{}"))
        peer.read_until(b"slow, ")
        run.tell("the first piece arrived")
        peer.read_until(b"/next {}")

    both = twice(stage, client, origin)
    assert [each.body for each in both.proxied.responses] == [b"slow, and last", b"/next {}"]
    assert_same_requests(both)
    assert_same_responses(both)


def test_an_error_of_ours_in_the_midst(stage: Stage) -> None:
    with stage.origin(Answering(response(b"answer"))) as origin, stage.client() as client:
        targets = [origin.at(), b"/nobody-of-this-name/x", origin.at()]
        client.send(*[request(target, method=b"GET") for target in targets])
        assert [client.read_message().status for _ in targets] == [200, 404, 200]
        assert [each.outcome for each in stage.recorded(origin, 2)] == ["completed"] * 2


# Blank lines


@pytest.mark.parametrize("lines", [1, 2, 20])
def test_blank_lines_before_a_request_are_nothing(stage: Stage, lines: int) -> None:
    """As some old clients send one behind a body (RFC 9112, 2.2)."""
    blank = b"\r\n" * lines

    def client(peer: Peer, run: Run) -> None:
        peer.send(blank, request(run.at(b"/first"), b"1"), blank, request(run.at(b"/second"), method=b"GET"), blank)
        assert [peer.read_message().body for _ in range(2)] == [b"/first 1", b"/second "]
        peer.send(blank, request(run.at(b"/third"), b"3"))
        assert peer.read_message().body == b"/third 3"

    both = twice(stage, client, _echo)
    assert_same_requests(both)
    assert_same_responses(both)


def test_a_blank_line_in_pieces(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send_bytewise(b"\r\n\r\n" + request(run.at(b"/first"), b"1") + b"\r\n")
        assert peer.read_message().body == b"/first 1"

    both = twice(stage, client, _echo)
    assert_same_requests(both)
    assert_same_responses(both)


def test_blank_lines_alone_are_no_request(stage: Stage) -> None:
    with stage.client() as client:
        client.send(b"\r\n\r\n")
        assert not client.has_arrived(0.2)
        assert client.send(request(b"/-/live", method=b"GET")).read_message().status == 200


# The last request


def _last(peer: Peer, run: Run) -> None:
    """An origin that answers one request, and reads without an answer what else comes."""
    try:
        peer.read_message()
        peer.send(response(b"answer"))
    except Ended:
        return
    finish(peer)


BEHIND: dict[str, bytes] = {
    "a request": b"GET /x HTTP/1.1\r\nHost: wiretape.test\r\n\r\n",
    "half a request": b"GET /x HT",
    "garbage": b"\x00\x16\x03\x01 garbage\r\n\r\n",
    "blank lines": b"\r\n\r\n",
}


@pytest.mark.parametrize("version", [b"1.1", b"1.0"], ids=["Connection: close", "HTTP 1.0"])
@pytest.mark.parametrize("name", BEHIND)
def test_what_stands_behind_the_last_is_ignored(stage: Stage, name: str, version: bytes) -> None:
    def client(peer: Peer, run: Run) -> None:
        data = request(run.at(), b"{}", *([CLOSE] if version == b"1.1" else []))
        peer.send(data.replace(b"HTTP/1.1", b"HTTP/" + version), BEHIND[name].replace(b"/x", run.at()))
        peer.read_to_end()

    both = twice(stage, client, _last)
    assert_same_responses(both)
    assert [each.body for each in both.proxied.responses] == [b"answer"]
    assert both.proxied.client.ended is End.FIN
    assert len(both.proxied.requests) == len(both.proxied.connections) == 1
    assert stage.only(both.origin).outcome == "completed"


# A bad request behind a good one

BAD: dict[str, bytes] = {
    "nonsense": b"nonsense\r\n\r\n",
    "zeros": b"\0\0\0\0",
    "two spaces": b"GET  /x HTTP/1.1\r\nHost: wiretape.test\r\n\r\n",
    "HTTP/2.0": b"GET /x HTTP/2.0\r\nHost: wiretape.test\r\n\r\n",
    "no Host": b"GET /x HTTP/1.1\r\n\r\n",
    "a folded field": request(b"/x", None, b"A: b\r\n c", method=b"GET"),
    "both framings": request(b"/x", None, b"Content-Length: 5", CHUNKED),
    "a bad chunk": request(b"/x", None, CHUNKED) + b"-1\r\nhello\r\n",
    "a longer body than was said": b"{}",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_one_gets_its_answer_behind_that_of_the_good(stage: Stage, name: str) -> None:
    """And nothing is read behind it."""

    def client(peer: Peer, run: Run) -> None:
        bad = BAD[name].replace(b"/x", run.at())
        peer.send(request(run.at(), b"{}"), bad, b"" if name == "zeros" else request(run.at(), b"{}"))
        peer.read_to_end()

    both = twice(stage, client, _last)
    _assert_bad_behind_good(both)
    assert [each.body for each in both.proxied.requests] == [b"{}"]


@pytest.mark.parametrize("name", ["nonsense", "no Host", "a bad chunk"])
def test_a_bad_one_waits_for_the_end_of_the_good(stage: Stage, name: str) -> None:
    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(STREAM, chunk(b"good, "))
        run.wait("the bad one was sent")
        peer.send(chunk(b"and done"), LAST_CHUNK)
        finish(peer)

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}"))
        peer.read_until(b"good, \r\n")
        peer.send(BAD[name].replace(b"/x", run.at()))
        assert not peer.has_arrived(0.2)
        run.tell("the bad one was sent")
        peer.read_to_end()

    both = twice(stage, client, origin)
    _assert_bad_behind_good(both)
    assert both.proxied.responses[0].body == b"good, and done"


def test_one_that_is_not_relayed_waits_as_well(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}"), request(run.at(), method=b"TRACE"), request(run.at(), b"{}"))
        peer.read_to_end()

    both = twice(stage, client, _last)
    assert [each.status for each in both.proxied.responses] == [200, 501]
    assert both.proxied.client.ended is End.FIN
    assert len(both.proxied.requests) == 1


def _assert_bad_behind_good(both: Both) -> None:
    good, bad = both.proxied.responses
    assert (good.status, bad.status, error_type(bad)) == (200, 400, "wiretape_bad_request")
    assert (both.proxied.client.rest, both.proxied.client.ended) == (b"", End.FIN)
    assert [each.status for each in both.direct.responses] == [200]

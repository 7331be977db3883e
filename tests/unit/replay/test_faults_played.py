"""Faults over a real socket: what a client gets of playback, by option, by header and by a cassette's line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import uvloop

from proxy.exchange import WireEnd
from proxy.replay.answer import Head
from proxy.replay.cassette import Track
from proxy.replay.fault_words import parse
from proxy.replay.library import Order
from proxy.replay.match import Matcher
from proxy.replay.playback import Playback
from proxy.replay.session import Session
from proxy.replay.stock import stock_of
from proxy.wire.server_exchange import ServerExchange
from tests.support.rawhttp import End, Message, Peer, connect
from tests.unit.wire.serving import Hearing, Wired, running

EVENTS = [b"data: a\n\n", "data: é€\n\n".encode(), b"data: [DONE]\n\n"]
BODY = b'{"model":"m"}'
MATCHER = Matcher()


def track(number: int = 1, fault: str | None = None, **fields: Any) -> Track:
    made = Track(
        UUID(int=number), "anthropic", "anthropic", "POST", "/anthropic/v1/x", "1.1", 0, 50, WireEnd.UPSTREAM_END
    )
    made.headers = [("Content-Type", "application/json")]
    made.request = [(1, BODY)]
    made.heads = [Head(2, 200, "OK", [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])]
    made.response = [(10 * (at + 1), data) for at, data in enumerate(EVENTS)]
    return replace(made, fault=fault, **fields)


class Played(Wired):
    """Playback, given to what serves applications of the wire."""

    def __init__(self, playback: Playback) -> None:
        super().__init__()
        self.playback = playback

    def take(self, side: ServerExchange) -> Hearing:
        self.playback.take(side)
        return None  # type: ignore[return-value]  # nobody looks at what a request's taker gives


@contextmanager
def playing(*tracks: Track, order: Order = "any", fault: str | None = None) -> Iterator[int]:
    """The port at which these are played."""
    stock = stock_of(tracks or [track()], MATCHER, order)
    common = Session("", "playback", stock, MATCHER)
    playback = Playback(common, fault=None if fault is None else parse(fault))
    with running(uvloop.new_event_loop, Played(playback)) as served:
        yield served.port


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a playback without faults of its own, for requests that bring theirs."""
    with playing() as found:
        yield found


def asking(port: int, fault: str | None = None, session: str = "", method: bytes = b"POST") -> Peer:
    """A client that has asked."""
    client = connect(port)
    client.send(b"%b /anthropic/v1/x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" % method)
    if fault is not None:
        client.send(b"X-Wiretape-Fault: %b\r\n" % fault.encode())
    if session:
        client.send(b"x-wiretape-session: %b\r\n" % session.encode())
    return client.send(b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY))


def answered(port: int, fault: str | None = None, session: str = "") -> Message:
    with asking(port, fault, session) as client:
        return client.read_message()


def statuses(port: int, count: int, fault: str | None = None, session: str = "") -> list[int]:
    return [answered(port, fault, session).status for _ in range(count)]


def broken(client: Peer) -> bytes:
    """All that came of an answer that has no end."""
    client.read_head()
    came = client.read_to_end()
    assert not came.endswith(b"0\r\n\r\n")
    return came


# Each of them


@pytest.mark.parametrize(("fault", "end"), [("cut=2", End.FIN), ("reset=2", End.RST)])
def test_it_ends_in_the_midst(port: int, fault: str, end: End) -> None:
    with asking(port, fault) as client:
        came = broken(client)
        assert came == b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in EVENTS[:2])
        assert client.ended is end


def test_it_stalls_for_a_while(port: int) -> None:
    with asking(port, "stall=1:300ms") as client:
        client.read_until(EVENTS[0] + b"\r\n")
        began = time.monotonic()
        client.read_until(EVENTS[1])
        assert time.monotonic() - began > 0.2
        client.read_until(b"0\r\n\r\n")


def test_it_stalls_for_ever(port: int) -> None:
    with asking(port, "stall=1") as client:
        client.read_until(EVENTS[0] + b"\r\n")
        assert not client.has_arrived(0.3)


def test_it_is_slow(port: int) -> None:
    began = time.monotonic()
    message = answered(port, "slow=200")
    assert time.monotonic() - began > sum(map(len, EVENTS)) / 200 * 0.9
    assert message.body == b"".join(EVENTS)
    assert message.chunks is not None
    assert max(map(len, message.chunks)) <= 20


def test_characters_are_cut_in_two(port: int) -> None:
    message = answered(port, "split=utf8")
    assert message.chunks == [EVENTS[0], b"data: \xc3", b"\xa9\xe2", b"\x82\xac\n\n", EVENTS[2]]


def test_a_line_is_cut_in_two(port: int) -> None:
    assert answered(port, "split=line:0").chunks == [b"dat", b"a: a\n\n", *EVENTS[1:]]


def test_an_event_is_dropped_or_repeated(port: int) -> None:
    assert answered(port, "drop=1").body == EVENTS[0] + EVENTS[2]
    assert answered(port, "repeat=1").body == EVENTS[0] + EVENTS[1] * 2 + EVENTS[2]


def test_it_is_refused_as_the_provider_does(port: int) -> None:
    message = answered(port, "status=529 retry-after=3")
    assert (message.start, message.one("retry-after")) == (b"HTTP/1.1 529 ", b"3")
    assert json.loads(message.body)["error"]["type"] == "overloaded_error"


def test_a_refusal_of_a_head_request_has_no_body() -> None:
    with playing(track(method="HEAD", response=[])) as port, asking(port, "status=500", method=b"HEAD") as client:
        assert client.read_message(bodiless=True).status == 500
        assert not client.has_arrived(0.1)


# Who is hit


def test_the_retry_succeeds_with_the_one_recording() -> None:
    with playing(order="sequence", fault="status=529 times=1") as port:
        assert statuses(port, 3) == [529, 200, 404]
        assert statuses(port, 2, session="other") == [529, 200], "sessions are counted by themselves"
    with playing(fault="status=500 every=2") as port:
        assert statuses(port, 4) == [500, 200, 500, 200]


def test_a_cassette_says_for_each_of_its_exchanges() -> None:
    tracks = [track(1, "status=429 times=1"), track(2), track(3, "drop=0")]
    with playing(*tracks, order="sequence") as port:
        assert statuses(port, 3) == [429, 200, 200]
        assert answered(port).body == b"".join(EVENTS[1:])


def test_the_nearer_word_holds() -> None:
    with playing(track(1, "status=501"), fault="status=502") as port:
        assert answered(port).status == 501
        assert answered(port, "status=503").status == 503
        assert answered(port, "none").status == 200
        assert statuses(port, 2, "status=503 times=1", "x") == [503, 200], "no other takes its turn"


# What is wrong is told


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("cutt=1", "'cutt=1' is no fault (did you mean cut?); the faults are cut=K"),
        ("cut=50", "cut=50: the answer has 3 chunks, numbered from 0 to 2"),
        ("drop=3", "drop=3: the answer has 3 events"),
        ("", "'' has no fault in it"),
    ],
)
def test_a_fault_without_room_is_told(port: int, fault: str, says: str) -> None:
    message = answered(port, fault)
    error = json.loads(message.body)["error"]
    assert (message.status, error["type"]) == (400, "wiretape_bad_fault")
    assert error["message"].startswith(says)
    assert message.one("x-should-retry") == b"false"


def test_wrong_words_use_nothing_up() -> None:
    with playing(order="sequence") as port:
        assert statuses(port, 1, "cutt=1") == [400]
        assert statuses(port, 2) == [200, 404]

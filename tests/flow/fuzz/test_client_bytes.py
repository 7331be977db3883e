"""Whatever a client sends: the worker lives, each connection comes to its end, and nobody hears anything of another."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.flow.fuzz.good import PATIENCE, SWITCHED, TOKEN, UPGRADE, Sound, echo, house, new_token
from tests.flow.fuzz.mutated import PLACE, filled, mutations, segments
from tests.flow.wire.stage import Origin, Stage, chunk, request
from tests.support.rawhttp import Ended, Peer

TARGET = b"/plain-0/v1/" + PLACE
CHUNKED = b"Transfer-Encoding: chunked"

REQUESTS = (
    request(TARGET, None, method=b"GET"),
    request(TARGET, PLACE * 3),
    request(TARGET, None, CHUNKED) + chunk(PLACE) + chunk(b"more") + b"0\r\n\r\n",
    request(TARGET, None, CHUNKED, b"TE: trailers", b"Connection: TE")
    + chunk(PLACE)
    + b"0\r\nX-Sum: %b\r\n\r\n" % PLACE,
    request(TARGET, None, b"X-Token: " + PLACE, b"X-Empty:", b"Accept-Encoding: gzip, br", method=b"HEAD"),
    request(TARGET, PLACE, b"Expect: 100-continue"),
    request(TARGET, None, *UPGRADE, method=b"GET") + PLACE,
    request(TARGET, b"", b"Connection: close", b"X-Token: " + PLACE),
    request(b"/nowhere/v1/x", PLACE),
    request(b"/-/ready", None, method=b"GET"),
    b"GET %b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % TARGET,
    b"\r\nOPTIONS %b HTTP/1.1\r\nHost: x\r\nCookie: a=%b\r\n\r\n" % (TARGET, PLACE),
)


@pytest.fixture(scope="module")
def origin(stage: Stage) -> Iterator[Origin]:
    """One for all examples, whose connections wiretape keeps from one to the next."""
    with stage.origin(echo, deadline=10 * PATIENCE) as origin:
        assert TARGET.startswith(origin.at(b"/v1/"))
        yield origin


def converse(stage: Stage, pieces: list[bytes]) -> bytes:
    """Send and end; what came until the other side had ended as well, which it must in time."""
    with stage.client(deadline=PATIENCE) as client:
        try:
            for piece in pieces:
                client.send(piece)
            client.fin()
        except (Ended, OSError):
            pass  # it did not want to hear all of it
        return client.read_to_end()


def check(stage: Stage, origin: Origin, pieces: list[bytes]) -> None:
    """Send the pieces while a good client is in the midst of its request."""
    sound = Sound(stage)
    own, good = new_token(), new_token()
    asked = request(origin.at(), good)
    with stage.client(deadline=PATIENCE) as neighbour:
        neighbour.send(asked[:-8])
        came = converse(stage, filled(pieces, own))
        assert set(TOKEN.findall(came)) <= {own}
        assert came.startswith(b"HTTP/1.1 ") or not came
        answer = neighbour.send(asked[-8:]).read_message()
    assert (answer.status, answer.body) == (200, good)
    sound.check()


@house
@given(segments(mutations(REQUESTS)))
def test_what_was_a_request(stage: Stage, origin: Origin, pieces: list[bytes]) -> None:
    check(stage, origin, pieces)


@settings(house, max_examples=40)
@given(segments(st.binary(max_size=2000)))
@example([b"\x16\x03\x01\x02\x00\x01\x00"])
@example([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
@example([b"A" * 300_000])
@example([b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2000])
def test_what_never_was_one(stage: Stage, origin: Origin, pieces: list[bytes]) -> None:
    check(stage, origin, pieces)


@pytest.mark.parametrize("message", REQUESTS)
def test_what_is_one(stage: Stage, origin: Origin, message: bytes) -> None:
    """What the others are made of is good: it is answered, by whom it asks."""
    came = converse(stage, filled([message], token := new_token()))
    assert re.match(rb"HTTP/1\.1 (?:200|101|404) ", came)
    assert (token in came) == (TARGET in message)


def test_a_request_that_is_cut_off_behind_a_whole_one(stage: Stage, origin: Origin) -> None:
    """That nothing more will come of it was told while the first was still to be answered."""
    whole = request(origin.at(), b"a body")
    came = converse(stage, [whole + whole[:-1]])
    assert came.count(b"HTTP/1.1 ") == came.count(b"HTTP/1.1 200 OK") == 1


def test_an_end_that_comes_before_the_upgrade(stage: Stage) -> None:
    """The upstream hears of it all the same, and has the last word."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        assert ended.wait(PATIENCE)
        peer.send(SWITCHED)
        assert peer.read_to_end() == b"all that is said"
        peer.send(b"farewell")

    with stage.origin(script) as origin, stage.client(deadline=PATIENCE) as client:
        client.send(request(origin.at(), None, *UPGRADE, method=b"GET"), b"all that is said").fin()
        ended.set()
        assert client.read_to_end().endswith(b"\r\n\r\nfarewell")

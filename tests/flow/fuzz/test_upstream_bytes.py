"""Whatever an upstream answers: the client gets the very message that it means, or sees that there is none; and nobody
gets anything of another's.
"""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.flow.fuzz.good import PATIENCE, TOKEN, Sound, ask, echo, house, new_token
from tests.flow.fuzz.meaning import Meaning, meaning
from tests.flow.fuzz.mutated import PLACE, filled, mutations, segments
from tests.flow.wire.differential import HOPS, ID
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Stage, chunk, request, response
from tests.support.rawhttp import Ended, Message, Peer, RawHeaders

RESPONSES = (
    response(PLACE * 2, b"Content-Type: text/plain"),
    STREAM + chunk(PLACE) + chunk(b"more") + LAST_CHUNK,
    STREAM + b"10;a=b\r\n%b\r\n000\r\nX-Sum: %b\r\n\r\n" % (PLACE, PLACE),
    response(PLACE, b"Set-Cookie: a", b"Set-Cookie: b", b"X-Empty:", status=b"429 Too \xe9 Many"),
    b"HTTP/1.1 103 Early Hints\r\nLink: <%b>\r\n\r\n" % PLACE + response(b"", b"X-Token: " + PLACE),
    b"HTTP/1.1 204 No Content\r\nX-Token: %b\r\n\r\n" % PLACE,
    b'HTTP/1.1 304 \r\nContent-Length: 100\r\nETag: "%b"\r\n\r\n' % PLACE,
    b"HTTP/1.1 200 OK\r\nX-Token: %b\r\n\r\nuntil it closes %b" % (PLACE, PLACE),
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 16\r\n\r\n" + PLACE,
    response(b"\x1f\x8b\x08\0" + PLACE, b"Content-Encoding: gzip", b"Connection: close"),
)
LEFT_OUT = HOPS | {b"transfer-encoding", b"trailer", ID}


class Answer:
    """A script: sends the pieces to the first who asks, whatever they are; `reused` if another request came to it."""

    def __init__(self, pieces: list[bytes], *, ends: bool) -> None:
        self.sent = threading.Event()
        self.reused = False
        self._pieces = pieces
        self._ends = ends

    def __call__(self, peer: Peer) -> None:
        peer.read_message()
        before = len(peer.received)
        try:
            for piece in self._pieces:
                peer.send(piece)
            if self._ends:
                peer.fin()
        except (Ended, OSError):
            pass  # it did not want to hear all of it
        self.sent.set()
        echo(peer)
        self.reused = len(peer.received) > before


def heard(client: Peer, method: bytes) -> tuple[list[int], Message | None]:
    """The interim responses, and the final one if it came whole. Raises TooLate where nothing ends."""
    interims: list[int] = []
    try:
        while True:
            message = client.read_message(bodiless=method == b"HEAD")
            if message.status >= 200:
                return interims, message
            interims.append(message.status)
    except Ended:
        return interims, None


def end_to_end(headers: RawHeaders, meant: RawHeaders) -> RawHeaders:
    """Without those of one hop, and those that the upstream named as such."""
    options = [value.split(b",") for name, value in meant if name.lower() == b"connection"]
    named = {option.strip().lower() for each in options for option in each}
    return [field for field in headers if field[0].lower() not in LEFT_OUT | named]


def assert_meant(meant: Meaning, interims: list[int], message: Message) -> None:
    assert interims == meant.interims
    status, _, reason = message.start.removeprefix(b"HTTP/1.1 ").partition(b" ")
    assert (int(status), reason, message.body) == (meant.status, meant.reason, meant.body)
    assert end_to_end(message.headers, meant.headers) == end_to_end(meant.headers, meant.headers)


def check(stage: Stage, pieces: list[bytes], method: bytes) -> None:
    sound = Sound(stage)
    own = new_token()
    pieces = filled(pieces, own)
    meant = meaning(b"".join(pieces), method)
    answer = Answer(pieces, ends=meant is None or meant.until_close)
    with stage.origin(answer, echo, deadline=PATIENCE) as origin:
        with stage.client(deadline=PATIENCE) as client:
            client.send(request(origin.at(), None if method != b"POST" else b"{}", method=method))
            interims, message = heard(client, method)
            assert set(TOKEN.findall(client.received)) <= {own}
        assert answer.sent.wait(PATIENCE)
        with stage.client(deadline=PATIENCE) as client:
            ask(client, origin.at())
    if message is None or is_refusal(message):
        assert meant is None
    else:
        assert meant is not None
        assert_meant(meant, interims, message)
    assert not answer.reused or (meant is not None and meant.keeps)
    sound.check()


def is_refusal(message: Message) -> bool:
    return message.status == 502 and message.one("content-type") == b"application/json"


METHODS = st.sampled_from((b"POST", b"POST", b"GET", b"HEAD"))


@house
@given(segments(mutations(RESPONSES, most=2)), METHODS)
def test_what_was_a_response(stage: Stage, pieces: list[bytes], method: bytes) -> None:
    check(stage, pieces, method)


@settings(house, max_examples=40)
@given(segments(st.binary(max_size=1000)), METHODS)
def test_what_never_was_one(stage: Stage, pieces: list[bytes], method: bytes) -> None:
    check(stage, pieces, method)


@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
@pytest.mark.parametrize("message", RESPONSES)
def test_what_is_one(stage: Stage, message: bytes, method: bytes) -> None:
    """What the others are made of is good."""
    assert meaning(message, method)
    check(stage, [message], method)

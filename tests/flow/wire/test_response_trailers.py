"""Trailers come down to a client that asked for them, are recorded for every one, and never become headers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flow.wire.differential import ID, Both, Run, assert_same_responses, twice
from tests.flow.wire.stage import STREAM, Stage, request
from tests.support.rawhttp import End, Ended, Peer, RawHeaders, chunked

_HEAD = STREAM.replace(b"\r\n\r\n", b"\r\nTrailer: X-Sum, x-dup\r\nA: 1\r\n\r\n")
TRAILERS: dict[str, RawHeaders] = {
    "one": [(b"X-Sum", b"1234")],
    "several": [(b"X-Sum", b"1"), (b"x-dup", b"a"), (b"UPPER", b"2"), (b"X-Dup", b"b"), (b"x-dup", b"a")],
    "odd ones": [(b"X-Empty", b""), (b"!#$%&'*+-.^_`|~", b"a  b\tc"), (b"X-Name", b"J\xfcrgen \xff")],
    "long ones": [(b"X-Long-%d" % number, b"v" * 8000) for number in range(10)],
    "names of headers": [(b"ETag", b'"x"'), (b"Server-Timing", b"db;dur=53"), (b"A", b"2")],
    "none": [],
}
ASKING = [b"TE: trailers", b"Connection: TE"]
BODY = b"onetwo"


def _asked(stage: Stage, name: str, *headers: bytes, send: Callable[[Peer, bytes], Peer] = Peer.send) -> Both:
    """The same twice on one connection each."""

    def client(peer: Peer, run: Run) -> None:
        for _ in range(2):
            assert peer.send(request(run.at(), b"{}", *headers)).read_message().body == BODY

    def origin(peer: Peer, run: Run) -> None:
        try:
            while True:
                peer.read_message()
                send(peer, _HEAD + chunked(BODY[:3], BODY[3:], trailers=TRAILERS[name]))
        except Ended:
            return

    both = twice(stage, client, origin)
    assert len(both.proxied.connections) == 1
    _assert_recorded(stage, both, TRAILERS[name])
    return both


def _assert_recorded(stage: Stage, both: Both, trailers: RawHeaders) -> None:
    expected = [(name.decode(), value.decode("latin-1")) for name, value in trailers]
    for recorded in stage.recorded(both.origin, 2):
        assert (recorded.outcome, recorded.response) == ("completed", BODY)
        came = [header for side, headers in recorded.heads if side == 2 for header in headers]
        assert came == expected
        assert [name for name, _ in recorded.headers(1)] == ["Content-Type", "Transfer-Encoding", "Trailer", "A"]


@pytest.mark.parametrize("name", TRAILERS)
def test_they_come_down_to_who_asked_for_them(stage: Stage, name: str) -> None:
    both = _asked(stage, name, *ASKING)
    assert_same_responses(both, but={b"transfer-encoding"})
    assert [each.trailers for each in both.proxied.responses] == [TRAILERS[name]] * 2
    assert [each.one("trailer") for each in both.proxied.responses] == [b"X-Sum, x-dup"] * 2


@pytest.mark.parametrize("te", [b"TE: gzip, trailers", b"te: Trailers", b"TE: deflate;q=0.5 ,trailers"])
def test_however_it_asked(stage: Stage, te: bytes) -> None:
    both = _asked(stage, "several", te, b"Connection: te")
    assert_same_responses(both, but={b"transfer-encoding"})
    assert both.proxied.responses[0].trailers == TRAILERS["several"]


@pytest.mark.parametrize("name", TRAILERS)
@pytest.mark.parametrize("asking", [[], [b"TE: gzip", b"Connection: TE"]], ids=["silent", "another TE"])
def test_who_did_not_ask_gets_none(stage: Stage, name: str, asking: list[bytes]) -> None:
    both = _asked(stage, name, *asking)
    for each in both.proxied.responses:
        assert each.trailers == []
        assert each.all("trailer") == []
        names = [name for name, _ in each.headers if name.lower() != b"transfer-encoding"]
        assert names == [b"Content-Type", b"A", ID]
        assert each.one("a") == b"1"


@pytest.mark.parametrize("asking", [[], ASKING], ids=["silent", "asking"])
def test_what_belongs_to_a_head_does_not_get_into_it(stage: Stage, asking: list[bytes]) -> None:
    """Whether it comes down is open, a recipient is to ignore it there (RFC 9110, 6.5.1); recorded it is."""
    late = [(b"Content-Type", b"text/html"), (b"Set-Cookie", b"late=1"), (b"Content-Encoding", b"gzip")]

    def origin(peer: Peer) -> None:
        peer.read_message()
        peer.send(_HEAD, chunked(BODY, trailers=late))

    with stage.origin(origin) as upstream:
        answer = stage.exchange(request(upstream.at(), b"{}", *asking))
        recorded = stage.only(upstream)
    assert answer.body == BODY
    assert answer.one("content-type") == b"text/event-stream"
    assert answer.all("set-cookie") == answer.all("content-encoding") == []
    assert set(answer.trailers) <= set(late)
    assert [name for name, _ in recorded.headers(2)] == [name.decode() for name, _ in late]
    assert "Set-Cookie" not in dict(recorded.headers(1))


@pytest.mark.parametrize("asking", [[], ASKING], ids=["silent", "asking"])
def test_they_may_be_cut_anywhere(stage: Stage, asking: list[bytes]) -> None:
    both = _asked(stage, "several", *asking, send=Peer.send_bytewise)
    assert [each.trailers for each in both.proxied.responses] == [TRAILERS["several"] if asking else []] * 2


def test_a_client_of_http_1_0_gets_none(stage: Stage) -> None:
    """It knows no chunks, and they have no other place."""

    def origin(peer: Peer) -> None:
        peer.read_message()
        peer.send(_HEAD, chunked(BODY, trailers=TRAILERS["several"]))

    with stage.origin(origin) as upstream, stage.client() as client:
        client.send(request(upstream.at(), b"{}", *ASKING).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = client.read_message()
        assert answer.body == BODY
        assert client.ended is End.FIN
        assert answer.all("trailer") == answer.all("x-sum") == []
        recorded = stage.only(upstream)
    assert [side for side, _ in recorded.heads] == [0, 1, 2]


def test_they_come_behind_the_last_byte_of_the_body(stage: Stage) -> None:
    """And that does not wait for them."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}", *ASKING)).read_until(BODY)
        run.tell("body")
        peer.read_until(b"X-Sum: 1234\r\n\r\n")

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send(_HEAD, chunked(BODY).removesuffix(b"0\r\n\r\n"))
        run.wait("body")
        peer.send(chunked(trailers=TRAILERS["one"]))

    assert_same_responses(twice(stage, client, origin), but={b"transfer-encoding"})

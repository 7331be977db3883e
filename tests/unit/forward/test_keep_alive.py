"""A silent stream gets comments, between a real client and a real server, sooner than any configuration allows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from proxy.exchange import WireEnd
from proxy.forward.altered import AlteredRecorder
from proxy.forward.keep_alive import COMMENT, KeptAlive
from proxy.forward.recorder import Recorder
from proxy.forward.signer import Signer
from proxy.journal import record
from proxy.wire.server_exchange import ServerExchange
from tests.support.rawhttp import DEADLINE, Peer, TooLate, connect, until
from tests.unit.forward.asking import (
    ASKING,
    CHUNKED,
    DONE,
    EVENTS,
    JSON,
    PLAIN,
    USAGE,
    WORD,
    Scene,
    chunk,
    post,
    scene,
    unchunked,
)
from tests.unit.forward.serving import HOST, OURS, STOCK
from tests.unit.forward.signing import Scripted
from tests.unit.forward.tape import Stage, body_of, sha

SECONDS = 0.05
OTHER = b"POST /o/v1/x HTTP/1.1\r\n"  # is never asked for usage
UNRECORDED = b"x-wiretape-record: none\r\n"
LAST = b"0\r\n\r\n"


def silent(peer: Peer) -> None:
    peer.read_message()
    peer.send(CHUNKED)
    peer.wait_hung_up()


class Steps:
    """A script that sends its parts one after another, each when it is told to."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts
        self._may = threading.Semaphore(0)

    def go(self, count: int = 1) -> None:
        self._may.release(count)

    def __call__(self, peer: Peer) -> None:
        peer.read_message()
        for part in self._parts:
            assert self._may.acquire(timeout=DEADLINE)
            peer.send(part)


@contextmanager
def ticking(here: Scene) -> Iterator[Peer]:
    """A client of another stream, which is silent and not recorded: its comments tell that time has passed. It gets the
    upstream's first script."""
    with connect(here.served.port) as client:
        yield client.send(post(PLAIN, JSON, UNRECORDED, line=OTHER))


def tick(clock: Peer, count: int = 4) -> None:
    """So many from now on: what has arrived already tells of time before."""
    while clock.has_arrived():
        clock.read_some()
    for _ in range(count):
        clock.read_until(COMMENT)


def comments(here: Scene) -> int:
    """How many are recorded."""
    return sum(each.kind == "keep_alive" for each in here.changes)


def kept(here: Scene) -> KeptAlive:
    """The client's side of the one exchange that runs and is recorded."""
    (side,) = [each._client for each in here.served.app._relays if isinstance(each._recorder, AlteredRecorder)]
    assert isinstance(side, KeptAlive)
    return side


def stays_paused(side: KeptAlive) -> bool:
    """Whether no room is left for it, in no buffer of the kernel's."""
    if side._paused:
        with suppress(TooLate):
            until(lambda: not side._paused, "it can be written to", 0.5)
    return side._paused


@pytest.mark.parametrize("server", [*STOCK, OURS])
def test_a_silent_stream_gets_comments(stage: Stage, server: str) -> None:
    upstream = Steps(CHUNKED, chunk(WORD[:9]), chunk(WORD[9:]), chunk(DONE) + LAST)
    with scene(stage, upstream, keep_alive=SECONDS, server=server) as here:
        upstream.go()
        came = here.client.send(post(PLAIN, line=OTHER)).read_until(COMMENT)
        upstream.go(2)
        came += here.client.read_until(WORD[-9:])
        came += here.client.read_until(COMMENT) + here.client.read_until(COMMENT)
        upstream.go()
        came += here.client.read_until(b"\r\n" + LAST)
        body = unchunked(came.partition(b"\r\n\r\n")[2])
        assert body.replace(COMMENT, b"") == WORD + DONE
        assert comments(here) == body.count(COMMENT) >= 3
        assert {each.at for each in here.changes} == {0, len(WORD)}
        here.holds(PLAIN, body)
        end = here.end()
        assert (end.response_bytes, end.wire_end) == (len(WORD + DONE), WireEnd.UPSTREAM_END)
        assert body_of(stage.records()) == WORD + DONE


def test_a_stream_of_comments_alone(stage: Stage) -> None:
    upstream = Steps(CHUNKED, LAST)
    with scene(stage, upstream, keep_alive=SECONDS) as here:
        upstream.go()
        came = here.client.send(post(PLAIN, line=OTHER)).read_until(COMMENT)
        upstream.go()
        came += here.client.read_until(b"\r\n" + LAST)
        body = unchunked(came.partition(b"\r\n\r\n")[2])
        here.holds(PLAIN, body)
        assert here.end().response_chunks == 0


@pytest.mark.parametrize("begun", [b"", CHUNKED + chunk(b"data: a\n"), CHUNKED + chunk(b"data: a\r\n\r")])
def test_no_comment_within_an_event_nor_before_the_head(stage: Stage, begun: bytes) -> None:
    upstream = Steps(begun, chunk(b"\n") + LAST if begun else CHUNKED + LAST)
    with scene(stage, silent, upstream, keep_alive=SECONDS) as here, ticking(here) as clock:
        tick(clock, 1)
        upstream.go()
        here.client.send(post(PLAIN, line=OTHER))
        if begun:
            here.client.read_until(b"data: a")
        tick(clock)
        assert comments(here) == 0
        upstream.go()
        here.client.read_until(LAST)
        tick(clock)  # nor behind the end
        assert comments(here) == 0
        assert not here.client.has_arrived()


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", LAST),
        (EVENTS + b"Content-Length: 2\r\n\r\n", b"\n\n"),
    ],
)
def test_other_responses_get_none(stage: Stage, head: bytes, rest: bytes) -> None:
    upstream = Steps(head, rest)
    with scene(stage, silent, upstream, keep_alive=SECONDS) as here, ticking(here) as clock:
        tick(clock, 1)
        upstream.go()
        here.client.send(post(PLAIN, line=OTHER)).read_until(b"\r\n\r\n")
        tick(clock)
        assert not here.client.has_arrived()
        upstream.go()
        assert here.client.read_until(rest) == rest
        assert (here.end().response_out_hash, here.changes) == (None, [])


def test_a_client_that_does_not_read_gets_none_until_it_does(stage: Stage) -> None:
    full, may, sent = threading.Event(), threading.Event(), [0]

    def flood(peer: Peer) -> None:
        """No more than it takes until the client's side is full."""
        peer.read_message()
        peer.send(EVENTS + b"\r\n")  # until the connection ends
        side = kept(here)
        while not stays_paused(side):
            peer.send(b"\n" * 65536)  # every byte of it is a boundary
            sent[0] += 65536
            until(lambda: side._paused or (side._stream is not None and side._stream.passed == sent[0]), "it passed")
        full.set()
        may.wait(DEADLINE)

    with scene(stage, silent, flood, keep_alive=SECONDS) as here, ticking(here) as clock:
        tick(clock, 1)
        here.client.send(post(PLAIN, line=OTHER))
        assert full.wait(DEADLINE)
        before = comments(here)
        tick(clock)
        assert comments(here) == before
        came = here.client.read_until(b"\r\n\r\n")[:0]
        while came.count(COMMENT) <= before:
            came += here.client.read_until(COMMENT)
        may.set()
        body = unchunked(came + here.client.read_until(b"\r\n" + LAST))
        assert body.count(b"\n") == sent[0] + 2 * comments(here)
        here.holds(PLAIN, body)


def test_a_client_that_left_gets_none(stage: Stage) -> None:
    upstream = Steps(CHUNKED + chunk(WORD), chunk(DONE) + LAST)
    with scene(stage, silent, upstream, keep_alive=SECONDS, drain=True) as here, ticking(here) as clock:
        tick(clock, 1)
        upstream.go()
        here.client.send(post(PLAIN, line=OTHER)).read_until(COMMENT)
        here.client.rst()
        until(lambda: any(relay._left for relay in here.served.app._relays), "that is noticed")
        before = comments(here)
        tick(clock)
        upstream.go()
        end = here.end()
        assert (end.wire_end, end.response_hash) == (WireEnd.CLIENT_LEFT, sha(WORD + DONE))
        assert comments(here) == before >= 1
        assert end.response_out_hash == sha(WORD + before * COMMENT)


def test_no_comment_that_cannot_be_recorded(stage: Stage) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(CHUNKED + chunk(WORD))
        peer.wait_hung_up()

    with scene(stage, script, keep_alive=SECONDS) as here:
        came = here.client.send(post(PLAIN, line=OTHER)).read_until(chunk(COMMENT))
        with stage.failing():
            came += here.client.read_to_end()
        assert LAST not in came
        here.served.do(stage.recording.settle)
        end = here.end()
        body = unchunked(came.partition(b"\r\n\r\n")[2])
        assert body == WORD + body.count(COMMENT) * COMMENT
        assert (end.wire_end, end.response_out_hash) == (WireEnd.JOURNAL_ERROR, sha(body))


def test_comments_go_on_where_that_is_wanted_though_they_cannot_be_recorded(tmp_path: Path) -> None:
    upstream = Steps(CHUNKED + chunk(WORD), chunk(DONE) + LAST)
    stage = Stage(tmp_path, on_failure="pass")
    with closing(stage.journal), scene(stage, upstream, keep_alive=SECONDS) as here:
        upstream.go()
        came = here.client.send(post(PLAIN, line=OTHER)).read_until(chunk(WORD))
        with stage.failing():
            came += here.client.read_until(COMMENT) + here.client.read_until(COMMENT)
            upstream.go()
            came += here.client.read_until(b"\r\n" + LAST)
        here.served.do(stage.recording.settle)
        body = unchunked(came.partition(b"\r\n\r\n")[2])
        assert here.end().response_out_hash == sha(body)
        assert comments(here) == body.count(COMMENT) >= 2


def commented(here: Scene, upstream: Steps) -> bytes:
    """The body of a response whose first half is followed by a comment."""
    upstream.go()
    came = here.client.send(post(PLAIN, line=OTHER)).read_until(COMMENT)
    upstream.go()
    came += here.client.read_until(b"\r\n" + LAST)
    body = unchunked(came.partition(b"\r\n\r\n")[2])
    assert body.replace(COMMENT, b"") == WORD + DONE
    return body


@pytest.mark.parametrize("record", ["meta", "none"])
def test_whatever_is_recorded(stage: Stage, record: str) -> None:
    upstream = Steps(CHUNKED + chunk(WORD), chunk(DONE) + LAST)
    with scene(stage, upstream, keep_alive=SECONDS, record=record) as here:
        body = commented(here, upstream)
        if record == "meta":
            here.holds(PLAIN, body)
        else:
            assert stage.records() == []


@pytest.mark.parametrize("held", [USAGE, USAGE[:40], b'data: {"id":"c"'])
def test_a_stream_of_which_something_is_held_back(stage: Stage, held: bytes) -> None:
    """What is held has not passed: a comment may stand before it."""
    rest = USAGE[len(held) :] if USAGE.startswith(held) else WORD[len(held) :]
    upstream = Steps(CHUNKED + chunk(WORD + held), chunk(rest + DONE) if rest else chunk(DONE), chunk(WORD) + LAST)
    with scene(stage, upstream, keep_alive=SECONDS) as here:
        upstream.go()
        came = here.client.send(post(PLAIN)).read_until(COMMENT) + here.client.read_until(COMMENT)
        upstream.go()
        came += here.client.read_until(DONE) + here.client.read_until(COMMENT)
        upstream.go()
        came += here.client.read_until(b"\r\n" + LAST)
        body = unchunked(came.partition(b"\r\n\r\n")[2])
        between = b"" if USAGE.startswith(held) else WORD
        assert body.replace(COMMENT, b"") == WORD + between + DONE + WORD
        assert body.startswith(WORD + COMMENT)
        here.holds(ASKING, body)
        assert comments(here) == body.count(COMMENT)


def test_an_upstream_that_refuses_to_be_asked(stage: Stage) -> None:
    """Then the request goes again as it came, and the stream passes as it comes."""
    refusal = b"stream_options"
    first = Steps(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(refusal), refusal))
    again = Steps(CHUNKED + chunk(WORD), chunk(USAGE + DONE) + LAST)
    with scene(stage, first, again, keep_alive=SECONDS) as here:
        first.go()
        again.go()
        came = here.client.send(post(PLAIN)).read_until(COMMENT)
        again.go()
        came += here.client.read_until(b"\r\n" + LAST)
        here.holds(PLAIN, unchunked(came.partition(b"\r\n\r\n")[2]))
        assert not here.wish.on


@pytest.mark.parametrize("record", ["all", "none"])
def test_where_requests_are_signed(stage: Stage, record: str) -> None:
    upstream = Steps(CHUNKED + chunk(WORD), chunk(DONE) + LAST)
    key = Signer(Scripted())
    with scene(stage, upstream, key=key, keep_alive=SECONDS, record=record, limit=len(PLAIN)) as here:
        body = commented(here, upstream)
        if record == "all":
            here.holds(PLAIN, body)
        assert here.ask(PLAIN + b" ", line=OTHER).status == 413


@pytest.mark.parametrize("way", ["complete", "broken", "left", "stopped"])
def test_no_timer_outlives_its_exchange(stage: Stage, way: str) -> None:
    upstream = Steps(CHUNKED + chunk(WORD), LAST if way == "complete" else b"")
    with scene(stage, upstream, keep_alive=SECONDS) as here:
        upstream.go()
        here.client.send(post(PLAIN, line=OTHER)).read_until(COMMENT)
        side = kept(here)
        if way == "left":
            here.client.rst()
        elif way == "stopped":
            here.served.do(here.served.app.stop)
        else:
            upstream.go()
        here.end()
        here.served.do(lambda: None)  # what it ends with is done
        assert (side._alarm, side._stream, side._relay) == (None, None, None)
        upstream.go()


def test_where_it_is_off_nothing_is_there_of_it(stage: Stage) -> None:
    upstream = Steps(CHUNKED + chunk(WORD), LAST)
    with scene(stage, upstream) as here:
        upstream.go()
        here.client.send(post(PLAIN, line=OTHER)).read_until(WORD)
        (relay,) = here.served.app._relays
        assert (type(relay._client), type(relay._recorder)) == (ServerExchange, Recorder)
        upstream.go()
        here.client.read_until(LAST)


def test_a_tunnel_whose_upstream_says_its_last_first(stage: Stage) -> None:
    """It is no stream, and its client may go on."""
    heard = []

    def script(peer: Peer) -> None:
        peer.read_until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbye").fin()
        heard.append(peer.read_to_end())

    with scene(stage, script, keep_alive=SECONDS) as here:
        here.client.send(b"GET /o/v1/live HTTP/1.1\r\n%bConnection: upgrade\r\nUpgrade: x\r\n\r\n" % HOST)
        assert here.client.read_to_end().endswith(b"\r\n\r\nbye")
        here.client.send(b"and ").send(b"on").fin()
        assert here.end().wire_end == WireEnd.UPSTREAM_END
        assert body_of(stage.records(), record.REQUEST_CHUNK) == b"and on"
        until(lambda: heard == [b"and on"], "the upstream to hear it")

"""Requests that are made to ask for their stream's usage, over real sockets: what each side gets, what is recorded."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from proxy.exchange import Change, End, RequestHead, ResponseHead, Side, WireEnd, as_passed
from proxy.forward.app import App
from proxy.forward.policy import Policy, Rules
from proxy.forward.redact import Redactor
from proxy.forward.routes import Wish
from proxy.journal import record
from tests.support.rawhttp import DEADLINE, Ended, Message, Peer, RawUpstream, Script, connect, until
from tests.unit.forward.serving import HOST, OURS, Served, destination, serving
from tests.unit.forward.tape import Stage, body_of, decoded, sha

PLAIN = b'{"model": "m", "stream": true, "messages": []}'
ASKING = b'{"model": "m", "stream": true, "messages": [], "stream_options": {"include_usage":true}}'
JSON = b"Content-Type: application/json\r\n"
CHAT = b"POST /o/v1/chat/completions HTTP/1.1\r\n"

WORD = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = WORD + WORD + USAGE + DONE
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = EVENTS + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSAL = b'{"error":{"message":"Unrecognized request argument supplied: stream_options","key":"sk-%b"}}' % (b"x" * 40)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(body: bytes, head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n") -> bytes:
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


STREAMED = CHUNKED + chunk(STREAM) + b"0\r\n\r\n"


class Answers:
    """A script that answers requests one after another, the last answer again and again; it keeps the requests."""

    def __init__(self, *answers: bytes) -> None:
        self.requests: list[Message] = []
        self._answers = list(answers)

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                self.requests.append(peer.read_message())
                peer.send(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
        except Ended:
            return


class Scene:
    """A client, the data port and an upstream that is to be asked."""

    def __init__(self, stage: Stage, served: Served, client: Peer, upstream: RawUpstream, wish: Wish) -> None:
        self.stage, self.served, self.client, self.upstream, self.wish = stage, served, client, upstream, wish

    def ask(self, body: bytes = PLAIN, *headers: bytes, line: bytes = CHAT) -> Message:
        return self.client.send(post(body, *headers, line=line)).read_message()

    def end(self) -> End:
        return self.served.ends()[-1]

    @property
    def changes(self) -> list[Change]:
        return decoded(self.stage.records(), record.CHANGE, Change)

    def holds(self, requested: bytes, answered: bytes) -> None:
        """The records tell what the upstream got, and what the client."""
        end, tape, changes = self.end(), self.stage.records(), self.changes
        sides = (
            (Side.REQUEST, record.REQUEST_CHUNK, requested, end.request_hash, end.request_out_hash),
            (Side.RESPONSE, record.RESPONSE_CHUNK, answered, end.response_hash, end.response_out_hash),
        )
        for side, kind, passed, came_hash, out_hash in sides:
            came = body_of(tape, kind)
            assert as_passed(came, changes, side) == passed
            assert came_hash == sha(came)
            assert out_hash == (None if came == passed else sha(passed))


def post(body: bytes, *headers: bytes, line: bytes = CHAT) -> bytes:
    lines = b"".join(headers) or JSON
    length = b"" if b"chunked" in lines else b"Content-Length: %d\r\n" % len(body)
    return b"%b%b%b%b\r\n%b" % (line, HOST, lines, length, body)


@contextmanager
def scene(
    stage: Stage,
    *scripts: Script,
    drain: bool = False,
    limit: int = 2**20,
    record: str = "all",
    expose_id: bool = False,
) -> Iterator[Scene]:
    wish = Wish()
    policy = Policy(Rules(expose_id, None, limit), record_bodies=True, strip_attribution=False, templates={})
    with RawUpstream(*scripts) as upstream:
        asked = replace(destination(upstream.port, drain=drain, record=record), usage=wish)
        app = App({b"o": asked}, stage.recording, Redactor(b"k" * 32), policy, lambda: None)
        with serving(app, stage, OURS) as served, connect(served.port) as client:
            yield Scene(stage, served, client, upstream, wish)


def test_a_stream_is_asked_and_its_client_does_not_know(stage: Stage) -> None:
    upstream = Answers(STREAMED)
    with scene(stage, upstream) as here:
        got = here.ask(PLAIN, JSON, b"Accept-Encoding: gzip, br\r\nX-A: 1\r\naccept-encoding: zstd\r\n")
        assert got.body == WORD + WORD + DONE
        here.holds(ASKING, WORD + WORD + DONE)
        assert here.ask().body == WORD + WORD + DONE  # on the same connections
        assert here.served.ends(2)[1].wire_end == WireEnd.UPSTREAM_END
        assert len(here.upstream.peers) == 1
    (first, second) = upstream.requests
    assert (first.body, first.one("content-length")) == (ASKING, b"%d" % len(ASKING))
    assert first.headers[1:] == [
        (b"Content-Type", b"application/json"),
        (b"Accept-Encoding", b"identity"),
        (b"X-A", b"1"),
        (b"Content-Length", b"%d" % len(ASKING)),
    ]
    assert second.one("accept-encoding") == b"identity"
    asked, withheld = here.changes[:2]
    assert (asked.kind, asked.side, PLAIN[: asked.at] + asked.put.encode() + PLAIN[asked.at :]) == (
        "usage_asked",
        0,
        ASKING,
    )
    assert asked.headers == [("accept-encoding", "identity"), ("content-length", str(len(ASKING)))]
    assert (withheld.kind, withheld.side, withheld.at, withheld.taken) == (
        "usage_withheld",
        1,
        2 * len(WORD),
        len(USAGE),
    )
    head = decoded(stage.records(), record.REQUEST_HEAD, RequestHead)[0]
    assert ("Content-Length", str(len(PLAIN))) in head.headers, "what the client sent is what is recorded"


@pytest.mark.parametrize("size", [1, 7, len(WORD) - 1, len(WORD) + 1, 2 * len(WORD) + 20])
def test_however_the_upstream_cuts_its_stream(stage: Stage, size: int) -> None:
    pieces = [chunk(STREAM[at : at + size]) for at in range(0, len(STREAM), size)]

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(CHUNKED)
        for piece in pieces:
            peer.send(piece)
        peer.send(b"0\r\n\r\n")

    with scene(stage, script) as here:
        assert here.ask().body == WORD + WORD + DONE
        here.holds(ASKING, WORD + WORD + DONE)


@pytest.mark.parametrize(
    ("came", "passes"),
    [
        (USAGE + WORD + DONE, WORD + DONE),
        (WORD + DONE, WORD + DONE),
        (WORD + USAGE, WORD),
        (WORD + USAGE[:-2], WORD),
        (WORD + USAGE[:-9], WORD + USAGE[:-9]),
        (USAGE, b""),
        (USAGE + USAGE + DONE, DONE),
        (b"", b""),
        (b": ping\r\n\r\n" + USAGE.replace(b"\n", b"\r\n") + DONE, b": ping\r\n\r\n" + DONE),
    ],
)
def test_wherever_the_usage_stands(stage: Stage, came: bytes, passes: bytes) -> None:
    with scene(stage, Answers(CHUNKED + (chunk(came) if came else b"") + b"0\r\n\r\n")) as here:
        assert here.ask().body == passes
        here.holds(ASKING, passes)


def test_nothing_else_is_held_back(stage: Stage) -> None:
    arrived = threading.Semaphore(0)
    pieces = [WORD, WORD[:60], WORD[60:], b": ping\n\n", USAGE[:30], USAGE[30:] + DONE[:9], DONE[9:]]
    passes = [WORD, WORD[:60], WORD[60:], b": ping\n\n", b"", DONE[:9], DONE[9:]]

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(CHUNKED)
        for piece, passing in zip(pieces, passes, strict=True):
            peer.send(chunk(piece))
            if passing:
                assert arrived.acquire(timeout=DEADLINE), "the client never got it"
        peer.send(b"0\r\n\r\n")

    with scene(stage, script) as here:
        here.client.send(post(PLAIN)).read_until(b"\r\n\r\n")
        for passing in filter(None, passes):
            assert here.client.read_until(b"\r\n") == b"%x\r\n" % len(passing)
            assert here.client.read_exactly(len(passing) + 2) == passing + b"\r\n"
            arrived.release()
        assert here.client.read_exactly(5) == b"0\r\n\r\n"
        here.holds(ASKING, b"".join(passes))


def test_a_stream_with_a_length_is_framed_anew(stage: Stage) -> None:
    head = EVENTS + b"Digest: sha-256=abc\r\nX-A: 1\r\nContent-Length: %d\r\n\r\n" % len(STREAM)
    with scene(stage, Answers(head + STREAM), expose_id=True) as here:
        got = here.ask()
        assert (got.body, got.one("transfer-encoding")) == (WORD + WORD + DONE, b"chunked")
        assert got.one("content-length") is got.one("digest") is None
        assert got.one("x-a") == b"1"
        assert here.ask().body == WORD + WORD + DONE
        removed, added = [each for each in here.changes if each.kind.startswith("response_header")][:2]
    assert removed.headers == [("Digest", "sha-256=abc"), ("Content-Length", str(len(STREAM)))]
    assert added.kind == "response_header_added"


def test_a_client_of_http_1_0(stage: Stage) -> None:
    with scene(stage, Answers(STREAMED)) as here:
        line = CHAT.replace(b"1.1", b"1.0")
        head, _, body = here.client.send(post(PLAIN, line=line)).read_to_end().partition(b"\r\n\r\n")
        assert b"ransfer-" not in head
        assert body == WORD + WORD + DONE
        here.holds(ASKING, WORD + WORD + DONE)


def test_a_request_in_pieces_stays_in_chunks(stage: Stage) -> None:
    upstream = Answers(STREAMED)
    with scene(stage, upstream) as here:
        head = post(b"", JSON, b"Transfer-Encoding: chunked\r\n")
        here.client.send(head, chunk(PLAIN[:20]))
        until(lambda: body_of(stage.records(), record.REQUEST_CHUNK) == PLAIN[:20], "its beginning is recorded")
        assert not here.upstream.peers, "it is held until it is whole"
        here.client.send(chunk(PLAIN[20:]), b"0\r\nT: v\r\n\r\n")
        assert here.client.read_message().body == WORD + WORD + DONE
        here.holds(ASKING, WORD + WORD + DONE)
    (request,) = upstream.requests
    assert (request.body, request.trailers) == (ASKING, [(b"T", b"v")])
    assert request.chunks is not None


def test_a_client_that_waits_to_be_told_to_go_on(stage: Stage) -> None:
    with scene(stage, Answers(STREAMED)) as here:
        here.client.send(CHAT, HOST, JSON, b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(PLAIN))
        assert here.client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert here.client.send(PLAIN).read_message().body == WORD + WORD + DONE
        assert (here.changes[0].kind, here.changes[0].status) == ("own_interim", 100)


GZIP = JSON + b"Content-Encoding: gzip\r\n"


@pytest.mark.parametrize(
    ("body", "headers", "line"),
    [
        (b'{"stream": false}', JSON, CHAT),
        (b'{"stream": true, "stream_options": {"include_usage": true}}', JSON, CHAT),
        (b'{"stream": true', JSON, CHAT),
        (b'{"stream": true, "stream": true}', JSON, CHAT),
        (b"", JSON, CHAT),
        (PLAIN, GZIP, CHAT),
        (PLAIN, b"Content-Type: text/plain\r\n", CHAT),
        (PLAIN, b"X-A: 1\r\n", CHAT),
        (PLAIN, JSON + b"Content-MD5: x\r\n", CHAT),
        (PLAIN, JSON, CHAT.replace(b"/chat/completions", b"/responses")),
        (PLAIN, JSON, CHAT.replace(b"completions", b"completions/c")),
        (PLAIN, JSON, CHAT.replace(b"POST", b"PUT")),
        (PLAIN, JSON + b"x-wiretape-record: none\r\n", CHAT),
    ],
)
def test_what_is_left_alone(stage: Stage, body: bytes, headers: bytes, line: bytes) -> None:
    upstream = Answers(STREAMED)
    with scene(stage, upstream) as here:
        got = here.ask(body, headers, b"Accept-Encoding: gzip\r\n", line=line)
        assert (got.body, got.one("transfer-encoding")) == (STREAM, b"chunked")
        until(lambda: here.served.app.active == 0, "it is over")
        assert here.changes == []
    (request,) = upstream.requests
    assert (request.body, request.one("accept-encoding")) == (body, b"gzip")


@pytest.mark.parametrize("target", [b"/v1/completions", b"/openai/deployments/x/chat/completions?api-version=1"])
def test_other_paths_that_are_asked(stage: Stage, target: bytes) -> None:
    upstream = Answers(STREAMED)
    with scene(stage, upstream) as here:
        assert here.ask(line=b"POST /o%b HTTP/1.1\r\n" % target).body == WORD + WORD + DONE
    assert (upstream.requests[0].target, upstream.requests[0].body) == (target, ASKING)


@pytest.mark.parametrize(
    "response",
    [
        answer(USAGE),
        answer(b'{"error":{}}', b"HTTP/1.1 429 Slow Down\r\nContent-Type: application/json\r\n"),
        answer(USAGE, EVENTS + b"Content-Encoding: gzip\r\n"),
        answer(b"", EVENTS.replace(b"200 OK", b"500 No")),
        answer(b'{"error":{"message":"max_tokens"}}', b"HTTP/1.1 400 Bad\r\nX-A: 1\r\n"),
        answer(b"stream_options " + b"x" * 70_000, b"HTTP/1.1 400 Bad\r\n"),
        b"HTTP/1.1 204 None\r\n\r\n",
        b"HTTP/1.1 422 Bad\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: v\r\n\r\n",
    ],
)
def test_other_responses_pass_as_they_came(stage: Stage, response: bytes) -> None:
    with scene(stage, Answers(response)) as here:
        head, _, _ = response.partition(b"\r\n\r\n")
        got = here.client.send(post(PLAIN)).read_message(bodiless=b" 204 " in head)
        assert b"\r\n".join([got.start, *[b"%b: %b" % header for header in got.headers]]) == head
        here.holds(ASKING, got.body)
        assert [each.kind for each in here.changes] == ["usage_asked"]
        assert here.wish.on


@pytest.mark.parametrize("length", [True, False])
def test_a_refusal_is_not_for_the_client(stage: Stage, length: bool, caplog: pytest.LogCaptureFixture) -> None:
    head = b"HTTP/1.1 400 Bad Request\r\nX-Request-Id: r\r\nSet-Cookie: s=secret-cookie\r\n"
    refusal = (
        answer(REFUSAL, head)
        if length
        else head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(REFUSAL) + b"0\r\n\r\n"
    )
    upstream = Answers(refusal, CHUNKED + chunk(WORD + DONE) + b"0\r\n\r\n")
    with scene(stage, upstream) as here, caplog.at_level(logging.WARNING, "forward"):
        got = here.ask(PLAIN, JSON, b"Accept-Encoding: gzip\r\n")
        assert (got.status, got.body) == (200, WORD + DONE)
        here.holds(PLAIN, WORD + DONE)
        assert [each.kind for each in here.changes] == ["usage_asked", "usage_refused"]
        assert here.ask().body == WORD + DONE
        assert not here.wish.on
        assert len(here.upstream.peers) == 1
    first, again, later = upstream.requests
    assert [each.body for each in upstream.requests] == [ASKING, PLAIN, PLAIN]
    assert first.headers != again.headers
    assert (again.one("content-length"), again.one("accept-encoding")) == (b"%d" % len(PLAIN), b"gzip")
    assert later.one("accept-encoding") is None
    (said,) = caplog.messages
    assert said.startswith("o refuses stream_options with status 400")
    refused = here.changes[1]
    assert (refused.status, refused.body) == (400, REFUSAL.decode().replace("sk-" + 40 * "x", "sk-xxx" + 37 * "*"))
    assert ("X-Request-Id", "r") in refused.headers
    assert "secret-cookie" not in json.dumps(refused.headers)
    assert [each.status for each in decoded(stage.records(), record.RESPONSE_HEAD, ResponseHead)] == [200, 200]


def test_what_answers_the_second_time_is_for_the_client(stage: Stage) -> None:
    refusal = answer(REFUSAL, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")
    with scene(stage, Answers(refusal)) as here:
        got = here.ask()
        assert (got.status, got.body) == (400, REFUSAL)
        assert len(here.upstream.peers) == 2
        assert here.end().wire_end == WireEnd.UPSTREAM_END


@pytest.mark.parametrize("sent", [WORD, WORD + USAGE[:40], WORD + USAGE[:40] + USAGE[40:-1], WORD[:70]])
def test_an_upstream_that_breaks_off(stage: Stage, sent: bytes) -> None:
    passes = sent if b'prompt_tokens":3,' not in sent else WORD

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(CHUNKED, chunk(sent))
        peer.fin()

    with scene(stage, script) as here:
        here.client.send(post(PLAIN)).read_until(b"\r\n\r\n")
        came = here.client.read_to_end()
        assert b"0\r\n\r\n" not in came
        assert unchunked(came) == passes
        here.holds(ASKING, passes)
        assert here.end().wire_end == WireEnd.UPSTREAM_ERROR


def unchunked(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        found, data = found + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return found


def test_an_upstream_that_breaks_off_amid_a_refusal(stage: Stage) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nstream_options")
        peer.fin()

    with scene(stage, script) as here:
        assert here.client.send(post(PLAIN)).read_to_end().endswith(b"\r\n\r\nstream_options")
        here.holds(ASKING, b"stream_options")
        assert here.end().wire_end == WireEnd.UPSTREAM_ERROR


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize(
    "begun", [CHUNKED + chunk(WORD + USAGE[:30]), b"HTTP/1.1 400 B\r\nContent-Length: 9\r\n\r\nstre"]
)
def test_a_client_that_leaves(stage: Stage, drain: bool, begun: bytes) -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(begun)
        gone.wait(DEADLINE)
        if drain:
            peer.send(b"am_op" if b"400" in begun else chunk(USAGE[30:] + DONE) + b"0\r\n\r\n")
        else:
            peer.wait_hung_up()

    with scene(stage, script, drain=drain) as here:
        here.client.send(post(PLAIN))
        if b"400" in begun:
            until(lambda: bool(here.upstream.peers) and here.changes != [], "it was asked")
        else:
            here.client.read_until(WORD)
        here.client.rst()
        until(lambda: here.served.app.active == 0 or drain, "it is over")
        gone.set()
        end = here.end()
        assert end.wire_end == WireEnd.CLIENT_LEFT
        came = body_of(stage.records())
        if drain:
            assert came in (WORD + USAGE + DONE, b"stream_op")
        assert end.response_hash == sha(came)
        passed = b"" if b"400" in begun else WORD
        assert (end.response_out_hash or end.response_hash) == sha(passed)
        assert here.wish.on


def test_a_client_that_leaves_its_request_unfinished(stage: Stage) -> None:
    with scene(stage, Answers(STREAMED)) as here:
        here.client.send(post(PLAIN)[:-5])
        until(lambda: body_of(stage.records(), record.REQUEST_CHUNK) == PLAIN[:-5], "it is recorded")
        here.client.fin()
        end = here.end()
        assert not here.upstream.peers
        assert end.request_out_hash == sha(b"")


def test_a_longer_request_is_refused(stage: Stage) -> None:
    with scene(stage, Answers(STREAMED), limit=len(PLAIN)) as here:
        assert here.ask(PLAIN).status == 200
        got = here.ask(PLAIN + b" ")
        assert got.status == 413
        assert b"forward.transform_limit (%d bytes)" % len(PLAIN) in got.body
        assert here.served.app.turned_away == {"request_too_large": 1}
        assert here.ask(PLAIN + b" ", line=CHAT.replace(b"chat/completions", b"responses")).status == 200
    with scene(stage, Answers(STREAMED), limit=len(PLAIN)) as here:
        got = here.client.send(
            post(b"", JSON, b"Transfer-Encoding: chunked\r\n"), chunk(PLAIN), chunk(b" ")
        ).read_message()
        assert got.status == 413
        assert here.end().wire_end == WireEnd.REFUSED
        assert not here.upstream.peers


def test_what_cannot_be_recorded_does_not_pass(stage: Stage) -> None:
    sent = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(CHUNKED, chunk(WORD))
        sent.wait(DEADLINE)
        peer.send(chunk(WORD + USAGE))
        peer.wait_hung_up()

    with scene(stage, script) as here:
        here.client.send(post(PLAIN)).read_until(WORD + b"\r\n")
        with stage.failing():
            sent.set()
            assert here.client.read_to_end() == b""
        here.served.do(stage.recording.settle)
        end = here.end()
        assert end.wire_end == WireEnd.JOURNAL_ERROR
        assert end.response_out_hash == sha(WORD)


def test_a_stop_while_a_refusal_may_come(stage: Stage) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nx")
        peer.wait_hung_up()

    with scene(stage, script) as here:
        here.client.send(post(PLAIN))
        until(lambda: here.changes != [], "it is asked")
        here.served.do(here.served.app.stop)
        assert here.client.read_message().status == 500
        assert here.end().response_out_hash in (None, sha(b""))

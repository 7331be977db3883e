"""Requests that are made to ask for their stream's usage, over real sockets: what each side gets, what is recorded."""

from __future__ import annotations

import threading

import pytest

from proxy.exchange import RequestHead, WireEnd
from proxy.journal import record
from tests.support.rawhttp import DEADLINE, Peer, until
from tests.unit.forward.asking import (
    ASKING,
    CHAT,
    CHUNKED,
    DONE,
    EVENTS,
    JSON,
    PLAIN,
    STREAM,
    STREAMED,
    USAGE,
    WORD,
    Answers,
    answer,
    chunk,
    post,
    scene,
)
from tests.unit.forward.serving import HOST, STOCK
from tests.unit.forward.tape import Stage, body_of, decoded


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


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("server", STOCK)
def test_behind_another_server(stage: Stage, server: str) -> None:
    with scene(stage, Answers(answer(STREAM, EVENTS)), server=server) as here:
        assert here.ask().body == WORD + WORD + DONE
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

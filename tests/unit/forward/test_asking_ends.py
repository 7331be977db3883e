"""Requests that are made to ask for their stream's usage, where that goes wrong: refusals, breaks, leaving, limits."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import closing
from pathlib import Path

import pytest

from proxy.exchange import ResponseHead, WireEnd
from proxy.journal import record
from tests.support.rawhttp import DEADLINE, Peer, until
from tests.unit.forward.asking import (
    ASKING,
    CHAT,
    CHUNKED,
    DONE,
    JSON,
    PLAIN,
    REFUSAL,
    STREAM,
    STREAMED,
    USAGE,
    WORD,
    Answers,
    answer,
    chunk,
    post,
    scene,
    unchunked,
)
from tests.unit.forward.tape import Stage, body_of, decoded, sha


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
        assert len(here.upstream.peers) == 2
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


@pytest.mark.parametrize(("wanted", "max_body", "kept"), [("meta", None, None), ("all", 9, REFUSAL[:9].decode())])
def test_how_much_of_a_refusal_is_recorded(tmp_path: Path, wanted: str, max_body: int | None, kept: str | None) -> None:
    stage = Stage(tmp_path, max_body=max_body)
    refusal = answer(REFUSAL, b"HTTP/1.1 400 Bad Request\r\n")
    with closing(stage.journal), scene(stage, Answers(refusal, STREAMED), record=wanted) as here:
        assert here.ask().body == STREAM
        assert here.end().masked
        assert here.changes[1].body == kept


def test_a_stream_passes_on_where_that_is_wanted_though_it_cannot_be_recorded(tmp_path: Path) -> None:
    stage, sent = Stage(tmp_path, on_failure="pass"), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(CHUNKED, chunk(WORD))
        sent.wait(DEADLINE)
        peer.send(chunk(WORD + USAGE), chunk(DONE), b"0\r\n\r\n")

    with closing(stage.journal), scene(stage, script) as here:
        here.client.send(post(PLAIN)).read_until(WORD + b"\r\n")
        with stage.failing():
            sent.set()
            assert unchunked(here.client.read_until(b"0\r\n\r\n")) == WORD + DONE
        here.served.do(stage.recording.settle)
        end = here.end()
        assert (end.response_hash, end.response_out_hash) == (sha(STREAM), sha(WORD + WORD + DONE))


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
    sent, gone = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(begun)
        sent.set()
        gone.wait(DEADLINE)
        if drain:
            peer.send(b"am_op" if b"400" in begun else chunk(USAGE[30:] + DONE) + b"0\r\n\r\n")
        else:
            peer.wait_hung_up()

    with scene(stage, script, drain=drain) as here:
        here.client.send(post(PLAIN))
        if b"400" in begun:
            assert sent.wait(DEADLINE)
        else:
            here.client.read_until(WORD)
        here.client.rst()
        until(lambda: all(relay._left for relay in here.served.app._relays), "that is noticed")
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
    sent = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nx")
        sent.set()
        peer.wait_hung_up()

    with scene(stage, script) as here:
        here.client.send(post(PLAIN))
        assert sent.wait(DEADLINE)
        here.served.do(here.served.app.stop)
        assert here.client.read_message().status == 500
        assert here.end().response_out_hash in (None, sha(b""))

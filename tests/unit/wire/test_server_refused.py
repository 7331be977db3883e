"""Requests that cannot be taken: each gets one answer that says why, and the connection comes to its end."""

from __future__ import annotations

import re

import pytest

from proxy.wire.limits import Limits
from tests.support.rawhttp import DEADLINE, End, Ended, Peer, connect
from tests.unit.wire.serving import App, Hearing, Serve, Wired, WiredInATask, answer

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def ask(port: int, *data: bytes) -> tuple[bytes, Peer]:
    """All that comes back until the server ends, and the connection it came by."""
    with connect(port) as client:
        try:
            client.send(*data)
        except Ended:
            pass  # it may be refused while it is being sent
        return client.read_to_end(), client


# What is no request

BAD = {
    "tls": b"\x16\x03\x01\x02\x00\x01",
    "binary": b"\x00\x01\x02",
    "a blank": b" GET / HTTP/1.1\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 0.9": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a fragment": b"GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "obs-fold": b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare LF in a head that goes on": b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n",
    "blank before colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "both framings": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "chunked is not last": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
}


@pytest.mark.parametrize("cut", [False, True], ids=["at once", "cut"])
@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_request_gets_one_answer_and_no_more(serve: Serve, data: bytes, cut: bool) -> None:
    app = App()
    with serve(app) as served, connect(served.port) as client:
        try:
            client.send_bytewise(data) if cut else client.send(data)
        except Ended:
            pass  # it may be refused while it is being sent
        said = client.read_to_end()
    assert said.startswith(b"HTTP/1.1 400 Refused\r\n")
    assert said.count(b" 400 Refused\r\n") == 1
    assert client.ended is End.FIN
    assert [error.kind for error in served.refused] == ["bad_request"]
    assert app.scopes == []


def test_a_bad_request_behind_good_ones_comes_after_their_answers(serve: Serve) -> None:
    app = App(headers=[(b"Content-Length", b"2")])
    with serve(app) as served:
        good = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nok"
        said, _ = ask(served.port, good, good, b"\0garbage\r\n\r\n", good)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", said) == [b"200", b"200", b"400"]
    assert len(app.scopes) == 2


@pytest.mark.parametrize("begun", [False, True])
def test_garbage_behind_a_request_does_not_get_into_its_answer(serve: Serve, begun: bool) -> None:
    """A 400 would be taken for the answer, or for the rest of its body."""
    app = Wired(lambda *_: None)
    with serve(app) as served, connect(served.port) as client:
        client.send(GET, b"\r\n")
        heard = app.wait()
        if begun:
            app.do(lambda: heard.start((b"Content-Length", b"6")), lambda: heard.side.write(b"abc"), heard.side.flush)
            client.read_until(b"abc")
        client.send(b"\0garbage\r\n\r\n")
        assert not client.has_arrived(0.1)
        if not begun:
            app.do(lambda: heard.start((b"Content-Length", b"6")), lambda: heard.side.write(b"abc"))
        app.do(lambda: heard.side.write(b"def"), heard.end)
        said = client.read_to_end()
    first, _, second = said.partition(b"def")
    assert b" 400 " not in first
    assert second.startswith(b"HTTP/1.1 400 ")
    assert "failed" not in heard.log


# What goes wrong in a body


BAD_BODIES = {
    "letters": b"zz\r\n",
    "a longer chunk": b"1\r\nabc\r\n",
    "bare LF": b"1\na\n",
    "a bad trailer": b"0\r\nA : b\r\n\r\n",
    "endless trailers": b"0\r\n" + b"A: b\r\n" * 50_000,
    "an endless extension": b"1;" + b"e" * 300_000,
}


@pytest.mark.parametrize("before", [b"", b"2\r\nok\r\n"])
@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_body_that_is_bad_from_the_start_is_refused_with_its_request(serve: Serve, name: str, before: bytes) -> None:
    app = Wired(lambda heard, word: answer(heard, "end") if word == "failed" else None)
    with serve(app) as served:
        said, client = ask(served.port, CHUNKED + before + BAD_BODIES[name], GET, b"\r\n")
    if len(BAD_BODIES[name]) < 1000:
        assert said.startswith(b"HTTP/1.1 400 Refused\r\n")
        assert (len(served.refused), app.heard, client.ended) == (1, [], End.FIN)
    else:
        assert len(app.heard) + len(served.refused) == 1, "a long one may come in two reads"


@pytest.mark.parametrize("in_a_task", [False, True])
@pytest.mark.parametrize("name", BAD_BODIES)
@pytest.mark.parametrize("before", [b"", b"2\r\nok\r\n"])
def test_a_body_that_becomes_bad_is_told_and_can_be_answered(
    serve: Serve, name: str, before: bytes, in_a_task: bool
) -> None:
    def refuse(heard: Hearing, word: str) -> None:
        if word == "failed":
            assert heard.error is not None
            heard.start((b"Content-Length", b"3"), (b"Connection", b"close"), status=heard.error.status)
            heard.side.write(b"bad")
            heard.end()

    app = WiredInATask(refuse) if in_a_task else Wired(refuse)
    with serve(app) as served, connect(served.port) as client:
        client.send(CHUNKED + before)
        app.wait()
        try:
            client.send(BAD_BODIES[name])
        except Ended:
            pass  # it may be refused while it is being sent
        said = client.read_to_end()
    heard = app.heard[0]
    assert said == b"HTTP/1.1 400 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad"
    assert "end" not in heard.log
    assert before in {b"", b"2\r\n" + heard.body + b"\r\n"}


def test_a_bad_chunk_breaks_an_answer_that_is_under_way(serve: Serve) -> None:
    def duplex(heard: Hearing, word: str) -> None:
        if word == "attached":
            heard.start()
            heard.side.write(b"abc")
            heard.side.flush()
        elif word == "failed":
            heard.abort()

    with serve(Wired(duplex)) as served, connect(served.port) as client:
        client.send(CHUNKED, b"1\r\na\r\n").read_until(b"abc\r\n")
        client.send(b"zz\r\n", GET, b"\r\n")
        assert client.read_to_end() == b""
        assert client.ended is End.FIN


def test_nothing_is_read_behind_a_bad_body(serve: Serve) -> None:
    """Where it ends, and what is the next request, nobody can know."""

    def refuse(heard: Hearing, word: str) -> None:
        if word == "failed":
            answer(heard, "end")

    app = Wired(refuse)
    with serve(app) as served, connect(served.port) as client:
        client.send(CHUNKED)
        app.wait()
        client.send(b"1\r\na\r\nzz\r\n", GET, b"\r\n", GET, b"\r\n")
        assert client.read_to_end().count(b"HTTP/1.1 ") == 1
    assert len(app.heard) == 1


# Limits


@pytest.mark.parametrize("cut", [1000, 1 << 20])
def test_a_head_of_so_many_bytes_and_no_more(serve: Serve, cut: int) -> None:
    app = App(headers=[(b"Content-Length", b"0")])

    def head(size: int) -> bytes:
        begin = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nA: "
        return begin + b"x" * (size - len(begin) - 4) + b"\r\n\r\n"

    with serve(app, Limits(head_bytes=20_000)) as served:
        for size, status in ((20_000, 200), (20_001, 431), (100_000, 431)):
            data = head(size)
            said, _ = ask(served.port, *[data[at : at + cut] for at in range(0, size, cut)])
            assert said.startswith(b"HTTP/1.1 %d " % status)
    assert [(error.status, error.kind) for error in served.refused] == [(431, "head_too_large")] * 2
    assert "over 20000 bytes (max_head)" in str(served.refused[0])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 400_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 70_000,
        b"GET /" + b"x" * 400_000,
        b"G" * 400_000,
    ],
    ids=["a header", "headers", "a target", "a method"],
)
def test_no_head_is_endless(serve: Serve, data: bytes) -> None:
    with serve(App()) as served:
        said, _ = ask(served.port, data)
    assert said == b"" or said.startswith(b"HTTP/1.1 431 ")
    assert [error.kind for error in served.refused] == ["head_too_large"]


def test_so_many_headers_and_no_more(serve: Serve) -> None:
    app = App(headers=[(b"Content-Length", b"0")])
    with serve(app, Limits(headers=10)) as served:
        for count, status in ((9, 200), (10, 431)):
            head = GET + b"A: b\r\n" * (count - 1) + b"Connection: close\r\n\r\n"
            assert ask(served.port, head)[0].startswith(b"HTTP/1.1 %d " % status)
    assert "over 10 headers (max_headers)" in str(served.refused[0])


def test_so_many_connections_and_no_more(serve: Serve) -> None:
    app = App(headers=[(b"Content-Length", b"0")])
    with serve(app, Limits(connections=2)) as served:
        with connect(served.port) as one, connect(served.port) as two:
            for client in (one, two):
                assert client.send(GET, b"\r\n").read_message().status == 200
            said, client = ask(served.port)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert client.ended is End.FIN
            assert one.send(GET, b"\r\n").read_message().status == 200
        with connect(served.port, deadline=DEADLINE) as three:
            three.send(GET, b"\r\n")
            assert three.read_message().status in {200, 503}
    assert {error.kind for error in served.refused} == {"too_many_connections"}
    assert "2 connections already (max_connections)" in str(served.refused[0])


# Time


def test_a_head_that_does_not_come_to_its_end(serve: Serve) -> None:
    with serve(App(), Limits(head_seconds=1)) as served:
        said, client = ask(served.port, b"GET / HTTP/1.1\r\nHo")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert client.ended is End.FIN
    assert [error.kind for error in served.refused] == ["request_timeout"]
    assert "within 1 s (head_timeout)" in str(served.refused[0])


def test_a_second_head_that_does_not_come_to_its_end(serve: Serve) -> None:
    app = App(headers=[(b"Content-Length", b"0")])
    with serve(app, Limits(head_seconds=1)) as served, connect(served.port) as client:
        client.send(GET, b"\r\n").read_message()
        client.send(b"GET / HT")
        assert client.read_to_end().startswith(b"HTTP/1.1 408 ")


def test_who_says_nothing_gets_no_answer(serve: Serve) -> None:
    with serve(App(), Limits(head_seconds=0.1)) as served:
        said, client = ask(served.port)
    assert (said, client.ended, served.refused) == (b"", End.FIN, [])


def test_who_asks_no_more_is_let_go(serve: Serve) -> None:
    app = App(headers=[(b"Content-Length", b"0")])
    with serve(app, Limits(keep_alive_seconds=0.1)) as served, connect(served.port) as client:
        client.send(GET, b"\r\n").read_message()
        assert (client.read_to_end(), client.ended, served.refused) == (b"", End.FIN, [])


def test_a_body_that_does_not_come(serve: Serve) -> None:
    app = Wired(lambda heard, word: answer(heard, "end") if word == "failed" else None)
    with serve(app, Limits(body_seconds=0.1)) as served:
        said, _ = ask(served.port, b"POST / HTTP/1.1\r\n", HOST, b"Content-Length: 5\r\n\r\nabc")
    (heard,) = app.heard
    assert said.endswith(b"abc")
    assert heard.error is not None
    assert (heard.error.status, heard.error.kind) == (408, "request_timeout")
    assert "for 0.1 s (body_timeout)" in str(heard.error)


@pytest.mark.parametrize("why", ["the upload is paused", "it waits for a 100", "the answer has begun"])
def test_a_body_that_is_not_waited_for_may_take_its_time(serve: Serve, why: str) -> None:
    """It is long after the limit that the rest is sent."""

    def hold(heard: Hearing, word: str) -> None:
        if word == "attached" and why == "the upload is paused":
            heard.side.pause_upload()
        elif word == "attached" and why == "the answer has begun":
            heard.start()
            heard.side.flush()

    app = Wired(hold)
    with serve(app, Limits(body_seconds=0.25)) as served, connect(served.port) as client:
        expect = b"Expect: 100-continue\r\n" if why == "it waits for a 100" else b""
        client.send(b"POST / HTTP/1.1\r\n", HOST, expect, b"Content-Length: 5\r\n\r\n")
        if why == "the answer has begun":
            client.read_head()
        heard = app.wait()
        assert not client.has_arrived(0.6), "nothing is to be said"
        client.send(b"hello")
        if why == "the upload is paused":
            app.do(heard.side.resume_upload)
        heard.waits_for("end")
        assert (heard.body, "failed" in heard.log) == (b"hello", False)
        app.do(heard.abort)

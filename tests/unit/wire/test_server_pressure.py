"""Back-pressure on the client's side: who does not read holds its answer back, and who is not read is held back."""

from __future__ import annotations

import pytest

from proxy.wire.server import HIGH_WATER, PIPELINE
from proxy.wire.server_exchange import HELD_HIGH
from tests.support.rawhttp import TooLate, connect, until
from tests.unit.wire.serving import Hearing, Serve, Wired, WiredInATask, answer

MEGABYTE = 1 << 20
HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST


def test_a_client_that_does_not_read_is_told_of_and_its_going_on_too(serve: Serve) -> None:
    size = 32 * MEGABYTE

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start((b"Content-Length", b"%d" % size))
        if word in {"end", "resume"}:
            while heard.log[-1] != "pause" and len(sent) < size // MEGABYTE:
                sent.append(MEGABYTE)
                heard.side.write(b"x" * MEGABYTE)
                heard.side.flush()
            if len(sent) == size // MEGABYTE and not heard.side.ended:
                heard.end()

    sent: list[int] = []
    app = Wired(say)
    with serve(app) as served, connect(served.port, receive_buffer=65536) as client:
        client.send(GET)
        app.wait().waits_for("pause")
        assert len(sent) * MEGABYTE < size
        assert len(client.read_message().body) == size
        assert app.heard[0].log.count("pause") >= 1
        assert app.heard[0].log.count("pause") - app.heard[0].log.count("resume") in {0, 1}


def saying(size: int) -> Wired:
    """Answers so many bytes at once, whether they are taken or not."""

    def say(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.start((b"Content-Length", b"%d" % size))
            heard.side.write(b"x" * size)
            heard.end()

    return Wired(say)


def test_a_pause_that_began_before_a_request_is_told_of(serve: Serve) -> None:
    """An answer before this one may still be on its way."""
    size = 16 * MEGABYTE
    app = saying(size)
    with serve(app) as served, connect(served.port, receive_buffer=65536) as client:
        client.send(GET, GET)
        app.wait()
        with pytest.raises(TooLate):
            until(lambda: len(app.heard) > 1 and "pause" not in app.heard[1].log, "another that knows of no pause", 1.0)
        for _ in range(2):
            assert len(client.read_message().body) == size


@pytest.mark.parametrize("cut", [False, True], ids=["at once", "one after the other"])
def test_answers_that_nobody_reads_do_not_pile_up(serve: Serve, cut: bool) -> None:
    """Requests behind an answer that waits in the buffer wait too, however short they are."""
    count, size = 200, MEGABYTE
    app = saying(size)
    with serve(app) as served, connect(served.port, receive_buffer=65536) as client:
        for _ in range(count if cut else 1):
            client.send(GET if cut else GET * count)
        with pytest.raises(TooLate):
            until(lambda: len(app.heard) > 30, "30 MB are written for a client that does not read", 1.0)
        for _ in range(count):
            assert len(client.read_message().body) == size


def test_an_upload_that_nobody_listens_to_is_held_back(serve: Serve) -> None:
    size = 32 * MEGABYTE

    async def late() -> None:
        await go_on.wait()

    app = WiredInATask(before=late)
    with serve(app) as served, connect(served.port) as client:
        go_on = served.event()
        client.send(POST, b"Content-Length: %d\r\n\r\n" % size)
        sent = client.fill(b"x" * 65536)
        assert HELD_HIGH <= sent < size
        served.set(go_on)
        client.send(b"x" * (size - sent))
        assert len(client.read_message().body) == size


def test_a_paused_upload_is_held_back(serve: Serve) -> None:
    size = 32 * MEGABYTE

    def pause(heard: Hearing, word: str) -> None:
        if word == "attached":
            heard.side.pause_upload()
            heard.side.pause_upload()
        answer(heard, word)

    app = Wired(pause)
    with serve(app) as served, connect(served.port) as client:
        client.send(POST, b"Content-Length: %d\r\n\r\n" % size)
        heard = app.wait()
        sent = client.fill(b"x" * 65536)
        assert sent < size
        assert len(heard.body) < sent
        app.do(heard.side.resume_upload, heard.side.resume_upload)
        client.send(b"x" * (size - sent))
        assert len(client.read_message().body) == size


def test_a_pause_ends_with_its_exchange(serve: Serve) -> None:
    def pause(heard: Hearing, word: str) -> None:
        if word == "end":
            heard.side.pause_upload()
        answer(heard, word)

    app = Wired(pause)
    with serve(app) as served, connect(served.port) as client:
        for number in range(3):
            client.send(POST, b"Content-Length: 1\r\n\r\n%d" % number)
            assert client.read_message().body == b"%d" % number


def test_requests_behind_one_in_flight_are_held_back(serve: Serve) -> None:
    size = 32 * MEGABYTE
    app = Wired(lambda *_: None)
    with serve(app) as served, connect(served.port) as client:
        client.send(GET, POST, b"Content-Length: %d\r\n\r\n" % size)
        heard = app.wait()
        sent = client.fill(b"x" * 65536)
        assert PIPELINE <= sent < size
        app.do(lambda: answer(heard, "end"))
        client.send(b"x" * (size - sent))
        second = app.wait(2)
        second.waits_for("end")
        assert len(second.body) == size
        app.do(heard.side.resume_upload, second.abort)


def test_one_pause_does_not_end_with_the_other(serve: Serve) -> None:
    """A resumed upload does not let in what is behind a request in flight."""
    size = 32 * MEGABYTE
    app = Wired(lambda *_: None)
    with serve(app) as served, connect(served.port) as client:
        client.send(GET)
        heard = app.wait()
        sent = client.fill(b"y" * 65536)
        app.do(heard.side.pause_upload, heard.side.resume_upload)
        sent += client.fill(b"y" * 65536)
        assert HIGH_WATER < sent < size
        app.do(heard.abort)

"""What the data port's application answers by itself, under every server, and how it stops what is under way."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from proxy.exchange import RequestHead, WireEnd
from proxy.journal import record
from proxy.wire.request import LONGEST_KNOWN
from tests.support.rawhttp import DEADLINE, Ended, Peer, RawUpstream, connect, until
from tests.unit.forward.serving import HOST, OURS, Served, application, serving
from tests.unit.forward.tape import Stage, decoded

POST = b"POST /o/v1/x HTTP/1.1\r\n" + HOST
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


pytestmark = pytest.mark.usefixtures("calm")


def answering(peer: Peer) -> None:
    try:
        while True:
            peer.read_message()
            peer.send(OK)
    except Ended:
        return


def ask(served: Served, *data: bytes) -> tuple[int, dict[str, Any]]:
    with connect(served.port) as client:
        message = client.send(*data).read_message()
        return message.status, json.loads(message.body)


def test_what_never_becomes_an_exchange(stage: Stage, server: str) -> None:
    problem: list[str] = []
    app = application(stage, limit=10, ready=lambda: problem[0] if problem else None)
    with serving(app, stage, server) as served:
        assert ask(served, b"GET /-/live HTTP/1.1\r\n", HOST, b"\r\n") == (200, {"ok": True, "problem": None})
        problem.append("no room")
        assert ask(served, b"GET /-/ready HTTP/1.1\r\n", HOST, b"\r\n") == (503, {"ok": False, "problem": "no room"})
        for line, status, kind in (
            (b"GET /none/x", 404, "unknown_upstream"),
            (b"GET /o/v1/v1/x", 404, "doubled_segment"),
            (b"GET /~a/o/x", 400, "bad_request"),
            (b"TRACE /o/x", 501, "method_refused"),
        ):
            found, document = ask(served, line, b" HTTP/1.1\r\n", HOST, b"\r\n")
            assert (found, document["error"]["type"]) == (status, f"wiretape_{kind}")
        found, document = ask(served, POST, b"Content-Length: 11\r\n\r\nhello world")
        assert (found, document["error"]["type"]) == (413, "wiretape_request_too_large")
    assert stage.records() == []
    assert app.turned_away == {
        "unknown_upstream": 1,
        "doubled_segment": 1,
        "bad_request": 1,
        "method_refused": 1,
        "request_too_large": 1,
    }
    assert stage.recording.accepted == 0


def test_a_journal_that_fails_turns_requests_away(stage: Stage, server: str) -> None:
    with serving(application(stage), stage, server) as served, stage.failing():
        status, document = ask(served, POST, b"Content-Length: 2\r\n\r\nhi")
    assert (status, document["error"]["type"]) == (503, "wiretape_cannot_record")
    assert stage.recording.accepted == 0


def test_a_body_that_grows_over_the_limit(stage: Stage, server: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.read_to_end()

    with (
        RawUpstream(script) as upstream,
        serving(application(stage, upstream.port, limit=5), stage, server) as served,
    ):
        status, document = ask(served, POST, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n")
        assert (status, document["error"]["type"]) == (413, "wiretape_request_too_large")
        assert served.wire_end() == WireEnd.REFUSED


def test_an_empty_home_of_a_failing_journal_shows_when_it_works_again(stage: Stage, server: str) -> None:
    with (
        RawUpstream(answering) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
    ):
        with stage.failing():
            assert ask(served, POST, b"Content-Length: 2\r\n\r\nhi")[0] == 503
        with connect(served.port) as client:
            assert client.send(POST, b"Content-Length: 2\r\n\r\nhi").read_message().body == b"ok"
        served.ends()
    assert (stage.recording.accepted, stage.recording.failing) == (1, None)


# What a head decides is remembered


def test_a_head_that_is_known_is_still_told_apart(stage: Stage) -> None:
    heads = [b"POST /~a=b/o/x?y", b"POST /o/x?y", b"post /o/x?y", b"POST /o/" + b"z" * LONGEST_KNOWN]
    with (
        RawUpstream(answering) as upstream,
        serving(application(stage, upstream.port), stage, OURS) as served,
    ):
        for size in range(4):
            with connect(served.port) as client:
                for line in heads:
                    client.send(line + b" HTTP/1.1\r\n", HOST, b"Content-Length: %d\r\n\r\n" % size, b"b" * size)
                    assert client.read_message().body == b"ok"
                client.send(b"TRACE /o/x?y HTTP/1.1\r\n", HOST, b"\r\n")
                assert client.read_message().status == 501
        served.ends(16)
        received = b"".join(bytes(peer.received) for peer in upstream.peers)
    recorded = decoded(stage.records(), record.REQUEST_HEAD, RequestHead)
    assert [head.tags for head in recorded] == [[("a", "b")], [], [], []] * 4
    assert [head.method for head in recorded] == ["POST", "POST", "post", "POST"] * 4
    assert [head.headers[1] for head in recorded] == [("Content-Length", str(size)) for size in range(4) for _ in heads]
    for size in range(4):
        assert (
            received.count(
                b" /x?y HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n" % (upstream.port, size)
            )
            == 3
        )


# It stops


def test_what_is_under_way_is_broken_off(stage: Stage, server: str) -> None:
    def silent(peer: Peer) -> None:
        peer.read_message()
        asked.set()
        peer.wait_hung_up()

    asked = threading.Event()
    with (
        RawUpstream(silent) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        client.send(POST, b"Content-Length: 2\r\n\r\nhi")
        assert asked.wait(DEADLINE)
        assert served.app.active == 1
        served.do(served.app.stop)
        message = client.read_message()
        assert (message.status, json.loads(message.body)["error"]["type"]) == (500, "wiretape_internal_error")
        assert served.wire_end() == WireEnd.WORKER_DIED
        until(lambda: served.app.active == 0, "it is over")


def test_exchanges_are_counted_while_they_are_under_way(stage: Stage, server: str) -> None:
    with (
        RawUpstream(answering) as upstream,
        serving(application(stage, upstream.port), stage, server) as served,
        connect(served.port) as client,
    ):
        client.send(POST, b"Transfer-Encoding: chunked\r\n\r\n")
        until(lambda: served.app.active == 1, "it is under way")
        client.send(b"0\r\n\r\n").read_message()
        until(lambda: served.app.active == 0, "it is over")
        assert stage.recording.accepted == 1

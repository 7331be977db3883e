"""Upstream connections are used again, but never so that one exchange gets what belongs to another, or runs twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Body, Origin, Stage, chunk, request, response
from tests.support.rawhttp import DEADLINE, Ended, Message, Peer

EVENT = b'data: {"n": 1}\n\n'


def _ask(stage: Stage, origin: Origin, body: bytes = b"{}", method: bytes = b"POST") -> Message:
    return stage.exchange(request(origin.at(), body, method=method))


# Used again


@pytest.mark.parametrize(
    "answer",
    [response(EVENT), response(b""), STREAM + chunk(EVENT) + LAST_CHUNK, STREAM + LAST_CHUNK],
    ids=["length", "no bytes", "chunks", "no chunks"],
)
def test_a_connection_is_used_again(stage: Stage, answer: bytes) -> None:
    with stage.origin(Answering(answer)) as origin:
        bodies = {_ask(stage, origin).body for _ in range(5)}
        assert len(bodies) == 1
        assert len(origin.peers) == 1


def test_the_one_used_last_is_used_first(stage: Stage) -> None:
    """So that those which a burst left behind grow old and go."""
    together = threading.Barrier(3)
    script = Answering(response(EVENT))

    def meeting(peer: Peer) -> None:
        peer.read_message()
        together.wait(DEADLINE)
        peer.send(response(EVENT))
        script(peer)

    with stage.origin(meeting) as origin:
        _at_once([lambda: _ask(stage, origin)] * 3)
        used = set()
        for _ in range(5):
            before = [len(peer.received) for peer in origin.peers]
            _ask(stage, origin)
            used |= {at for at, peer in enumerate(origin.peers) if len(peer.received) > before[at]}
        assert len(origin.peers) == 3
        assert len(used) == 1


def _at_once(calls: Sequence[Callable[[], Message]]) -> list[Message]:
    answers: list[Message] = []
    threads = [threading.Thread(target=lambda call=call: answers.append(call())) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(answers) == len(calls)
    return answers


def test_exchanges_at_the_same_time_have_a_connection_each(stage: Stage) -> None:
    count = 40
    together = threading.Barrier(count)

    def script(peer: Peer) -> None:
        message = peer.read_message()
        together.wait(DEADLINE)  # so nobody is answered before all have asked
        peer.send(response(b"to " + message.body))
        Answering()(peer)

    with stage.origin(script) as origin:
        calls = [partial(_ask, stage, origin, b"%d" % number) for number in range(count)]
        assert {answer.body for answer in _at_once(calls)} == {b"to %d" % number for number in range(count)}
        assert len(origin.peers) == count


# Not used again

ONCE: dict[str, tuple[bytes, bytes]] = {
    "Connection: close": (b"POST", response(EVENT, b"Connection: close")),
    "until close": (b"POST", b"HTTP/1.1 200 OK\r\n\r\n" + EVENT),
    "HTTP/1.0": (b"POST", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    "surplus bytes": (b"POST", response(EVENT) + b"surplus"),
    "a second response": (b"POST", response(EVENT) + response(b"for the next, it hopes")),
    "a second response behind chunks": (b"POST", STREAM + chunk(EVENT) + LAST_CHUNK + response(b"for the next")),
    "a body to HEAD": (b"HEAD", response(EVENT)),
    "a body in 204": (b"POST", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
    "a body in 304": (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"),
}


@pytest.mark.parametrize("name", ONCE)
def test_a_connection_that_cannot_be_trusted_is_closed(stage: Stage, name: str) -> None:
    method, answer = ONCE[name]
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(answer)
        if name != "until close":
            peer.read_to_end()
        over.set()

    def other(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(b"its own"))

    with stage.origin(script, other) as origin:
        first = stage.exchange(request(origin.at(), method=method))
        assert b"next" not in first.body
        assert b"surplus" not in first.body
        assert over.wait(DEADLINE)
        assert _ask(stage, origin).body == b"its own"
        assert len(origin.peers) == 2
        assert [each.outcome for each in stage.recorded(origin, 2)] == ["completed"] * 2


def test_what_an_idle_upstream_says_is_nobodys(stage: Stage) -> None:
    """Bytes that come while the connection waits in the pool."""
    said = threading.Event()
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(EVENT))
        assert go_on.wait(DEADLINE)
        peer.send(response(b"for the next, it hopes"))
        said.set()
        peer.read_to_end()

    def other(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(b"its own"))

    with stage.origin(script, other) as origin:
        assert _ask(stage, origin).body == EVENT
        go_on.set()
        assert said.wait(DEADLINE)
        assert _ask(stage, origin).body == b"its own"
        assert len(origin.peers) == 2


def test_an_answer_before_the_request_was_complete(stage: Stage) -> None:
    """The upstream is heard at once, and its connection, whose framing hangs in the air, not used again."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(response(b"too large", status=b"413 Content Too Large"))
        peer.read_to_end()

    def other(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(b"its own"))

    with stage.origin(script, other) as origin, stage.client() as client:
        client.send(request(origin.at(), None, b"Content-Length: 1000000"), b"x" * 1000)
        answer = client.read_message()
        assert (answer.status, answer.body) == (413, b"too large")
        assert _ask(stage, origin).body == b"its own"
        assert len(origin.peers) == 2


# Closed by the upstream


@pytest.mark.parametrize("how", [Peer.close, Peer.rst], ids=["FIN", "RST"])
@pytest.mark.parametrize("method", [b"POST", b"GET"], ids=bytes.decode)
def test_a_connection_that_was_closed_while_idle_costs_nothing(
    stage: Stage, method: bytes, how: Callable[[Peer], None]
) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(EVENT))
        how(peer)

    with stage.origin(script) as origin:
        for count in range(1, 6):
            assert _ask(stage, origin, method=method).status == 200
            origin.wait_idle()
            assert len(origin.peers) == count
        assert [each.outcome for each in stage.recorded(origin, 5)] == ["completed"] * 5


@pytest.mark.parametrize("how", [Peer.close, Peer.rst], ids=["FIN", "RST"])
def test_a_request_that_was_taken_and_not_answered_is_not_sent_twice(stage: Stage, how: Callable[[Peer], None]) -> None:
    seen: list[Message] = []

    def script(peer: Peer) -> None:
        seen.append(peer.read_message())
        how(peer)

    with stage.origin(script) as origin:
        assert _ask(stage, origin, EVENT).status == 502
        assert stage.only(origin).outcome == "upstream_failed"
    assert [message.body for message in seen] == [EVENT]


@pytest.mark.parametrize("how", [Peer.close, Peer.rst], ids=["FIN", "RST"])
def test_nor_on_a_connection_that_was_used_before(stage: Stage, how: Callable[[Peer], None]) -> None:
    seen: list[Message] = []

    def script(peer: Peer) -> None:
        seen.append(peer.read_message())
        peer.send(response(EVENT))
        seen.append(peer.read_message())
        how(peer)

    with stage.origin(script) as origin:
        assert _ask(stage, origin, b"one").status == 200
        assert _ask(stage, origin, b"two").status == 502
        assert [each.outcome for each in stage.recorded(origin, 2)] == ["completed", "upstream_failed"]
        assert len(origin.peers) == 1
    assert [message.body for message in seen] == [b"one", b"two"]


def test_whole_pools_that_were_closed_while_idle_cost_nothing(stage: Stage) -> None:
    """One dead connection after the other is passed over, also by a POST."""
    rounds, at_once = 5, 10
    together = threading.Barrier(at_once)

    def script(peer: Peer) -> None:
        peer.read_message()
        together.wait(DEADLINE)  # so that each has a connection of its own
        peer.send(response(EVENT))

    with stage.origin(script) as origin:
        for done in range(1, rounds + 1):
            calls = [partial(_ask, stage, origin, method=method) for method in (b"GET", b"POST")] * (at_once // 2)
            assert [answer.status for answer in _at_once(calls)] == [200] * at_once
            origin.wait_idle()
            assert len(origin.peers) == done * at_once
        recorded = stage.recorded(origin, rounds * at_once)
        assert {each.outcome for each in recorded} == {"completed"}


# Closed by the upstream at the very moment


@pytest.mark.parametrize("how", [Peer.close, Peer.rst], ids=["FIN", "RST"])
def test_a_get_that_met_a_closing_connection_is_asked_again(stage: Stage, how: Callable[[Peer], None]) -> None:
    """It is the one case where that is safe: nothing was answered, and asking twice changes nothing."""
    seen: list[Message] = []

    def closing(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(EVENT))
        seen.append(peer.read_message())
        how(peer)

    def other(peer: Peer) -> None:
        seen.append(peer.read_message())
        peer.send(response(b"again"))

    with stage.origin(closing, other) as origin:
        assert _ask(stage, origin).body == EVENT
        assert stage.exchange(request(origin.at(), None, b"A: 1", method=b"GET")).body == b"again"
        assert [each.outcome for each in stage.recorded(origin, 2)] == ["completed"] * 2
        assert len(origin.peers) == 2
    assert seen[0] == seen[1]
    assert seen[0].all("a") == [b"1"]


NOT_AGAIN: dict[str, tuple[bytes, bytes | None, bytes]] = {
    "GET with a body": (b"GET", b"{}", b""),
    "DELETE": (b"DELETE", None, b""),
    "PUT": (b"PUT", b"{}", b""),
    "half a status line": (b"GET", None, b"HTTP/1.1 2"),
    "half a head": (b"GET", None, b"HTTP/1.1 200 OK\r\nA: 1\r\n"),
    "an interim response": (b"GET", None, b"HTTP/1.1 103 Early Hints\r\nA: 1\r\n\r\n"),
    "garbage": (b"GET", None, b"garbage\r\n"),
}


@pytest.mark.parametrize("name", NOT_AGAIN)
def test_what_may_have_been_done_is_not_asked_again(stage: Stage, name: str) -> None:
    method, body, said = NOT_AGAIN[name]

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(EVENT))
        peer.read_message()
        peer.send(said)

    with stage.origin(script) as origin, stage.client() as client:
        assert _ask(stage, origin).body == EVENT
        answer = client.send(request(origin.at(), body, method=method)).read_message()
        assert (answer if answer.status >= 200 else client.read_message()).status == 502
        assert [each.outcome for each in stage.recorded(origin, 2)] == ["completed", "upstream_failed"]
        assert len(origin.peers) == 1


def test_a_response_that_has_begun_is_not_asked_for_again(stage: Stage) -> None:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(response(EVENT))
        peer.read_message()
        peer.send(STREAM, chunk(EVENT))

    with stage.origin(script) as origin, stage.client() as client:
        assert _ask(stage, origin).body == EVENT
        client.send(request(origin.at(), method=b"GET")).read_head()
        assert not client.read_to_end().endswith(LAST_CHUNK)
        assert [each.outcome for each in stage.recorded(origin, 2)] == ["completed", "upstream_failed"]
        assert len(origin.peers) == 1


@pytest.mark.parametrize("before", [False, True], ids=["at first", "the second time"])
def test_a_get_on_a_fresh_connection_is_asked_once(stage: Stage, before: bool) -> None:
    """There no closing crossed it on the way. That holds for the second try as well: there is no third."""
    seen: list[Message] = []

    def script(peer: Peer) -> None:
        if before and not seen:
            peer.read_message()
            peer.send(response(EVENT))
        seen.append(peer.read_message())

    with stage.origin(script) as origin:
        if before:
            assert _ask(stage, origin).body == EVENT
        assert stage.exchange(request(origin.at(), method=b"GET")).status == 502
        assert stage.recorded(origin, 1 + before)[-1].outcome == "upstream_failed"
        assert len(origin.peers) == len(seen) == 1 + before


def test_one_upstreams_death_touches_no_other_stream(stage: Stage) -> None:
    count, dying = 12, 3
    die, go_on = threading.Event(), threading.Event()
    dead = threading.Barrier(dying + 1)

    def script(peer: Peer) -> None:
        number = int(peer.read_message().body)
        peer.send(STREAM, chunk(EVENT))
        if number < dying:
            assert die.wait(DEADLINE)
            peer.rst()
            dead.wait(DEADLINE)
            return
        assert go_on.wait(DEADLINE)
        peer.send(chunk(EVENT), LAST_CHUNK)

    with stage.origin(script) as origin, stage.origin(script) as other, ExitStack() as stack:
        clients = [stack.enter_context(stage.client()) for _ in range(count)]
        bodies = []
        for number, client in enumerate(clients):
            client.send(request((origin, other)[number % 2].at(), b"%d" % number))
            _, headers = client.read_head()
            bodies.append(Body(client, headers))
            bodies[-1].until(len(EVENT))
        die.set()
        dead.wait(DEADLINE)
        for body in bodies[:dying]:
            with pytest.raises(Ended):
                body.rest()
        go_on.set()
        assert [body.rest() for body in bodies[dying:]] == [EVENT * 2] * (count - dying)
        outcomes = [each.outcome for each in (*stage.recorded(origin, 6), *stage.recorded(other, 6))]
        assert sorted(outcomes) == ["completed"] * (count - dying) + ["upstream_failed"] * dying


def test_many_streams_stay_open_at_once(stage: Stage) -> None:
    """No limit of a pool makes one wait for another."""
    count = 150
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM, chunk(EVENT))
        assert go_on.wait(2 * DEADLINE)
        peer.send(LAST_CHUNK)

    with stage.origin(script) as origin, ExitStack() as stack:
        clients = [stack.enter_context(stage.client()) for _ in range(count)]
        for client in clients:
            client.send(request(origin.at(), b"{}"))
        bodies = []
        for client in clients:
            _, headers = client.read_head()
            bodies.append(Body(client, headers))
            bodies[-1].until(len(EVENT))
        go_on.set()
        assert [body.rest() for body in bodies] == [EVENT] * count
        assert len(origin.peers) == count

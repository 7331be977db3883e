"""Interim responses come down at once and before the final one, to clients that know of them; all are recorded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.flow.wire.differential import ID, Run, assert_same_responses, twice
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Origin, Stage, chunk, request, response
from tests.support.rawhttp import Ended, Peer

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>; rel=preload\r\nX-Empty:\r\nX-Name: J\xfcrgen\r\n\r\n"
INTERIM: dict[str, list[bytes]] = {
    "100": [_CONTINUE],
    "102": [_PROCESSING],
    "103": [_HINTS],
    "an unknown one": [b"HTTP/1.1 199 Odd thing\r\nA: 1\r\n\r\n"],
    "several": [_CONTINUE, _HINTS, _PROCESSING, _PROCESSING, _HINTS],
}
FINAL: dict[str, tuple[bytes, bytes]] = {
    "length": (b"POST", response(b"answer", b"A: 1")),
    "chunks": (b"POST", STREAM + chunk(b"answer") + LAST_CHUNK),
    "HEAD": (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
    "204": (b"DELETE", b"HTTP/1.1 204 No Content\r\nA: 1\r\n\r\n"),
    "304": (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n"),
}


def _read(peer: Peer, method: bytes) -> None:
    """One final response, and what comes before it."""
    while peer.read_message(bodiless=method == b"HEAD").status < 200:
        pass


@pytest.mark.parametrize("final", FINAL)
@pytest.mark.parametrize("name", INTERIM)
def test_they_come_before_the_final_one(stage: Stage, name: str, final: str) -> None:
    method, answer = FINAL[final]

    def client(peer: Peer, run: Run) -> None:
        for _ in range(2):
            _read(peer.send(request(run.at(), b"{}", method=method)), method)

    def origin(peer: Peer, run: Run) -> None:
        try:
            while True:
                peer.read_message()
                peer.send(*INTERIM[name], answer)
        except Ended:
            return

    both = twice(stage, client, origin)
    assert_same_responses(both, but={b"transfer-encoding"})
    assert len(both.proxied.responses) == 2 * (len(INTERIM[name]) + 1)
    for each in both.proxied.responses:
        assert len(each.all(ID.decode())) == (1 if each.status >= 200 else 0)
    assert len(both.proxied.connections) == 1
    for number in range(2):
        interim = [int(head.split(b" ")[1]) for head in INTERIM[name]]
        assert _statuses(stage, both.origin, 2)[number] == [*interim, int(answer.split(b" ")[1])]


def _statuses(stage: Stage, origin: Origin, count: int = 1) -> list[list[int]]:
    """Of all recorded heads of each exchange."""
    query = "SELECT status FROM heads WHERE exchange_id = ? AND side = 1 ORDER BY seq"
    return [
        [row[0] for row in _rows(stage, query, each.facts["exchange_id"])] for each in stage.recorded(origin, count)
    ]


def _rows(stage: Stage, query: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(f"file:{stage.wiretape.home / 'wiretape.db'}?mode=ro", uri=True)) as connection:
        return connection.execute(query, values).fetchall()


def test_each_arrives_before_the_next_is_sent(stage: Stage) -> None:
    heads = INTERIM["several"]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}"))
        for _ in heads:
            assert peer.read_message().status < 200
            run.tell("read")
        assert peer.read_message().body == b"answer"

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        for number, head in enumerate(heads, 1):
            peer.send(head)
            run.wait("read", number)
        peer.send(response(b"answer"))

    both = twice(stage, client, origin)
    assert_same_responses(both)
    recorded = stage.only(both.origin)
    assert (recorded.facts["status"], recorded.facts["reason"], recorded.response) == (200, "OK", b"answer")
    hints = [("Link", "</a>"), ("link", "</b>; rel=preload"), ("X-Empty", ""), ("X-Name", "J\xfcrgen")]
    assert [headers for side, headers in recorded.heads if side == 1][:2] == [hints, hints]


def test_they_may_be_cut_anywhere(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        _read(peer.send(request(run.at(), b"{}")), b"POST")

    def origin(peer: Peer, run: Run) -> None:
        peer.read_message()
        peer.send_bytewise(_CONTINUE + _HINTS + _PROCESSING + response(b"answer"))

    assert_same_responses(twice(stage, client, origin))


def test_they_come_while_the_request_is_still_on_its_way(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, b"Content-Length: 10"), b"01234")
        assert peer.read_message().status == 103
        peer.send(b"56789")
        assert peer.read_message().body == b"answer"

    def origin(peer: Peer, run: Run) -> None:
        peer.read_head()
        assert peer.read_exactly(5) == b"01234"
        peer.send(_HINTS)
        assert peer.read_exactly(5) == b"56789"
        peer.send(response(b"answer"))

    assert_same_responses(twice(stage, client, origin))


@pytest.mark.parametrize("name", INTERIM)
def test_a_client_of_http_1_0_does_not_know_them(stage: Stage, name: str) -> None:
    """It would take the first for its answer (RFC 9110, 15.2)."""

    def origin(peer: Peer) -> None:
        peer.read_message()
        peer.send(*INTERIM[name], response(b"answer"))

    with stage.origin(origin) as upstream, stage.client() as client:
        client.send(request(upstream.at(), b"{}").replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = client.read_message()
        assert (answer.status, answer.body) == (200, b"answer")
        interim = [int(head.split(b" ")[1]) for head in INTERIM[name]]
        assert _statuses(stage, upstream) == [[*interim, 200]]


def test_one_that_nothing_follows_is_no_answer(stage: Stage) -> None:
    """The client has it, and then hears of the failure."""

    def origin(peer: Peer) -> None:
        peer.read_message()
        peer.send(_HINTS)

    with stage.origin(origin) as upstream, stage.client() as client:
        client.send(request(upstream.at(), b"{}"))
        assert [client.read_message().status for _ in range(2)] == [103, 502]
        recorded = stage.only(upstream)
        assert (recorded.outcome, recorded.facts["status"]) == ("upstream_failed", None)
        assert len(upstream.peers) == 1

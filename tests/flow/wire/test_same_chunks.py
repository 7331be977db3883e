"""Chunks of an upload arrive as they were meant; one that is malformed breaks the request, wherever it stands."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import (
    Actor,
    Both,
    Run,
    assert_same_requests,
    assert_same_responses,
    error_type,
    twice,
)
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Body, Stage, chunk, request, response
from tests.support.rawhttp import End, Ended, Peer

FIRST = b"the first chunk"
CHUNKED = b"Transfer-Encoding: chunked"

FORMS: dict[str, tuple[bytes, bytes]] = {
    "plain": (b"5\r\nhello\r\n" + LAST_CHUNK, b"hello"),
    "none": (LAST_CHUNK, b""),
    "a hexadecimal size in lower case": (b"a\r\n0123456789\r\n" + LAST_CHUNK, b"0123456789"),
    "a hexadecimal size in upper case": (b"A\r\n0123456789\r\n" + LAST_CHUNK, b"0123456789"),
    "zeros before the size": (b"0000000005\r\nhello\r\n" + LAST_CHUNK, b"hello"),
    "zeros for the last": (b"5\r\nhello\r\n0000\r\n\r\n", b"hello"),
    "an extension": (b"5;a=b\r\nhello\r\n" + LAST_CHUNK, b"hello"),
    "an extension without a value": (b"5;a\r\nhello\r\n" + LAST_CHUNK, b"hello"),
    "an extension in quotes": (b'5;a="b c"\r\nhello\r\n' + LAST_CHUNK, b"hello"),
    "many extensions": (b"5;a=b;c=d;e\r\nhello\r\n" + LAST_CHUNK, b"hello"),
    "an extension of the last": (b"5\r\nhello\r\n0;a=b\r\n\r\n", b"hello"),
    "a chunk that looks like the last": (b"5\r\n0\r\n\r\n\r\n" + LAST_CHUNK, b"0\r\n\r\n"),
    "a chunk that looks like a request": (chunk(b"GET /x HTTP/1.1\r\n\r\n") + LAST_CHUNK, b"GET /x HTTP/1.1\r\n\r\n"),
    "chunks of one byte": (b"".join(chunk(b"%c" % octet) for octet in range(256)) + LAST_CHUNK, bytes(range(256))),
    "a large chunk": (chunk(b"x" * 200_000) + LAST_CHUNK, b"x" * 200_000),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_chunks(stage: Stage, name: str) -> None:
    """Twice on a connection: the second proves that the first was understood to its end."""
    data, body = FORMS[name]

    def client(peer: Peer, run: Run) -> None:
        for _ in range(2):
            peer.send(request(run.at(), None, CHUNKED), data)
            assert peer.read_message().status == 200

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)
    assert [each.body for each in both.proxied.requests] == [body, body]


def test_chunks_that_come_octet_by_octet(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED)).send_bytewise(
            b'5;a="b"\r\nhello\r\n0A\r\n0123456789\r\n' + LAST_CHUNK
        )
        assert peer.read_message().status == 200

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)


MALFORMED: dict[str, bytes] = {
    "0x before the size": b"0x5\r\nhello\r\n",
    "a negative size": b"-1\r\nhello\r\n",
    "a negative zero": b"-0\r\n\r\n",
    "a signed size": b"+5\r\nhello\r\n",
    "a blank between digits": b"5 5\r\nhello\r\n",
    "a blank before the size": b" 5\r\nhello\r\n",
    "a tab before the size": b"\t5\r\nhello\r\n",
    "an underscore": b"0_5\r\nhello\r\n",
    "17 digits": b"f" * 17 + b"\r\nhello\r\n",
    "17 digits that wrap to 5": b"10000000000000005\r\nhello\r\n",
    "200 digits": b"f" * 200 + b"\r\nhello\r\n",
    "no size": b"\r\nhello\r\n",
    "only an extension": b";a=b\r\nhello\r\n",
    "no digit": b"g\r\nhello\r\n",
    "a digit and none": b"5g\r\nhello\r\n",
    "a comma": b"5,5\r\nhello\r\n",
    "quotes": b'"5"\r\nhello\r\n',
    "a digit beyond ASCII": b"\xb2\r\nhello\r\n",
    "LF behind the size": b"5\nhello\r\n",
    "CR behind the size": b"5\rhello\r\n",
    "CR CR LF behind the size": b"5\r\r\nhello\r\n",
    "NUL behind the size": b"5\0\r\nhello\r\n",
    "NUL in an extension": b"5;a\0\r\nhello\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n",
    "no CRLF behind the chunk": b"5\r\nhello5\r\nworld\r\n",
    "LF behind the chunk": b"5\r\nhello\n5\r\nworld\r\n",
    "CR behind the chunk": b"5\r\nhello\r5\r\nworld\r\n",
    "a chunk longer than its size": b"5\r\nhello world\r\n",
    "a request behind the chunk": b"5\r\nhelloGET /x HTTP/1.1\r\n\r\n",
    "a last chunk with more behind": b"0\r\nnonsense\r\n\r\n",
    "LF behind the last size": b"0\n\r\n",
    "a space before a trailer's colon": b"0\r\nA : b\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: \0\r\n\r\n",
    "a trailer without a name": b"0\r\n: b\r\n\r\n",
    "a bare CR in a trailer": b"0\r\nA: b\rc\r\n\r\n",
    "LF behind a trailer": b"0\r\nA: b\n\r\n",
}
malformed = pytest.mark.parametrize("name", MALFORMED)


@malformed
def test_malformed_at_once(stage: Stage, name: str) -> None:
    """In one piece with the head: the upstream may have seen a beginning, but never a request."""
    data = MALFORMED[name]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), data)
        peer.read_to_end()

    both = twice(stage, client, _reading(data), settled=True)
    assert both.direct.connections[0].received.endswith(data)
    assert [seen.messages for seen in both.proxied.connections] in ([], [[]])
    _assert_refused(both)


@malformed
def test_malformed_in_the_midst(stage: Stage, name: str) -> None:
    """What the upstream has of it stays a part."""
    data = MALFORMED[name]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), chunk(FIRST))
        run.wait("the upstream has the first chunk")
        peer.send(data)
        peer.read_to_end()

    both = twice(stage, client, _reading(data, chunk(FIRST)), settled=True)
    assert both.direct.connections[0].received.endswith(data)
    _assert_broken(both)
    _assert_refused(both)
    assert stage.only(both.origin).outcome != "completed"


@pytest.mark.parametrize("name", ["a negative size", "no CRLF behind the chunk", "a folded trailer"])
def test_malformed_when_the_response_has_begun(stage: Stage, name: str) -> None:
    """Then it is too late for an answer, and the response is broken as well."""
    data = MALFORMED[name]

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), chunk(FIRST))
        _, headers = peer.read_head()
        Body(peer, headers).until(len(FIRST))
        peer.send(data)
        peer.read_to_end()

    both = twice(stage, client, _reading(data, chunk(FIRST), STREAM + chunk(FIRST)), settled=True)
    _assert_broken(both)
    assert_same_responses(both)
    assert both.proxied.responses == []
    assert stage.only(both.origin).outcome != "completed"


def test_malformed_when_the_response_was_complete(stage: Stage) -> None:
    """Nothing is added to it."""

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), None, CHUNKED), chunk(FIRST))
        peer.read_message()
        try:
            peer.send(b"nonsense\r\n")
        except Ended:
            pass  # it was let go already
        peer.read_to_end()

    both = twice(stage, client, _reading(b"nonsense\r\n", chunk(FIRST), response(b"early")), settled=True)
    _assert_broken(both)
    assert [each.body for each in both.proxied.responses] == [b"early"]
    assert (both.proxied.client.rest, both.proxied.client.ended) == (b"", End.FIN)


def _reading(data: bytes, first: bytes = b"", said: bytes = b"") -> Actor:
    """An origin that reads so much, if it ever comes, answers behind the `first` of it, and ends."""

    def origin(peer: Peer, run: Run) -> None:
        try:
            peer.read_head()
            peer.read_exactly(len(first))
            peer.send(said)
            run.tell("the upstream has the first chunk")
            peer.read_exactly(len(data))
        except Ended:
            return

    return origin


def _assert_broken(both: Both) -> None:
    """That the upstream's request ended in the midst; of a malformed chunk it may have what is right."""
    (seen,) = both.proxied.connections
    assert seen.messages == []
    assert seen.broken is not None
    assert seen.broken.body in (FIRST, FIRST + b"hello")
    assert seen.ended is not None


def _assert_refused(both: Both) -> None:
    (answer,) = both.proxied.responses
    assert (answer.status, error_type(answer)) == (400, "wiretape_bad_request")
    assert (both.proxied.client.rest, both.proxied.client.ended) == (b"", End.FIN)

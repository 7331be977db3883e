"""Which broken requests may be sent again: safe ones, without a body, on a connection that had waited, unanswered."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.wire.interface import UpstreamError
from tests.support.rawhttp import Peer, RawUpstream
from tests.unit.wire.listening import Ear, Run, begin, pool, request

FIRST = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Dying:
    """Answers the first request of its connection, and dies of the second, after it has said something perhaps."""

    def __init__(self, said: bytes = b"", *, reset: bool = False) -> None:
        self._said = said
        self._reset = reset

    def __call__(self, peer: Peer) -> None:
        peer.read_message()
        peer.send(FIRST)
        peer.read_head()
        peer.send(self._said)
        if self._reset:
            peer.rst()


async def failure(port: int, method: bytes, body: bytes = b"", *, complete: bool = True) -> UpstreamError:
    """Of the second request on a connection."""
    own, first, second = pool(port), Ear(), Ear()
    await begin(own, first, request(b"GET"))
    assert await first.finish() == ["head 200", "end"]
    asked = request(method, (b"Content-Length", b"5")) if body or not complete else request(method)
    await begin(own, second, asked, body, complete)
    await second.finish()
    own.close()
    assert second.error is not None
    return second.error


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_a_safe_request_that_nobody_answered(run: Run[Any], method: bytes, reset: bool) -> None:
    with RawUpstream(Dying(reset=reset)) as upstream:
        error = run(failure(upstream.port, method))
        assert len(upstream.peers) == 1, "it is for the caller to send it again"
    assert (error.code, error.retry) == ("closed", True)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"get", b"FROBNICATE"])
def test_any_other_may_have_been_done(run: Run[Any], method: bytes) -> None:
    with RawUpstream(Dying()) as upstream:
        error = run(failure(upstream.port, method))
    assert (error.code, error.retry) == ("closed", False)


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("body", [b"", b"abcde"])
def test_a_body_cannot_be_sent_again(run: Run[Any], body: bytes, complete: bool) -> None:
    with RawUpstream(Dying()) as upstream:
        error = run(failure(upstream.port, b"GET", body, complete=complete))
    assert error.retry is (complete and not body)


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 103 E\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"])
def test_a_byte_of_an_answer_is_one(run: Run[Any], said: bytes) -> None:
    with RawUpstream(Dying(said)) as upstream:
        assert run(failure(upstream.port, b"GET")).retry is False


def test_a_new_connection_was_no_mistake(run: Run[Any]) -> None:
    async def main() -> UpstreamError | None:
        own, ear = pool(upstream.port), Ear()
        await begin(own, ear, request(b"GET"))
        await ear.finish()
        own.close()
        return ear.error

    def script(peer: Peer) -> None:
        peer.read_message()

    with RawUpstream(script) as upstream:
        error = run(main())
    assert error is not None
    assert (error.code, error.retry) == ("closed", False)

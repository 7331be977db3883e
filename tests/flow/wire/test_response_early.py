"""An upstream that answers before it has read the request is heard, even if it closes with the rest of that unread."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Stage, chunk, request, response
from tests.support.rawhttp import DEADLINE, Ended, Message, Peer

TIMES = 30
UPLOAD = bytes(1 << 20)
WHY = b'{"error": {"message": "too large"}}'
ANSWERS: dict[str, bytes] = {
    "length": response(WHY, status=b"413 Content Too Large"),
    "Connection: close": response(WHY, b"Connection: close", status=b"413 Content Too Large"),
    "chunks": STREAM.replace(b"200 OK", b"413 Content Too Large") + chunk(WHY) + LAST_CHUNK,
}
_SIZE = b"Content-Length: %d" % len(UPLOAD)
_PIECES = b"".join(chunk(UPLOAD[at : at + 65536]) for at in range(0, len(UPLOAD), 65536)) + LAST_CHUNK
UPLOADS: dict[str, tuple[bytes, bytes]] = {
    "length": (_SIZE, UPLOAD),
    "chunks": (b"Transfer-Encoding: chunked", _PIECES),
}


def _uploaded(stage: Stage, head: bytes, body: bytes) -> Message:
    """The answer to an upload, which is sent and read for at the same time."""

    def send() -> None:
        with suppress(Ended):
            client.send(body)

    with stage.client() as client:
        client.send(head)
        sending = threading.Thread(target=send)
        sending.start()
        answer = client.read_message()
        sending.join(DEADLINE)
        assert not sending.is_alive()
        return answer


@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_came_is_not_lost_with_the_connection(stage: Stage, name: str, upload: str) -> None:
    """The write that fails behind the upstream's close must not take what is already here with it."""
    framing, body = UPLOADS[upload]

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(ANSWERS[name])  # and the close behind it is a reset: most of the upload is unread

    with stage.origin(script) as origin:
        for _ in range(TIMES):
            answer = _uploaded(stage, request(origin.at(), None, framing), body)
            assert (answer.status, answer.body) == (413, WHY), answer.body
            origin.wait_idle()  # or the next request might still go to the connection that is being closed
        recorded = stage.recorded(origin, TIMES)
        assert {(each.outcome, each.facts["status"], each.response) for each in recorded} == {("completed", 413, WHY)}
        assert len(origin.peers) == TIMES

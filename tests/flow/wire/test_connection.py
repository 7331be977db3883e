"""A client's connection goes on or ends as HTTP and the client want it, whatever the upstream does with its own."""

from __future__ import annotations

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Stage, chunk, request, response
from tests.support.rawhttp import End, Peer

LARGE = b"0123456789abcdef" * 300_000
ANSWERS = {
    "length": response(b"answer"),
    "chunks": STREAM + chunk(b"ans") + chunk(b"wer") + LAST_CHUNK,
    "until close": b"HTTP/1.1 200 OK\r\n\r\nanswer",
    "Connection: close": response(b"answer", b"Connection: close"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nanswer",
}


def once(answer: bytes) -> Answering:
    """For answers that end with their connection."""

    class Once(Answering):
        def __call__(self, peer: Peer) -> None:
            self.requests.append(peer.read_message())
            peer.send(answer)

    return Once()


@pytest.mark.parametrize("name", ANSWERS)
def test_it_stays_open_for_the_next_request(stage: Stage, name: str) -> None:
    with stage.origin(once(ANSWERS[name])) as origin, stage.client() as client:
        for _ in range(3):
            assert client.send(request(origin.at(), b"{}")).read_message().body == b"answer"
            assert not client.has_arrived()
            origin.wait_idle()


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"], ids=["HTTP 1.1", "HTTP 1.0"])
def test_it_ends_politely_when_the_client_wants_no_more(stage: Stage, name: str, version: bytes) -> None:
    """With a FIN: a client cannot take it for a response that broke off."""
    asked = [b"Connection: close"] if version == b"1.1" else []
    with stage.origin(once(ANSWERS[name])) as origin, stage.client() as client:
        client.send(request(origin.at(), b"{}", *asked).replace(b"HTTP/1.1", b"HTTP/" + version))
        assert client.read_message().body == b"answer"
        client.read_to_end()
        assert client.ended is End.FIN
        assert stage.only(origin).outcome == "completed"


@pytest.mark.parametrize("version", [b"1.1", b"1.0"], ids=["HTTP 1.1", "HTTP 1.0"])
def test_a_slow_client_gets_all_before_the_end(stage: Stage, version: bytes) -> None:
    with stage.origin(Answering(response(LARGE))) as origin, stage.client(receive_buffer=4096) as client:
        data = request(origin.at(), b"{}", b"Connection: close").replace(b"HTTP/1.1", b"HTTP/" + version)
        assert client.send(data).read_message().body == LARGE
        client.read_to_end()
        assert client.ended is End.FIN


def test_an_upstreams_close_is_not_the_clients(stage: Stage) -> None:
    """Nor the other way round: the upstream's connection outlives its client's."""
    script = Answering(response(b"answer"))
    with stage.origin(script) as origin:
        for _ in range(3):
            assert stage.exchange(request(origin.at(), b"{}", b"Connection: close")).body == b"answer"
        assert len(origin.peers) == 1
    assert all(message.all("connection") == [] for message in script.requests)


def test_what_is_left_of_an_upload_is_swallowed_behind_an_early_answer(stage: Stage) -> None:
    """Clients that read only after they have written get the answer; then the connection ends, without a reset."""

    def early(peer: Peer) -> None:
        peer.read_head()
        peer.send(response(b"too large", status=b"413 Content Too Large"))

    with stage.origin(early, Answering(response(b"next"))) as origin, stage.client() as client:
        asked = request(origin.at(), LARGE)
        client.send(asked[:-1000])
        answer = client.read_message()
        assert (answer.status, answer.body) == (413, b"too large")
        client.send(asked[-1000:]).read_to_end()
        assert client.ended is End.FIN
        assert stage.exchange(request(origin.at(), b"{}")).body == b"next"
        assert [each.outcome for each in stage.recorded(origin, 2)] == ["completed", "completed"]

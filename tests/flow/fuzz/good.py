"""Who behaves well while others do not: an upstream that echoes tokens, by which one exchange is told from another."""

from __future__ import annotations

import re
from itertools import count

from hypothesis import HealthCheck, Phase, settings

from tests.flow.wire.stage import Stage, request, response
from tests.support.rawhttp import Ended, Message, Peer, TooLate
from tests.support.running import alive, born

PATIENCE = 20.0  # seconds, for what takes milliseconds
TOKEN = re.compile(rb"<token-[0-9a-f]{8}>")
UPGRADE = (b"Upgrade: websocket", b"Connection: upgrade")
SWITCHED = b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *UPGRADE, b"", b""])

# A busy machine is no reason to fail; to make an example shorter takes too long where each try waits for a deadline.
house = settings(
    max_examples=300, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate]
)
_tokens = count(1)


def new_token() -> bytes:
    """One that no other exchange has."""
    return b"<token-%08x>" % next(_tokens)


def echo(peer: Peer) -> None:
    """A script that answers each request with its token, of which there may not be several; upgraded, with all."""
    try:
        while True:
            asked = peer.read_message()
            tokens = _tokens_of(asked)
            assert len(tokens) <= 1, f"requests were mixed up: {asked}"
            if asked.all("upgrade"):
                peer.send(SWITCHED)
                while True:
                    peer.send(peer.read_some())
            head, end, body = response(b"".join(tokens), b"X-Token: " + b"".join(tokens)).partition(b"\r\n\r\n")
            peer.send(head, end, b"" if asked.method == b"HEAD" else body)
    except (Ended, TooLate):
        return


def _tokens_of(message: Message) -> set[bytes]:
    fields = [name + b": " + value for name, value in (*message.headers, *message.trailers)]
    return set(TOKEN.findall(b"\n".join([message.start, *fields, message.body])))


class Sound:
    """That the worker lives on and has no fault of its own, since this was made."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._worker = stage.wiretape.pid("forward")
        self._since = born(self._worker)
        self._said = len(stage.wiretape.log)

    def check(self) -> None:
        assert alive(self._worker, self._since)
        assert "internal error" not in self._stage.wiretape.log[self._said :]


def ask(peer: Peer, target: bytes) -> None:
    """A good request gets its own answer."""
    token = new_token()
    answer = peer.send(request(target, token)).read_message()
    assert (answer.status, answer.body) == (200, token)

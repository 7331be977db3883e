"""What an upstream does with the requests of one connection, and says."""

from __future__ import annotations

from tests.support.rawhttp import Peer, Script

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH_2 = OK + b"Content-Length: 2\r\n\r\nok"


def answering(*pieces: bytes) -> Script:
    """Reads a request, sends the pieces, reads on until the other side ends."""

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(*pieces)
        peer.read_to_end()

    return script


def twice(answer: bytes) -> Script:
    """Answers two requests on one connection."""

    def script(peer: Peer) -> None:
        for _ in range(2):
            peer.read_message()
            peer.send(answer)
        peer.read_to_end()

    return script


def closing(*pieces: bytes) -> Script:
    """Reads a request, sends the pieces and closes."""

    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(*pieces)

    return script


def resetting(*pieces: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.read_message()
        peer.send(*pieces)
        peer.rst()

    return script

"""A recorded stream's request, sent over a bare socket, and all that came back."""

from __future__ import annotations

from typing import NamedTuple

from tests.support.rawhttp import connect
from tests.support.streams import Stream
from tests.support.websocket import handshake

KEY = b"sk-test-0123456789abcdefghij"


class Heard(NamedTuple):
    """What a client got: the exchange's id, and every byte but for the header that has it."""

    id: str
    received: bytes


def ask(port: int, stream: Stream, path: str = "") -> Heard:
    """Send the request to the upstream of the stream's dialect, and read until the connection ends, well or not.

    `path` stands before the upstream's name.
    """
    target = f"{path}/{stream.dialect}{stream.target}".encode()
    with connect(port) as client:
        if stream.socket:
            client.send(handshake(target, b"Authorization: Bearer " + KEY), stream.sent or b"")
        else:
            client.send(b"%s %s HTTP/1.1\r\nHost: h\r\n" % (stream.method.encode(), target))
            client.send(b"Authorization: Bearer %s\r\nConnection: close\r\n" % KEY)
            client.send(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(stream.request))
            client.send(stream.request)
        _, headers = client.read_head()
        while True:
            try:
                client.read_some()
            except AssertionError:  # it ended
                break
        received = bytes(client.received)
    line = next(b"%b: %b\r\n" % each for each in headers if each[0].lower() == b"x-wiretape-exchange")
    assert line in received
    return Heard(line.decode().partition(":")[2].strip(), received.replace(line, b"", 1))

"""A server that keeps each request as the bytes that came, and answers all alike."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass
class Heard:
    """One request: `headers` in order, latin-1."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Listening:
    """`heard` are the requests, each once."""

    port: int
    heard: SimpleQueue[Heard] = field(default_factory=SimpleQueue)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self) -> Heard:
        """The next one; it has come, or does within seconds."""
        return self.heard.get(timeout=5)


@contextmanager
def listening() -> Iterator[Listening]:
    """A server that serves while this is open."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        found = Listening(door.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(door, found.heard), daemon=True)
        thread.start()
        yield found
        door.shutdown(socket.SHUT_RDWR)
        thread.join(20)


def _serve(door: socket.socket, heard: SimpleQueue[Heard]) -> None:
    while True:
        try:
            connection = door.accept()[0]
        except OSError:  # the door is shut
            return
        with connection:
            connection.settimeout(20)
            try:
                heard.put(_read(connection))
                connection.sendall(ANSWER)
            except (OSError, ValueError):  # what is no request; who sent it says so
                continue


def _read(connection: socket.socket) -> Heard:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ")
    headers = [(name, value) for name, _, value in (each.partition(": ") for each in fields)]
    headers = [(name.removesuffix(":"), value) for name, value in headers]
    named = {name.lower(): value for name, value in headers}
    while len(body) < int(named.get("content-length", 0)):
        body += _more(connection)
    return Heard(method, target, headers, body)


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(2**20)
    if not data:
        raise ConnectionError("the client left")
    return data

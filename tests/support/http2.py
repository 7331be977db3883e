"""An upstream that speaks HTTP/2, by the library h2: a script is given each request, once it is whole.

Must not know the project's own code.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from tests.support import certificates
from tests.support.rawhttp import Peer, RawUpstream

Script = Callable[["Stream"], None]


def tls(certificate: Path) -> ssl.SSLContext:
    context = certificates.serving(certificate)
    context.set_alpn_protocols(["h2"])
    return context


class Stream:
    """One request, and the way back."""

    def __init__(self, connection: Connection, number: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers, self.body = headers, b""
        self.sent = 0
        self.number = number
        self.connection = connection

    def head(self, *headers: tuple[str, str], status: int = 200, end: bool = False) -> None:
        self.connection.h2.send_headers(self.number, [(":status", str(status)), *headers], end_stream=end)
        self.connection.flush()

    def data(self, data: bytes, *, end: bool = False) -> None:
        """Whatever the window: what does not fit waits for the other side."""
        own, at = self.connection.h2, 0
        while True:
            room = min(own.local_flow_control_window(self.number), own.max_outbound_frame_size, len(data) - at)
            if room or not data:
                own.send_data(self.number, data[at : at + room], end_stream=end and at + room == len(data))
                self.connection.flush()
                at += room
                self.sent += room
            if at == len(data):
                return
            if not room:
                self.connection.receive()

    def reset(self) -> None:
        self.connection.h2.reset_stream(self.number)
        self.connection.flush()


class Connection:
    def __init__(self, sock: socket.socket, script: Script, requests: list[Stream]) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self._sock = sock
        self._script = script
        self._requests = requests
        self._streams: dict[int, Stream] = {}
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self._sock.sendall(self.h2.data_to_send())

    def receive(self) -> bool:
        """Take in what comes next; False at the other side's end."""
        data = self._sock.recv(65536)
        if not data:
            return False
        whole = []
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._streams[event.stream_id] = Stream(self, event.stream_id, list(event.headers))
            elif isinstance(event, h2.events.DataReceived):
                self._streams[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                whole.append(self._streams[event.stream_id])
        self.flush()
        for stream in whole:
            self._requests.append(stream)
            self._script(stream)
        return True


class Http2Upstream(RawUpstream):
    """Gives each request to the script; `requests` has them all."""

    def __init__(self, script: Script, certificate: Path) -> None:
        super().__init__(self._serve, tls=tls(certificate))
        self.requests: list[Stream] = []
        self._each = script

    def _serve(self, peer: Peer) -> None:
        peer._sock.settimeout(20)
        connection = Connection(peer._sock, self._each, self.requests)
        try:
            while connection.receive():
                pass
        except OSError:
            return

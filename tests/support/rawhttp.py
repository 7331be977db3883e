"""HTTP on bare sockets: a client that sends the very bytes it is told, and an upstream that follows a script.

Both keep all that arrived and how the other side ended. Whatever waits has a deadline; nothing sleeps. Must not know
the project's own code.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

DEADLINE, IDLE = 20.0, 300.0  # seconds for a step, which only a defect takes; that a kept connection may wait
_BLOCK = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close with RST

RawHeaders = list[tuple[bytes, bytes]]


class End(Enum):
    """How the other side ended."""

    FIN = "fin"
    RST = "rst"


class Ended(AssertionError):
    """The other side ended before what was waited for had arrived, or while something was sent to it."""


class TooLate(AssertionError):
    """Something did not happen within its deadline."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it stood on the wire. `start` is its first line, `chunks` is None where it was not chunked."""

    start: bytes
    headers: RawHeaders
    body: bytes
    chunks: list[bytes] | None = None
    trailers: RawHeaders = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    @property
    def method(self) -> bytes:
        return self.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]

    def all(self, name: str) -> list[bytes]:
        """The values of a header in order, whatever its case."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def one(self, name: str) -> bytes | None:
        """The value of a header that may stand once at most."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None


class Peer:
    """One end of a connection, seen from the test's side. `received` is every byte that ever arrived."""

    def __init__(self, sock: socket.socket, deadline: float = DEADLINE) -> None:
        self.received = bytearray()
        self.sent = 0
        self.ended: End | None = None
        self._sock = sock
        self._deadline = deadline
        self._taken = 0  # of `received`, by the read methods
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Of the test's own side, to tell connections apart."""
        return int(self._sock.getsockname()[1])

    # Sending

    def send(self, *data: bytes) -> Self:
        """Send everything. Raises Ended, and TooLate where the other side does not read on."""
        rest = memoryview(b"".join(data))
        until = time.monotonic() + self._deadline
        while rest:
            count = self._send_some(rest, until)
            rest = rest[count:]
        return self

    def send_bytewise(self, data: bytes) -> Self:
        for at in range(len(data)):
            self.send(data[at : at + 1])
        return self

    def fill(self, data: bytes, patience: float = 0.5) -> int:
        """Send `data` over and over until nothing was taken for `patience` seconds: how much went, the last in part."""
        begun = self.sent
        while True:
            try:
                self._send_some(memoryview(data)[(self.sent - begun) % len(data) :], time.monotonic() + patience)
            except TooLate:
                return self.sent - begun

    def fin(self) -> Self:
        """No more will be sent; reading goes on (not with TLS)."""
        self._sock.shutdown(socket.SHUT_WR)
        return self

    def rst(self) -> None:
        """Close at once with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    def close(self) -> None:
        """A plain close: FIN, or RST where the kernel finds bytes that nobody read."""
        self._sock.close()

    # Receiving

    def read_until(self, marker: bytes) -> bytes:
        """What arrives next, up to and with `marker`. Raises Ended and TooLate."""
        until = time.monotonic() + self._deadline
        begin = self._taken
        while (at := self.received.find(marker, begin)) < 0:
            begin = max(self._taken, len(self.received) - len(marker) + 1)
            self._receive(until, f"{marker!r}")
        return self._take(at + len(marker) - self._taken)

    def read_exactly(self, size: int) -> bytes:
        until = time.monotonic() + self._deadline
        while len(self.received) - self._taken < size:
            self._receive(until, f"{size} bytes")
        return self._take(size)

    def read_some(self) -> bytes:
        """At least one byte: what is here, or else what arrives next."""
        until = time.monotonic() + self._deadline
        while len(self.received) == self._taken:
            self._receive(until, "anything")
        return self._take(len(self.received) - self._taken)

    def read_to_end(self) -> bytes:
        """All that arrives until the other side ends; `ended` tells how. Raises TooLate."""
        until = time.monotonic() + self._deadline
        while self.ended is None:
            try:
                self._receive(until, "its end")
            except Ended:
                break
        return self._take(len(self.received) - self._taken)

    def read_message(self, *, bodiless: bool = False) -> Message:
        """One request or response by its own framing; a response with none ends with the connection.

        `bodiless`: none follows, whatever the head says (a response to HEAD). Raises Ended, TooLate, ValueError.
        """
        start, headers = self.read_head()
        codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
        lengths = [int(value) for name, value in headers if name.lower() == b"content-length"]
        response = start.startswith(b"HTTP/")
        status = int(start.split(b" ")[1]) if response else 0
        if bodiless or 100 <= status < 200 or status in (204, 304):
            return Message(start, headers, b"")
        if codings:
            chunks, trailers = self._read_chunks()
            return Message(start, headers, b"".join(chunks), chunks, trailers)
        if lengths or not response:
            return Message(start, headers, self.read_exactly(lengths[0] if lengths else 0))
        return Message(start, headers, self.read_to_end())

    def read_head(self) -> tuple[bytes, RawHeaders]:
        """A start line and headers, values without the blanks around them; what follows stays unread."""
        start = self.read_until(b"\r\n")[:-2]
        return start, self._read_fields()

    def has_arrived(self, patience: float = 0.0) -> bool:
        """Whether anything is here to be read, or comes within `patience` seconds, the other side's end included."""
        return len(self.received) > self._taken or bool(select.select([self._sock], [], [], patience)[0])

    def wait_hung_up(self) -> None:
        """Until the other side has ended, without reading what it sent. Raises TooLate."""
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        if not poll.poll(self._deadline * 1000):
            raise TooLate(f"the other side did not hang up within {self._deadline:g} s")

    # Inside

    def _send_some(self, data: memoryview, until: float) -> int:
        self._sock.settimeout(max(until - time.monotonic(), 0.001))
        try:
            count = self._sock.send(data)
        except TimeoutError:
            raise TooLate("the other side stopped reading") from None
        except (ConnectionError, ssl.SSLError) as error:
            raise Ended(f"the other side was gone while it was sent to ({error})") from None
        self.sent += count
        return count

    def _receive(self, until: float, wanted: str) -> None:
        if self.ended is not None:
            raise Ended(f"waited for {wanted}, but {self._unread()} came and then {self.ended.name}")
        self._sock.settimeout(max(until - time.monotonic(), 0.001))
        try:
            data = self._sock.recv(_BLOCK)
        except TimeoutError:
            raise TooLate(f"waited for {wanted} for {self._deadline:g} s, but only {self._unread()} came") from None
        except (ConnectionError, ssl.SSLError):
            self.ended = End.RST
        else:
            self.received += data
            if not data:
                self.ended = End.FIN
        if self.ended is not None:
            raise Ended(f"waited for {wanted}, but {self._unread()} came and then {self.ended.name}")

    def _unread(self) -> str:
        rest = bytes(self.received[self._taken :])
        return repr(rest) if len(rest) <= 400 else f"{rest[:200]!r}…{rest[-200:]!r}"

    def _take(self, size: int) -> bytes:
        begin, self._taken = self._taken, self._taken + size
        return bytes(memoryview(self.received)[begin : self._taken])

    def _read_fields(self) -> RawHeaders:
        fields: RawHeaders = []
        while line := self.read_until(b"\r\n")[:-2]:
            name, _, value = line.partition(b":")
            fields.append((name, value.strip(b" \t")))
        return fields

    def _read_chunks(self) -> tuple[list[bytes], RawHeaders]:
        chunks: list[bytes] = []
        while size := int(self.read_until(b"\r\n")[:-2].partition(b";")[0], 16):
            chunks.append(self.read_exactly(size))
            assert self.read_exactly(2) == b"\r\n", "a chunk is longer than it says"
        return chunks, self._read_fields()


def connect(
    port: int, *, deadline: float = DEADLINE, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None
) -> Peer:
    """A client. With a small `receive_buffer` (bytes) it holds the sender back as soon as it does not read. With `tls`
    a FIN is the other side's close alert, and any other end is told as RST."""
    sock = socket.socket()
    try:
        if receive_buffer is not None:  # before connecting, or the window is agreed on already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(deadline)
        sock.connect(("127.0.0.1", port))
        if tls is None:
            return Peer(sock, deadline)
        return Peer(tls.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False), deadline)
    except BaseException:
        sock.close()
        raise


Script = Callable[[Peer], None]


class RawUpstream:
    """Listens on `port` (or a free one) and gives each connection to a script, which runs in a thread of its own.

    The n-th connection gets the n-th script, all later ones the last. A script that returns has its connection closed
    (FIN), unless it ended it itself. Leaving the `with` block breaks what still runs and raises what a script raised.
    """

    def __init__(
        self,
        *scripts: Script,
        port: int = 0,
        deadline: float = DEADLINE,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.peers: list[Peer] = []
        self._scripts: Sequence[Script] = scripts
        self._deadline = deadline
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port: int = self._listener.getsockname()[1]
        self._errors: list[BaseException] = []
        self._changed = threading.Condition()
        self._closing = False
        self._running: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="accept", daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._changed:
            self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`, which a close would not
        self._acceptor.join(self._deadline)
        self._listener.close()
        for peer in self.peers:
            try:
                peer._sock.shutdown(socket.SHUT_RDWR)  # wakes a script that waits
            except OSError:
                pass  # ended already
        for thread in self._running:
            thread.join(self._deadline)
            assert not thread.is_alive(), "a script does not end"
        if self._errors and error is None:
            raise self._errors[0]
        if self._errors and error is not None:
            error.add_note(f"the upstream's script failed as well: {self._errors[0]!r}")

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def wait_connections(self, count: int) -> None:
        """Until so many connections were accepted. Raises TooLate."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.peers) >= count, self._deadline):
                raise TooLate(f"{len(self.peers)} connections came, not {count}")

    def wait_idle(self) -> None:
        """Until every script that was started has returned. Raises TooLate."""
        until = time.monotonic() + self._deadline
        with self._changed:
            running = list(self._running)
        for thread in running:
            thread.join(max(until - time.monotonic(), 0.001))
            if thread.is_alive():
                raise TooLate("a script does not end")

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                if self._closing:
                    sock.close()
                    return
                script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
                peer = Peer(sock, self._deadline)
                thread = threading.Thread(target=self._run, args=(script, peer), name="script", daemon=True)
                self._running.append(thread)
                self.peers.append(peer)
                thread.start()
                self._changed.notify_all()

    def _run(self, script: Script, peer: Peer) -> None:
        try:
            if self._tls is not None:
                peer._sock.settimeout(self._deadline)
                peer._sock = self._tls.wrap_socket(peer._sock, server_side=True)
            script(peer)
        except BaseException as error:  # noqa: BLE001 - handed over to the test's own thread
            if not self._closing:
                self._errors.append(error)
        finally:
            peer.close()


def until(condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Wait for what no event announces, such as a file or another process's counter. Raises TooLate."""
    tick = threading.Event()
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TooLate(f"{what}: not within {deadline:g} s")
        tick.wait(0.005)


def chunked(*chunks: bytes, trailers: RawHeaders | None = None) -> bytes:
    """Chunks on the wire, with the last one."""
    parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    fields = [b"%b: %b\r\n" % pair for pair in trailers or []]
    return b"".join([*parts, b"0\r\n", *fields, b"\r\n"])

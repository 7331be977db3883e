"""An upstream and clients for times when processes die: streams without end, and what of them arrived where.

Must not know what is recorded, or how.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.rawhttp import Ended, Peer, TooLate, connect

PATIENCE = 60.0
PACE = 0.004  # seconds between two events
STREAM = b"/stream"
UPLOAD = b"/upload"

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LENGTH_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"


def event(number: int, size: int = 0) -> bytes:
    """The n-th event of a stream, padded to about `size` bytes."""
    text = b'data: {"n": %d, "text": "' % number
    return text + b"word " * max(1, (size - len(text)) // 5) + b'"}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Dechunker:
    """Takes chunked framing off as it comes, also off a chunk that never becomes whole."""

    def __init__(self) -> None:
        self.complete = False
        self._line = b""
        self._left = 0  # of the chunk, its line end included

    def feed(self, data: bytes) -> bytes:
        body = bytearray()
        while data and not self.complete:
            if self._left:
                part, data = data[: self._left], data[self._left :]
                body += part[: max(0, self._left - 2)]
                self._left -= len(part)
                continue
            line, found, rest = data.partition(b"\n")
            self._line += line + found
            data = rest
            if found:
                size, self._line = int(self._line, 16), b""
                self._left = size + 2 if size else 0
                self.complete = not size
        return bytes(body)


class Provider:
    """What an upstream does on each connection; the target says what: `/stream…` sends events until `finish` is set,
    `/upload…` reads a body and says how long it was, everything else is answered with `answer`.

    `seen` are the targets that came, `uploads` the body bytes of each as they came.
    """

    def __init__(self, answer: bytes = b'{"ok": true}', event_size: int = 0) -> None:
        self.seen: list[bytes] = []
        self.uploads: dict[bytes, bytearray] = {}
        self.finish = threading.Event()
        self.answer = answer
        self._event_size = event_size

    def __call__(self, peer: Peer) -> None:
        try:
            while self._serve(peer):
                pass
        except (Ended, TooLate):
            return

    def _serve(self, peer: Peer) -> bool:
        """One request; whether the connection goes on."""
        start, headers = peer.read_head()
        target = start.split(b" ")[1]
        self.seen.append(target)
        if any(name.lower() == b"transfer-encoding" for name, _ in headers):
            self._upload(peer, target)
            return False
        for name, value in headers:
            if name.lower() == b"content-length":
                self.uploads[target] = bytearray(peer.read_exactly(int(value)))
        if target.startswith(STREAM):
            self._stream(peer)
        else:
            answer = self.answer_to(bytes(self.uploads.get(target, b"")))
            peer.send(_LENGTH_HEAD % len(answer), b"\r\n", answer)
        return True

    def answer_to(self, body: bytes) -> bytes:
        """What a request with this body is answered with."""
        return self.answer

    def _upload(self, peer: Peer, target: bytes) -> None:
        body = self.uploads.setdefault(target, bytearray())
        framing = Dechunker()
        while not framing.complete:
            body += framing.feed(peer.read_some())
        text = b"%d" % len(body)
        peer.send(_LENGTH_HEAD % len(text), b"Connection: close\r\n\r\n", text)

    def _stream(self, peer: Peer) -> None:
        peer.send(_STREAM_HEAD)
        for number in itertools.count():
            peer.send(chunk(event(number, self._event_size)))
            if self.finish.wait(PACE):
                break
        peer.send(b"0\r\n\r\n")


@dataclass(slots=True)
class Heard:
    """What a client has of one exchange. `id` is wiretape's word for it, None where not even a head came."""

    target: bytes
    id: str | None = None
    status: int | None = None
    body: bytes = b""
    complete: bool = False
    over: bool = False


class Caller:
    """One client on a thread: a request, what comes of it, the next request, until `stop`.

    `uploads` makes it send bodies that grow until `stop`, else it reads streams. `heard` are all its exchanges.
    """

    def __init__(self, port: int, name: str, *, upstream: str = "up", uploads: bool = False) -> None:
        self.heard: list[Heard] = []
        self.sent: dict[bytes, int] = {}
        self._port = port
        self._name = name
        self._upstream = upstream.encode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(uploads,), name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No further request; what runs goes on to its end, an upload ends at once."""
        self._stop.set()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"{self._name} does not end"

    def _run(self, uploads: bool) -> None:
        act = self._upload if uploads else self._stream
        for number in itertools.count():
            if self._stop.is_set():
                return
            target = b"%b/%b/%d" % (UPLOAD if uploads else STREAM, self._name.encode(), number)
            heard = Heard(target)
            self.heard.append(heard)
            try:
                with connect(self._port, deadline=PATIENCE) as peer:
                    act(peer, heard)
            except (Ended, OSError):
                # Where a process died; what arrived before is in `heard`. Not at once again: it may be dead still.
                self._stop.wait(PACE)
            heard.over = True
            if heard.status == 503:
                self._stop.wait(PACE)

    def _stream(self, peer: Peer, heard: Heard) -> None:
        peer.send(b"GET /%b%b HTTP/1.1\r\nHost: test\r\n\r\n" % (self._upstream, heard.target))
        self._read(peer, heard)

    def _upload(self, peer: Peer, heard: Heard) -> None:
        head = b"POST /%b%b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        peer.send(head % (self._upstream, heard.target))
        for number in itertools.count():
            peer.send(chunk(event(number)))
            if self._stop.wait(PACE):
                break
        peer.send(b"0\r\n\r\n")
        self._read(peer, heard)

    def _read(self, peer: Peer, heard: Heard) -> None:
        start, headers = peer.read_head()
        found = {name.lower(): value for name, value in headers}
        heard.status = int(start.split(b" ")[1])
        heard.id = found.get(b"x-wiretape-exchange", b"").decode() or None
        if b"content-length" in found:
            heard.body = peer.read_exactly(int(found[b"content-length"]))
        framing = Dechunker()
        while b"transfer-encoding" in found and not framing.complete:
            heard.body += framing.feed(peer.read_some())
        heard.complete = True


class Crowd:
    """Several callers at once; leaving the block stops them all and waits for their ends.

    `finish` must make the upstream end its streams.
    """

    def __init__(
        self, port: int, finish: Callable[[], None], *, streams: int, uploads: int = 0, name: str = ""
    ) -> None:
        self.callers = [Caller(port, f"{name}s{number}") for number in range(streams)]
        self.callers += [Caller(port, f"{name}u{number}", uploads=True) for number in range(uploads)]
        self._finish = finish

    def __enter__(self) -> Self:
        for caller in self.callers:
            caller.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for caller in self.callers:
            caller.stop()
        self._finish()
        for caller in self.callers:
            caller.join()

    @property
    def heard(self) -> list[Heard]:
        return [heard for caller in self.callers for heard in list(caller.heard)]

    def wait_flowing(self, least: int = 3) -> list[Heard]:
        """Until every stream that runs has brought `least` events more than now; those streams."""
        deadline = time.monotonic() + PATIENCE
        before = {id(heard): len(heard.body) for heard in self.heard}
        tick = threading.Event()
        while True:
            latest = [caller.heard[-1] for caller in self.callers if caller.heard]
            streams = [heard for heard in latest if heard.target.startswith(STREAM)]
            grown = [len(each.body) - before.get(id(each), 0) for each in streams]
            if streams and min(grown) >= least * len(event(0)):
                return streams
            assert time.monotonic() < deadline, "not every stream flows"
            tick.wait(PACE)


class Clients:
    """Threads that ask until the block ends. `run` is one of them, told its number; what it raises fails the block."""

    def __init__(self, count: int, run: Callable[[int], None]) -> None:
        self.failures: list[BaseException] = []
        self.stop = threading.Event()
        self._run = run
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise what a client met."""
        if self.failures:
            raise self.failures[0]

    def _work(self, number: int) -> None:
        try:
            self._run(number)
        except BaseException as error:  # noqa: BLE001 - handed over to the test's own thread
            self.failures.append(error)

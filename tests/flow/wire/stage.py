"""A wiretape with many upstreams, whose ports each test gives to scripts of its own, and what it recorded.

Upstreams are taken in turn, so that no connection or row of the test before can be taken for one's own.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from proxy.replay.answer import load
from proxy.store.engine import let_go, open_engine
from tests.support.rawhttp import DEADLINE, Ended, Message, Peer, RawHeaders, RawUpstream, Script, connect
from tests.support.running import Running, serving, wait_for

UPSTREAMS: dict[str, tuple[int, str, str]] = {
    "plain": (64, "http://127.0.0.1:{port}", ""),
    "based": (16, "http://127.0.0.1:{port}/base/v2", ""),
    "tls": (8, "https://localhost:{port}", "connect_timeout = '60s'"),
    "drain": (12, "http://127.0.0.1:{port}", "on_client_leave = 'drain'"),
    "crowded": (2, "http://127.0.0.1:{port}", "connect_timeout = '500ms'"),
    "impatient": (6, "http://127.0.0.1:{port}", "first_byte_timeout = '500ms'"),
    "restless": (4, "http://127.0.0.1:{port}", "idle_timeout = '2s'"),
    "meta": (4, "http://127.0.0.1:{port}", "record = 'meta'"),
    "none": (4, "http://127.0.0.1:{port}", "record = 'none'"),
    "asked": (2, "http://127.0.0.1:{port}", "stream_usage = 'ask'"),
    "kept": (3, "http://127.0.0.1:{port}", "keep_alive = '1s'"),
    "kept-asked": (2, "http://127.0.0.1:{port}", "keep_alive = '1s'\nstream_usage = 'ask'"),
    "anthropic": (2, "http://127.0.0.1:{port}", "dialect = 'anthropic'"),
    "gemini": (2, "http://127.0.0.1:{port}", "dialect = 'gemini'"),
    "cohere": (2, "http://127.0.0.1:{port}", "dialect = 'cohere'"),
    "bedrock": (2, "http://127.0.0.1:{port}", "dialect = 'bedrock'"),
    "mistral": (2, "http://127.0.0.1:{port}", "dialect = 'mistral'"),
    "ollama": (2, "http://127.0.0.1:{port}", "dialect = 'ollama'"),
}
"""How many of each kind there are, their address and what else is configured for them."""

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
HOST = b"wiretape.test"


def request(target: bytes, body: bytes | None = None, *headers: bytes, method: bytes = b"POST") -> bytes:
    """A request on the wire; with a body it has a Content-Length. `headers` are whole lines."""
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: " + HOST, *headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body or b""])


def response(body: bytes = b"{}", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A response on the wire with a Content-Length."""
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"", body])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Answering:
    """A script that gives every request of its connections the same answer, and keeps the requests."""

    def __init__(self, answer: bytes = response()) -> None:
        self.requests: list[Message] = []
        self._answer = answer

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                self.requests.append(peer.read_message())
                peer.send(self._answer)
        except Ended:
            return


class Body:
    """A response's body as it arrives at the client; `data` is what of it was read so far."""

    def __init__(self, peer: Peer, headers: RawHeaders) -> None:
        self.data = bytearray()
        self._peer = peer
        names = {name.lower(): value for name, value in headers}
        self._chunked = names.get(b"transfer-encoding") == b"chunked"
        self._length = int(names[b"content-length"]) if b"content-length" in names else None

    def until(self, size: int) -> bytes:
        """Read on until so many bytes are there. Raises Ended and TooLate."""
        while len(self.data) < size:
            assert self.more(), f"the body ended after {len(self.data)} bytes"
        return bytes(self.data)

    def more(self) -> bool:
        """Read a piece; False where the body was complete."""
        if self._chunked:
            size = int(self._peer.read_until(b"\r\n")[:-2], 16)
            self.data += self._peer.read_exactly(size)
            assert self._peer.read_exactly(2) == b"\r\n"
            return size > 0
        if self._length is not None and len(self.data) >= self._length:
            return False
        self.data += self._peer.read_some()
        return True

    def rest(self) -> bytes:
        """Read to the body's end. Raises Ended where it breaks off."""
        while self.more():
            pass
        return bytes(self.data)


@dataclass(frozen=True)
class Slot:
    """A configured upstream; what belongs to its present user began at `since_us` (since 1970) or later."""

    name: str
    port: int
    since_us: int


class Origin(RawUpstream):
    """A configured upstream that listens: `name` is the first segment of what goes to it."""

    def __init__(self, slot: Slot, scripts: Sequence[Script], **options: Any) -> None:
        super().__init__(*scripts, port=slot.port, **options)
        self.name = slot.name
        self.since_us = slot.since_us

    def at(self, rest: bytes = b"/v1/x") -> bytes:
        """The target by which the data port reaches `rest` here."""
        return b"/%b%b" % (self.name.encode(), rest)


@dataclass(frozen=True)
class Recorded:
    """What the database has of one exchange. `facts` are the columns of `exchange_list`; `heads` are sides and headers
    in order, `chunks` sides and bytes."""

    facts: dict[str, Any]
    heads: list[tuple[int, list[tuple[str, str]]]]
    chunks: list[tuple[int, bytes]]
    changes: list[dict[str, Any]]
    tags: list[tuple[str, str]]
    gaps: int

    @property
    def id(self) -> str:
        return str(self.facts["id"])

    @property
    def outcome(self) -> str:
        return str(self.facts["outcome"])

    def body(self, side: int) -> bytes:
        return b"".join(data for each, data in self.chunks if each == side)

    @property
    def request(self) -> bytes:
        return self.body(0)

    @property
    def response(self) -> bytes:
        return self.body(1)

    def headers(self, side: int) -> list[tuple[str, str]]:
        """Of the last head of a side."""
        return [headers for each, headers in self.heads if each == side][-1]


class Stage:
    """A running wiretape and its upstreams, by kind."""

    def __init__(self, wiretape: Running, free: dict[str, list[tuple[str, int]]]) -> None:
        self.wiretape = wiretape
        self.port = int(wiretape.url.rpartition(":")[2])
        self._free = free

    def take(self, kind: str = "plain") -> Slot:
        """An upstream at which nobody listens; of those of a kind the one that was taken longest ago."""
        name, port = taken = self._free[kind].pop(0)
        self._free[kind].append(taken)
        return Slot(name, port, time.time_ns() // 1000)

    def origin(self, *scripts: Script, kind: str = "plain", **options: Any) -> Origin:
        """An upstream that follows scripts, as a context manager; the options are RawUpstream's."""
        return Origin(self.take(kind), scripts, **options)

    def client(self, deadline: float = DEADLINE, receive_buffer: int | None = None) -> Peer:
        """A connection to the data port."""
        return connect(self.port, deadline=deadline, receive_buffer=receive_buffer)

    def fill_up(self, client: Peer, data: bytes) -> int:
        """Send `data` again and again until the worker reads no more, though its kernel would take it, so that a FIN
        behind it arrives; how often it was sent."""
        standing = count = 0
        while standing < 10:
            client.send(data)
            count += 1
            standing = 0
            while (unread := _unread(self.port, client.port)) and standing < 10:
                threading.Event().wait(0.05)
                standing = standing + 1 if _unread(self.port, client.port) == unread else 0
        return count

    def exchange(self, *data: bytes) -> Message:
        """Send a request on a connection of its own; the response to it."""
        with self.client() as client:
            return client.send(*data).read_message(bodiless=data[0].startswith(b"HEAD"))

    def recorded(self, origin: Origin | Slot, count: int = 1) -> list[Recorded]:
        """The exchanges with an upstream, the oldest first, once there are `count` and all of them are interpreted."""
        name = origin.name
        database = self.wiretape.home / "wiretape.db"

        def ended() -> list[Recorded]:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
                connection.row_factory = sqlite3.Row
                query = "SELECT * FROM exchange_list WHERE upstream = ? AND started_us >= ? ORDER BY id"
                rows = connection.execute(query, (name, origin.since_us)).fetchall()
                if len(rows) < count or any(row["interpreter"] is None for row in rows):
                    return []
                return [_load(connection, row) for row in rows]

        found = wait_for(ended, f"{count} recorded exchanges with {name}") if count else ended()
        assert len(found) == count
        return found

    def only(self, origin: Origin | Slot) -> Recorded:
        """The one exchange with an upstream."""
        return self.recorded(origin)[0]

    def played(self, exchange: str) -> bytes:
        """The body that playback answers with in its place."""
        engine = open_engine(f"sqlite:///{self.wiretape.home / 'wiretape.db'}", create=False)
        try:
            answer = load(engine, UUID(exchange))
        finally:
            let_go(engine)
        assert answer is not None
        return b"".join(data for _, data in answer.chunks)


def _unread(local: int, remote: int) -> int:
    """Bytes that wait in the kernel for the worker to read them from a client."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, _, queues, *_ = line.split()
        if (int(here.partition(":")[2], 16), int(there.partition(":")[2], 16)) == (local, remote):
            return int(queues.partition(":")[2], 16)
    return 0


def _load(connection: sqlite3.Connection, row: sqlite3.Row) -> Recorded:
    key = (row["exchange_id"],)
    heads: dict[int, tuple[int, list[tuple[str, str]]]] = {}
    query = "SELECT seq, side, name, value FROM headers WHERE exchange_id = ? ORDER BY seq, position"
    for seq, side, name, value in connection.execute(query, key):
        heads.setdefault(seq, (side, []))[1].append((name, value))
    chunks = connection.execute("SELECT side, data FROM chunks WHERE exchange_id = ? ORDER BY seq", key)
    changes = connection.execute("SELECT data FROM changes WHERE exchange_id = ? ORDER BY seq", key)
    tags = connection.execute("SELECT name, value FROM tags WHERE exchange_id = ? ORDER BY name, value", key)
    gaps = connection.execute("SELECT count(*) FROM gaps WHERE exchange_id = ?", key)
    return Recorded(
        facts=dict(row),
        heads=list(heads.values()),
        chunks=[(side, data) for side, data in chunks],
        changes=[json.loads(data) for (data,) in changes],
        tags=[(name, value) for name, value in tags],
        gaps=gaps.fetchone()[0],
    )


@contextmanager
def staged(
    folder: Path, config: str = "", upstreams: int | None = None, variables: dict[str, str] | None = None
) -> Iterator[Stage]:
    """A stage of its own; `config` stands before the upstreams, of which there are at most `upstreams` of a kind."""
    free: dict[str, list[tuple[str, int]]] = {}
    text = ["forward.shutdown_grace = '1s'", config]
    kept: list[socket.socket] = []
    try:
        for kind, (count, url, more) in UPSTREAMS.items():
            for number in range(count if upstreams is None else min(count, upstreams)):
                name, port = f"{kind}-{number}", _keep_port(kept)
                free.setdefault(kind, []).append((name, port))
                text.append(f"[upstreams.{name}]\nurl = '{url.format(port=port)}'\n{more}")
        with serving(folder, config="\n".join(text), variables=variables) as wiretape:
            yield Stage(wiretape, free)
    finally:
        for sock in kept:
            sock.close()


def _keep_port(kept: list[socket.socket]) -> int:
    """A port that is ours, though nobody listens there until a test does."""
    sock = socket.socket()
    kept.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return int(sock.getsockname()[1])

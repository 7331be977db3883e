"""The seams of a relay: what a client's side and an upstream's side offer to it, and what it hears from each.

Everything here is synchronous and runs in the event loop's thread; only opening a connection awaits. What is written
stays back until `flush`, so that what belongs together goes out in one write.
Must not know journal, providers, settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class ClientRequest:
    """A request head as it came, octet by octet; `version` is `1.0` or `1.1`.

    The body is `chunked`, or `length` bytes long, or (None) there is none. `upgrade`: the client asks for another
    protocol, and it is one that may be passed on. `awaits_continue`: its body may wait for a 100. `length_at` is the
    place of the Content-Length among the headers, -1: there is none. `known`: heads that differ in nothing but that
    field's value share it.
    """

    method: bytes
    target: bytes
    version: str
    headers: RawHeaders
    chunked: bool = False
    length: int | None = None
    keep_alive: bool = True
    upgrade: bool = False
    takes_trailers: bool = False
    awaits_continue: bool = False
    length_at: int = -1
    known: KnownHead | None = field(default=None, compare=False, repr=False)


class KnownHead:
    """A head that came before. `memo` is for whoever works something out from it, with itself as `owner`."""

    __slots__ = ("first", "memo", "owner")

    def __init__(self, first: ClientRequest) -> None:
        self.first = first
        self.owner: object = None
        self.memo: object = None


class RequestError(Exception):
    """What a client sent cannot be taken. `kind` is a stable word, the text says what is wrong and quotes nothing."""

    def __init__(self, status: int, kind: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind


@dataclass(slots=True)
class UpstreamRequest:
    """A request as it goes on the wire. `target` is the raw request target, `head` the whole head with its empty line;
    `chunked` says how the body is framed (else by a Content-Length, or there is none); `upgrade`: a 101 may answer it.
    """

    method: bytes
    target: bytes
    head: bytes
    chunked: bool
    upgrade: bool = False


@dataclass(slots=True)
class UpstreamResponse:
    """A response head as it came; `bodiless` where no body follows whatever the headers say (HEAD, 1xx, 204, 304)."""

    status: int
    reason: bytes
    headers: RawHeaders
    bodiless: bool


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; None waits for ever (models may think for many minutes)."""

    connect: float | None = 10.0
    first_byte: float | None = None
    idle: float | None = None


class UpstreamError(Exception):
    """The upstream failed. `code` is a stable word (`connect`, `connect_timeout`, `tls`, `closed`, `malformed`,
    `timeout`, `reset`, `incomplete`; `proxy` where it is the proxy on the way that failed; `credentials` where there
    are none to ask it with); the text says what happened and holds nothing that a request carried.

    `retry`: the connection had waited in the pool and ended without a byte of an answer, and the request may be sent
    again by the rules of RFC 9110, 9.2.2.
    """

    def __init__(self, code: str, text: str, *, retry: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.retry = retry


# The upstream's side


class UpstreamListener(Protocol):
    """Who hears the upstream's side of one exchange. After `on_end` or `on_broken` only `flush` comes.

    After `on_upgraded` chunks are the bytes of a tunnel, and `on_end` says that the upstream sends no more.
    """

    def on_interim(self, response: UpstreamResponse) -> None:
        """A 1xx head other than 101; the final one is still to come."""

    def on_head(self, response: UpstreamResponse) -> None: ...

    def on_upgraded(self, response: UpstreamResponse) -> None:
        """A 101 that was asked for."""

    def on_chunk(self, data: bytes) -> None:
        """Body bytes of one socket read, framing removed, joined; never empty."""

    def on_data(self, data: bytes) -> None:
        """As `on_chunk` and `flush`: a socket read that held body bytes and nothing else."""

    def on_end(self, trailers: RawHeaders) -> None:
        """The response is complete by its own framing."""

    def on_broken(self, error: UpstreamError) -> None:
        """The response ended without being complete. No `flush` follows."""

    def flush(self) -> None:
        """All that one socket read held has been told."""

    def pause_upload(self) -> None:
        """The upstream reads slower than the client sends: stop writing until `resume_upload`."""

    def resume_upload(self) -> None: ...


class UpstreamExchange(Protocol):
    """One request under way on an upstream connection. What is written goes out at once."""

    def write(self, data: bytes) -> None:
        """Body bytes, or after an upgrade any bytes; never empty."""

    def end(self, trailers: RawHeaders) -> None:
        """The request is complete; of a tunnel: the client sends no more."""

    def pause(self) -> None:
        """Stop reading: the client takes the response slower than it comes."""

    def resume(self) -> None: ...

    def abort(self) -> None:
        """Give up at once; the listener hears nothing more."""


@dataclass(slots=True)
class Upload:
    """What of a request's body is there when it begins: it goes out in one write with the head."""

    body: bytes = b""
    complete: bool = True
    trailers: RawHeaders | None = None


class Upstream(Protocol):
    """Where requests of one configured upstream go."""

    def start(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange | None:
        """Begin on a connection that waits in the pool; None where there is none, then nothing was sent."""

    async def connect(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange:
        """Begin on a new connection. `upload` is read when the connection is there: it may grow until then.
        Raises UpstreamError, then nothing was sent."""

    def close(self) -> None:
        """Close what waits in the pool."""


# The client's side


class ClientListener(Protocol):
    """Who hears the client's side of one exchange."""

    def on_body(self, data: bytes) -> None:
        """Body bytes of one socket read, framing removed, joined, or bytes of a tunnel; never empty."""

    def on_request_end(self, trailers: RawHeaders) -> None:
        """The request is complete; of a tunnel: the client sends no more."""

    def on_request_failed(self, error: RequestError) -> None:
        """The request will never be complete, though its client is still there to be told why."""

    def on_lost(self, *, reset: bool) -> None:
        """The client is gone. Nothing more comes, and nothing that is written arrives."""

    def pause_response(self) -> None:
        """The client reads slower than it is written to: stop until `resume_response`."""

    def resume_response(self) -> None: ...


class ClientSide(Protocol):
    """One request as its client sent it, and the way back. `address` is the client's, without its port.

    A response is `interim`* (`start` `write`* `end` | `tunnel` `write`* `end`), each part on its way with `flush`;
    `abort` breaks it off so that no client can take it for complete; with a `reset` where that is what is wanted.
    """

    request: ClientRequest
    address: str

    @property
    def started(self) -> bool:
        """A final head is on the wire."""

    def attach(self, listener: ClientListener) -> Upload:
        """Begin to hear the client; returns what of its body is there already."""

    def interim(self, response: UpstreamResponse) -> None: ...

    def start(self, response: UpstreamResponse, trailers_follow: bool = False) -> None:
        """The final head. How the body is framed on this side is this side's choice: a Content-Length among the
        headers stays; a Transfer-Encoding marks the place of ours."""

    def tunnel(self, response: UpstreamResponse) -> None:
        """The 101; from here on bytes pass as they are."""

    def write(self, data: bytes) -> None: ...

    def send(self, data: bytes) -> None:
        """As `write` and `flush`."""

    def end(self, trailers: RawHeaders) -> None: ...

    def flush(self) -> None: ...

    def discard(self) -> None:
        """Take back what was not flushed yet."""

    def abort(self, *, reset: bool = False) -> None: ...

    def pause_upload(self) -> None:
        """Stop reading: the upstream takes the request slower than it comes."""

    def resume_upload(self) -> None: ...

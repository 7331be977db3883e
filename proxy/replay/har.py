"""Recorded exchanges as an HTTP Archive (HAR 1.2), which the developer tools of browsers open.

The form: http://www.softwareishard.com/blog/har-12-spec/. What has no place in it stands under `_wiretape`. Memory does
not grow with the number of exchanges, nor with their bodies. Must not know settings.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Any, Protocol, Self
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from proxy import __version__
from proxy.exchange import Side
from proxy.interpret.body import decoder
from proxy.replay.captured import Tape
from proxy.replay.requested import joined_target
from proxy.store import Connection, Engine, read
from proxy.store.engine import reading
from proxy.store.rows import Exchange, HeadRow, Pairs

Encode = Callable[[Any], bytes]
"""JSON on one line."""

_IN_MEMORY = 2**20
_STEP = 3 * 16 * 1024  # bytes at a time; a multiple of three, so that base64 can be joined
_UNKNOWN = "x-unknown"
_LAST_US = 253_402_300_799_000_000  # the end of the year 9999


class Out(Protocol):
    """Where the archive goes."""

    def write(self, data: bytes, /) -> object: ...


def begin(encode: Encode) -> bytes:
    """What stands before the entries, which are to be joined by commas."""
    return (
        b'{"log":{"version":"1.2","creator":' + encode({"name": "wiretape", "version": __version__}) + b',"entries":['
    )


END = b"]}}\n"


class Entry:
    """One exchange, copied out of the database; a context manager that lets go of its bytes."""

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        heads = read.headers(connection, exchange.id)
        self.exchange = exchange
        self._head = _last(heads, Side.RESPONSE)
        asked = _last(heads, Side.REQUEST)
        self._request = Tape(exchange, Side.REQUEST, asked.headers if asked else ())
        self._response = Tape(exchange, Side.RESPONSE, self._head.headers if self._head else ())
        try:
            for chunk in read.chunks(connection, exchange.id):
                side = self._request if chunk.side == Side.REQUEST else self._response
                side.add(chunk.at_us, chunk.data)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._request.close()
        self._response.close()

    def write(self, out: Out, encode: Encode, addresses: Mapping[str, str]) -> None:
        """Write the entry's object. `addresses` are the upstreams' URLs by name."""
        exchange, timings = self.exchange, _timings(self.exchange)
        spent = sum(each for each in timings.values() if each > 0)
        began = {"startedDateTime": _time(exchange.started_us), "time": round(spent, 3)}
        out.write(_open(encode, began) + b',"request":' + _open(encode, self._asked(addresses)))
        if len(self._request):
            with _Body(self._request) as body:
                out.write(b',"postData":' + _open(encode, {"mimeType": _media(self._request), **body.remark}))
                body.write(out, encode, "_encoding")
            out.write(b"}")
        out.write(b'},"response":' + _open(encode, self._answered()) + b',"content":')
        with _Body(self._response) as body:
            about = {
                "size": body.size,
                "compression": body.size - body.coded,
                "mimeType": _media(self._response),
                **body.remark,
            }
            out.write(_open(encode, about))
            body.write(out, encode, "encoding")
        out.write(b'}},"cache":{},"timings":' + encode(timings) + b',"_wiretape":')
        out.write(_open(encode, _own(exchange)))
        for name, tape in (("request", self._request), ("response", self._response)):
            out.write(b',"%b_chunks":[' % name.encode())
            for number, (at_us, data) in enumerate(tape):
                out.write((b"," if number else b"") + encode({"at_us": at_us, "size": len(data)}))
            out.write(b"]")
            if tape.header("content-encoding").strip().lower() not in ("", "identity"):
                _write_coded(out, name, tape)
        out.write(b"}}")

    def _asked(self, addresses: Mapping[str, str]) -> dict[str, Any]:
        exchange = self.exchange
        url = _url(exchange, addresses.get(exchange.upstream or ""), self._request.header("host"))
        query = parse_qsl(url.partition("?")[2], keep_blank_values=True)
        return {
            "method": exchange.method or "",
            "url": url,
            **self._common(self._request.headers, exchange.request_bytes),
            "queryString": [{"name": name, "value": value} for name, value in query],
        }

    def _answered(self) -> dict[str, Any]:
        """Status 0 is how browsers say that there was no answer."""
        head = self._head
        return {
            "status": (head.status if head is not None else None) or 0,
            "statusText": (head.reason if head is not None else None) or "",
            **self._common(self._response.headers, self.exchange.response_bytes if head is not None else -1),
            "redirectURL": self._response.header("location"),
        }

    def _common(self, headers: Pairs, size: int) -> dict[str, Any]:
        return {
            "httpVersion": f"HTTP/{self.exchange.http_version or '1.1'}",
            "cookies": [],
            "headers": [{"name": name, "value": value} for name, value in headers],
            "headersSize": -1,
            "bodySize": size,
        }


def entry(engine: Engine, exchange: UUID) -> Entry | None:
    """The entry of an exchange; None if it is not there any more."""
    with reading(engine) as connection:
        found = read.get_exchange(connection, exchange)
        return None if found is None else Entry(connection, found)


def _last(heads: list[HeadRow], side: Side) -> HeadRow | None:
    """The last head of a side: of a response the one that is not interim."""
    return next((head for head in reversed(heads) if head.side == side), None)


def _open(encode: Encode, value: dict[str, Any]) -> bytes:
    """An object to which members will be added."""
    return encode(value)[:-1]


def _media(tape: Tape) -> str:
    return tape.header("content-type") or _UNKNOWN


def _time(us: int) -> str:
    moment = datetime.fromtimestamp(min(max(us, 0), _LAST_US) // 1000 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _url(exchange: Exchange, address: str | None, host: str) -> str:
    """Where the request went; where its upstream is configured no longer, by the host that was named."""
    known = address if address is not None and "://" in address else f"https://{host or 'unknown.invalid'}"
    parts = urlsplit(known)
    return f"{parts.scheme}://{parts.netloc}" + joined_target(parts.path, exchange.target or "/")


def _timings(exchange: Exchange) -> dict[str, float]:
    """Milliseconds; -1 for what is not measured apart."""
    sent = exchange.request_sent_us or 0
    head = max(exchange.head_us or exchange.first_byte_us or exchange.end_us or sent, sent)
    last = max(exchange.end_us or exchange.last_byte_us or head, head)
    apart = {"blocked": -1.0, "dns": -1.0, "connect": -1.0, "ssl": -1.0}
    return {**apart, "send": sent / 1000, "wait": (head - sent) / 1000, "receive": (last - head) / 1000}


def _own(exchange: Exchange) -> dict[str, Any]:
    return {
        "id": str(exchange.id),
        "started_us": exchange.started_us,
        "outcome": None if exchange.outcome is None else exchange.outcome.name.lower(),
        "wire_end": None if exchange.wire_end is None else exchange.wire_end.name.lower(),
        "upstream": exchange.upstream,
        "dialect": exchange.dialect,
        "target": exchange.target,
        "credential": exchange.credential,
        "session": exchange.session,
        "tags": exchange.tags,
        "error": exchange.error,
        "unrecorded_bytes": exchange.unrecorded_bytes,
    }


def _write_coded(out: Out, name: str, tape: Tape) -> None:
    """The bytes that crossed the wire, which the chunks are of, where an archive has them decoded."""
    out.write(b',"%b_coded":"' % name.encode())
    rest = b""
    for _, data in tape:
        rest += data
        even = len(rest) - len(rest) % 3
        out.write(base64.b64encode(rest[:even]))
        rest = rest[even:]
    out.write(base64.b64encode(rest) + b'"')


def _spool() -> IO[bytes]:
    return SpooledTemporaryFile(max_size=_IN_MEMORY)


class _Body:
    """A body without its content-encoding, or as it crossed the wire if nothing of it can be decoded.

    `size` is its size, `coded` that of what crossed the wire.
    """

    def __init__(self, tape: Tape) -> None:
        self.size = 0
        self.coded = 0
        self._spool = _spool()
        self._text = True
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        decoding = decoder(tape.header("content-encoding"))
        for _, data in tape:
            self.coded += len(data)
            for piece in decoding.steps(data):
                self._add(piece)
        self._add(decoding.finish())
        if not self.size:
            for _, data in tape:
                self._add(data)
        self._check(b"", final=True)
        self.remark = {"comment": decoding.problem} if decoding.problem is not None else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def _add(self, data: bytes) -> None:
        self._spool.write(data)
        self.size += len(data)
        self._check(data)

    def _check(self, data: bytes, *, final: bool = False) -> None:
        try:
            self._text = self._text and self._utf8.decode(data, final) is not None
        except UnicodeDecodeError:
            self._text = False

    def write(self, out: Out, encode: Encode, coding: str) -> None:
        """Write `text`, and under the name `coding` that it is base64 if it is."""
        if not self._text:
            out.write(b',"%b":"base64"' % coding.encode())
        out.write(b',"text":"')
        self._spool.seek(0)
        utf8 = codecs.getincrementaldecoder("utf-8")()
        while data := self._spool.read(_STEP):
            out.write(encode(utf8.decode(data))[1:-1] if self._text else base64.b64encode(data))
        out.write(b'"')

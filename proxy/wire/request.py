"""Reads one HTTP/1.1 request head: the request line by the grammar of RFC 9112, 3, the fields by llhttp.

llhttp knows a list of methods and no target beyond ASCII, so it does not see the request line; and it lets pass what
two readers could understand in two ways, so the rules that bind several fields together stand here. Bytes in, head
out; must not know sockets or event loops.
"""

from __future__ import annotations

import re

from proxy.wire.fields import BARE_END, REMEMBERED, BadField, ByName, for_requests, for_responses
from proxy.wire.interface import ClientRequest, KnownHead, RawHeaders, RequestError

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(%b) ([^\x00-\x20\x7f#]+) HTTP/1\.([01])\r\n" % TOKEN)
_BLANK = re.compile(rb"(?:\r\n)+")
_MAY_BEGIN = re.compile(rb"%b(?: |\Z)" % TOKEN)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_SPECIAL = ByName(
    lambda name: (
        name
        if name in (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"te", b"expect")
        else b""
    )
)
_FIELDS = for_requests()
_TRAILERS = for_responses()  # llhttp would look at a Transfer-Encoding as if it framed a request
KNOWN_HEADS = 256
LONGEST_KNOWN = 8192  # bytes of a head that is remembered
# What must never become a tunnel past our routing: HTTP itself, and TLS, behind which it would hide.
_NOT_PASSED_ON = (b"h2", b"http", b"tls", b"connect-")


class BadFraming(ValueError):
    """A head that two readers could understand in two ways (length, host); the text says what is wrong."""


def parse_head(data: bytes, max_headers: int) -> ClientRequest:
    """`data` is a whole head, its empty line included. Raises RequestError."""
    begin, end = _find_length(data)
    around = (data[:begin], data[end:])
    known = _heads.get(around)
    if known is not None and len(known.first.headers) <= max_headers:
        return _again(known, data[begin:end])
    request = _parse(data, max_headers)
    _heads.learn(around, request)
    return request


def encode_head(method: bytes, target: bytes, headers: RawHeaders) -> bytes:
    """A whole request head, its empty line included."""
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join([b"%b: %b\r\n" % header for header in headers]))


class _Heads(dict[tuple[bytes, bytes], KnownHead]):
    """Heads by what is around the number in their Content-Length. A program's requests seldom differ in anything else,
    and then nothing of the rest needs to be looked at again. What came only once is not kept."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()

    def learn(self, around: tuple[bytes, bytes], request: ClientRequest) -> None:
        mark = hash(around)
        if mark in self._seen:
            if len(self) >= KNOWN_HEADS:
                self.clear()
            self[around] = request.known = KnownHead(request)
        elif len(around[0]) + len(around[1]) <= LONGEST_KNOWN:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen.add(mark)


_heads = _Heads()


def _find_length(data: bytes) -> tuple[int, int]:
    """Where the number in a Content-Length is, as programs write it; two times the end where there is none."""
    begin = data.find(b"\r\nContent-Length: ")
    if begin < 0:
        begin = data.find(b"\r\ncontent-length: ")
    if begin >= 0:
        begin += 18
        end = data.find(b"\r\n", begin)
        if end - begin <= 18 and data[begin:end].isdigit():
            return begin, end
    return len(data), len(data)


def _again(known: KnownHead, digits: bytes) -> ClientRequest:
    first = known.first
    headers, length, place = first.headers, first.length, first.length_at
    if digits:
        headers = headers.copy()
        headers[place] = (headers[place][0], digits)
        length = int(digits)
    return ClientRequest(
        first.method,
        first.target,
        first.version,
        headers,
        first.chunked,
        length,
        first.keep_alive,
        first.upgrade,
        first.takes_trailers,
        first.awaits_continue,
        place,
        known,
    )


def _parse(data: bytes, max_headers: int) -> ClientRequest:
    line = _LINE.match(data)
    if line is None:
        raise bad_request(_wrong_line(data))
    method, target, minor = line.groups()
    try:
        headers = _FIELDS.read(data[line.end() : -4])
        if len(headers) > max_headers:
            raise RequestError(431, "head_too_large", f"the request has over {max_headers} headers (max_headers)")
        request = ClientRequest(method, target, "1.1" if minor == b"1" else "1.0", headers)
        frame(request)
    except BadField:
        raise bad_request("a line of the request head is not a valid header") from None
    except BadFraming as error:
        raise bad_request(str(error)) from None
    return request


def frame(request: ClientRequest) -> None:
    """Fill in what the headers say of the body and the connection (RFC 9112, 3.2 and 6). Raises BadFraming."""
    special = [(_SPECIAL[header[0]], header[1], at) for at, header in enumerate(request.headers) if _SPECIAL[header[0]]]
    connection: list[bytes] = []
    codings: list[bytes] = []
    upgrade: list[bytes] = []
    hosts = 0
    for name, value, at in special:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            if request.length is not None or not _LENGTH.fullmatch(value):
                raise BadFraming("Content-Length must be one number")
            request.length = int(value)
            request.length_at = at
        elif name == b"connection":
            connection += _options(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"upgrade":
            upgrade += _options(value)
        else:
            request.takes_trailers |= name == b"te" and request.version == "1.1" and b"trailers" in _options(value)
            request.awaits_continue |= name == b"expect" and value.lower() == b"100-continue"
    if hosts > 1 or (hosts == 0 and request.version == "1.1"):
        raise BadFraming(f"a request has one Host header, this one has {hosts}")
    if codings:
        request.chunked = _is_chunked(request, codings)
    request.keep_alive = b"close" not in connection and (request.version == "1.1" or b"keep-alive" in connection)
    if any(upgrade) and request.version == "1.1" and b"upgrade" in connection:
        request.upgrade = not any(protocol.startswith(_NOT_PASSED_ON) for protocol in upgrade)


def _options(value: bytes) -> list[bytes]:
    return [option.strip().lower() for option in value.split(b",")]


def _is_chunked(request: ClientRequest, codings: list[bytes]) -> bool:
    if request.length is not None:
        raise BadFraming("a request has either Content-Length or Transfer-Encoding, not both")
    if codings != [b"chunked"] or request.version == "1.0":
        raise BadFraming("the only Transfer-Encoding understood is chunked, and that in HTTP/1.1")
    return True


def without_blank_lines(data: bytes) -> bytes:
    """Those that may stand before a request line (RFC 9112, 2.2)."""
    blank = _BLANK.match(data)
    return data[blank.end() :] if blank is not None else data


def check_unfinished(data: bytes, limit: int, seen: int = 0) -> None:
    """Say at once what the beginning of a head shows that can never become a good one, or has become too long; `seen`
    bytes of it were looked at before. Raises RequestError."""
    if len(data) > limit:
        raise RequestError(431, "head_too_large", f"the request head is over {limit} bytes (max_head)")
    if BARE_END.search(data, max(0, seen - 1)):
        raise bad_request("lines of a request head end with CR LF")
    if data and data != b"\r" and not _MAY_BEGIN.match(data):
        raise bad_request(_wrong_line(data))


def parse_trailers(data: bytes) -> RawHeaders:
    """A whole trailer section, its empty line included. Raises RequestError."""
    try:
        return _TRAILERS.read(data[:-4])
    except BadField:
        raise bad_request("a trailer of the request is not valid") from None


def bad_request(text: str) -> RequestError:
    return RequestError(400, "bad_request", text)


def _wrong_line(data: bytes) -> str:
    """What is wrong with a request line, as far as that helps whoever wrote the client."""
    words = data.partition(b"\r\n")[0].split(b" ")
    if data[:2] in (b"\x16\x03", b"\x80\x2e"):
        return "this port speaks plain HTTP, not TLS: use http:// in the base_url"
    if len(words) == 3 and re.fullmatch(rb"HTTP/\d\.\d", words[2]) and words[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        return "only HTTP/1.0 and HTTP/1.1 are spoken here"
    if len(words) == 3 and b"#" in words[1]:
        return "a request target has no fragment (#)"
    return "the request line is not METHOD TARGET HTTP/1.1"

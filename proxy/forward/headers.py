"""Which headers and trailers pass (RFC 9110, 7.6.1 and 6.5.1). Must not know what they mean."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

from proxy.wire.fields import ByName
from proxy.wire.interface import ClientRequest, RawHeaders, UpstreamResponse

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)

# A Connection header may name any header as hop-by-hop; a client that names one of these would change what the request
# means to the upstream (its length, its host, who pays), so these pass all the same.
END_TO_END = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"anthropic-beta",
        b"anthropic-version",
        b"api-key",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"etag",
        b"expect",
        b"host",
        b"idempotency-key",
        b"location",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"user-agent",
        b"vary",
        b"www-authenticate",
        b"x-api-key",
        b"x-goog-api-key",
    )
)

# RFC 9110, 6.5.1: what frames, routes or authenticates a message is nothing for a trailer.
NO_TRAILERS = HOP_BY_HOP | {b"content-length", b"host", b"trailer"}

# What says something of a body's bytes, so that it holds for no others.
DIGESTS = frozenset((b"content-digest", b"content-md5", b"digest", b"repr-digest"))
OF_ALL_BYTES = DIGESTS | {b"content-length"}
IDENTITY = (b"accept-encoding", b"identity")

OURS = b"x-wiretape-"
_NOT_FOR_PLAYBACK = frozenset((b"x-wiretape-session", b"x-wiretape-record"))
_OF_PAGES = frozenset((b"origin", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site"))
ATTRIBUTION_PREFIXES = (b"helicone-", b"x-litellm-", b"x-portkey-", b"cf-aig-")


class _Kind(IntEnum):
    """What a header's name alone says of it."""

    ORDINARY = 0
    HOST = 1
    HOP = 2  # what goes on to the next hop, if anything, is made anew
    CONNECTION = 3
    CODING = 4
    TRAILER = 5
    OURS = 6
    ATTRIBUTION = 7


def _kind(name: bytes) -> _Kind:
    if name in _NAMED_KINDS:
        return _NAMED_KINDS[name]
    if name in HOP_BY_HOP:
        return _Kind.HOP
    if name.startswith(OURS):
        return _Kind.OURS
    return _Kind.ATTRIBUTION if name.startswith(ATTRIBUTION_PREFIXES) else _Kind.ORDINARY


_NAMED_KINDS = {
    b"connection": _Kind.CONNECTION,
    b"host": _Kind.HOST,
    b"trailer": _Kind.TRAILER,
    b"transfer-encoding": _Kind.CODING,
}
_KINDS = ByName(_kind)


def to_upstream(request: ClientRequest, host: bytes, *, strip_attribution: bool) -> RawHeaders:
    """The client's headers as they go upstream: in order, with their case; Host is the upstream's."""
    passed: RawHeaders = []
    has_host = False
    named: frozenset[bytes] | None = None
    for header in request.headers:
        kind = _KINDS[header[0]]
        if not kind or kind is _Kind.TRAILER:
            passed.append(header)
        elif kind is _Kind.HOST:
            has_host = True
            passed.append((header[0], host))
        elif kind is _Kind.CONNECTION:
            named = _named(header[1]) if named is None else named | _named(header[1])
            passed += _renewed(request, header)
        elif kind is _Kind.HOP or kind is _Kind.CODING:
            passed += _renewed(request, header)
        elif kind is _Kind.ATTRIBUTION and not strip_attribution:
            passed.append(header)
    if not has_host:
        passed.insert(0, (b"Host", host))
    return _without(passed, named) if named else passed


def media_type(headers: RawHeaders) -> bytes:
    """Of a body that is not compressed, without its parameters, in small letters; empty where there is none."""
    named = {name.lower(): value.strip().lower() for name, value in headers}
    if named.get(b"content-encoding", b"") not in (b"", b"identity"):
        return b""
    return named.get(b"content-type", b"").partition(b";")[0].rstrip()


def bears_digest(headers: RawHeaders) -> bool:
    """Whether they say something of the body's very bytes."""
    return any(name.lower() in DIGESTS for name, _ in headers)


def with_identity(headers: RawHeaders) -> RawHeaders:
    """The same, but that no encoding of the response is asked for."""
    passed: RawHeaders = []
    asked = False
    for name, value in headers:
        if name.lower() != IDENTITY[0]:
            passed.append((name, value))
        elif not asked:
            asked = True
            passed.append((name, IDENTITY[1]))
    return passed if asked else [*passed, IDENTITY]


def for_playback(headers: RawHeaders) -> RawHeaders:
    """Of our own headers those that playback heeds, or sends on for what it has no recording of."""
    return [
        header for header in headers if _KINDS[header[0]] is _Kind.OURS and header[0].lower() not in _NOT_FOR_PLAYBACK
    ]


def without_page(headers: RawHeaders) -> RawHeaders:
    """Without what a browser says of the page that asks."""
    return [header for header in headers if header[0].lower() not in _OF_PAGES]


def to_client(response: UpstreamResponse, *, takes_trailers: bool) -> UpstreamResponse:
    """The upstream's head as it goes to the client, with headers of its own. A Transfer-Encoding stays, to mark its
    place."""
    passed: RawHeaders = []
    named: frozenset[bytes] | None = None
    for header in response.headers:
        kind = _KINDS[header[0]]
        if not kind:
            passed.append(header)
        elif kind is _Kind.CONNECTION:
            named = _named(header[1]) if named is None else named | _named(header[1])
        elif kind is not _Kind.HOP and (kind is not _Kind.TRAILER or takes_trailers):
            passed.append(header)
    headers = _without(passed, named) if named else passed
    return UpstreamResponse(response.status, response.reason, headers, response.bodiless)


def for_trailers(trailers: RawHeaders) -> RawHeaders:
    """Without those that would change, behind the body, how a message is framed or routed."""
    return [trailer for trailer in trailers if trailer[0].lower() not in NO_TRAILERS]


def _renewed(request: ClientRequest, header: tuple[bytes, bytes]) -> RawHeaders:
    """What of a hop-by-hop header goes on to the next hop."""
    name, value = header
    lower = name.lower()
    if lower == b"transfer-encoding" and request.chunked:
        return [(name, b"chunked")]
    if lower == b"te" and b"trailers" in value.lower():
        return [(name, b"trailers"), (b"Connection", name)]
    if request.upgrade and lower == b"upgrade":
        return [header]
    if request.upgrade and lower == b"connection":
        options = [option.strip() for option in value.split(b",")]
        return [(name, option) for option in options if option.lower() == b"upgrade"]
    return []


@lru_cache(256)
def _named(connection: bytes) -> frozenset[bytes]:
    """The headers that a Connection header takes off, apart from those that it may not and those that go anyway."""
    options = frozenset(option.strip().lower() for option in connection.split(b","))
    return options - END_TO_END - HOP_BY_HOP - {b"close"}


def _without(headers: RawHeaders, named: frozenset[bytes]) -> RawHeaders:
    return [header for header in headers if header[0].lower() not in named]

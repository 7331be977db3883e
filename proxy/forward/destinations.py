"""What a configured upstream is to the data port, out of plain values: where requests go, with what, changed how."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from proxy.errors import UsageError
from proxy.exchange import Origin
from proxy.forward.demo import DemoUpstream
from proxy.forward.held import Held, HeldKey
from proxy.forward.routes import Destination, Wish
from proxy.forward.signer import Signer, Source
from proxy.forward.uploads import Home
from proxy.upload_urls import address
from proxy.wire.interface import Timeouts, Upstream
from proxy.wire.pool import PooledUpstream
from proxy.wire.tls import tls_context
from proxy.wire.via import parse_via

Http2 = Callable[[str, int, ssl.SSLContext, Timeouts, PooledUpstream], Upstream]


@dataclass(frozen=True, slots=True)
class CredentialOptions:
    """Credentials of this machine: `of` is `aws` or `google`, the others None where they are not set."""

    of: str
    aws_profile: str | None = None
    aws_region: str | None = None
    aws_service: str | None = None
    google_file: Path | None = None


Sources = Callable[[CredentialOptions, str], Source]


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """One configured upstream. `url` is `http(s)://host[:port][/base]`, or `demo:` for the built-in one; `proxy` is one
    on the way there, as wire.via.parse_via takes it.

    `playback` is where recordings answer instead of it: nothing goes to `url` then, unless `else_record`: then what
    playback sends on with a pass does. `ask_usage`: requests are made to ask for the usage of their streams. `key` is a
    key that is held here: the header that it goes into, what stands before it there, and itself. `upload_urls`: those
    that it answers with are to lead back through us. `keep_alive`: seconds of silence after which a stream gets a
    comment.
    """

    name: str
    url: str
    dialect: str
    timeouts: Timeouts
    drain: bool
    record: str
    ca_file: Path | None = None
    ask_usage: bool = False
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    http2: bool = False
    playback: tuple[str, int] | None = None
    else_record: bool = False
    key: tuple[str, str, str] | None = field(default=None, repr=False)
    credentials: CredentialOptions | None = None
    upload_urls: bool = False
    keep_alive: float | None = None


def destination(options: UpstreamOptions, http2: Http2 | None = None, sources: Sources | None = None) -> Destination:
    """The route's end for a configured upstream. Raises UsageError for files of certificates that are of no use,
    and for credentials that can be none."""
    if options.playback is not None:
        # What that one sends on comes back by way of here, where comments are put in: once is enough.
        live = _live(replace(options, keep_alive=None), http2, sources) if options.else_record else None
        return _played(options, live, *options.playback)
    return _live(options, http2, sources)


def _live(options: UpstreamOptions, http2: Http2 | None, sources: Sources | None) -> Destination:
    wish = Wish() if options.ask_usage else None
    if options.url == "demo:":
        return Destination(
            name=options.name,
            dialect=options.dialect,
            upstream=DemoUpstream(),
            host=b"demo",
            base_path=b"",
            origin=Origin.DEMO,
            record=options.record,
            drain=options.drain,
            usage=wish,
            keep_alive=options.keep_alive,
        )
    parts = urlsplit(options.url)
    assert parts.hostname is not None, "the configuration checks URLs"
    try:
        tls = _context(options) if parts.scheme == "https" else None
    except UsageError as error:
        raise UsageError(f"upstreams.{options.name}.{error}") from None
    port = parts.port or (443 if tls is not None else 80)
    base_path = parts.path.rstrip("/").encode()
    via = None if options.proxy is None else parse_via(options.proxy)
    pool = PooledUpstream(parts.hostname, port, tls, options.timeouts, via=via)
    upstream: Upstream = pool
    if options.http2:
        assert http2 is not None, "whoever asks for it brings it"
        upstream = http2(parts.hostname, port, _context(options), options.timeouts, pool)
    return Destination(
        name=options.name,
        dialect=options.dialect,
        upstream=upstream,
        host=parts.netloc.encode(),
        base_path=base_path,
        origin=Origin.LIVE,
        record=options.record,
        drain=options.drain,
        key=_held(options, parts.hostname, sources),
        usage=wish,
        uploads=Home(address(parts.scheme, parts.hostname, port), base_path) if options.upload_urls else None,
        keep_alive=options.keep_alive,
    )


def _context(options: UpstreamOptions) -> ssl.SSLContext:
    return tls_context(options.ca_file, options.client_cert, options.client_key)


def _held(options: UpstreamOptions, host: str, sources: Sources | None) -> Held | None:
    if options.key is not None:
        return HeldKey(*[part.encode() for part in options.key])
    if options.credentials is None:
        return None
    assert sources is not None, "whoever asks for them brings them"
    try:
        return Signer(sources(options.credentials, host))
    except UsageError as error:
        raise UsageError(f"upstreams.{options.name}.{error}") from None


def _played(options: UpstreamOptions, live: Destination | None, host: str, port: int) -> Destination:
    """Its recordings in its place; no word of its address gets further than this."""
    return Destination(
        name=options.name,
        dialect=options.dialect,
        upstream=PooledUpstream(host, port, None, options.timeouts, local=True),
        host=f"{host}:{port}".encode(),
        base_path=b"",
        origin=Origin.PLAYBACK,
        record=options.record,
        drain=options.drain,
        whole=True,
        live=live,
        # Playback gives URLs that lead to itself, whatever the upstream's would be.
        uploads=Home(address("http", host, port), b"") if options.upload_urls else None,
        keep_alive=options.keep_alive,
    )

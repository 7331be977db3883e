"""Which pages may ask the data port (Origin), and by which names it is asked where a key is held here (Host).

A page of anybody's reaches this machine's ports: under a name of its own that leads here (DNS rebinding), or as itself.
Must not know upstreams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from proxy import authority
from proxy.authority import canonical
from proxy.forward import answers
from proxy.forward.answers import NO_CONTENT, Answer
from proxy.wire.interface import ClientRequest, RawHeaders

ANY = b"*"
_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]*")
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_ASKS = b"access-control-request-"
_MAX_AGE = b"600"  # seconds that a browser need not ask again


class Access:
    """`hosts` are names and addresses besides loopback; `origins` are as browsers write them, or `*`."""

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._hosts = frozenset(canonical(host) for host in hosts)
        self._origins = frozenset(origin.encode() for origin in origins)

    def preflight(self, asked: ClientRequest) -> Answer | None:
        """The answer to a browser that asks whether a page may ask, where it may; None for all else."""
        if asked.method != b"OPTIONS" or not self._allows(asked.headers):
            return None
        wanted = {name.lower(): value for name, value in asked.headers if name.lower().startswith(_ASKS)}
        if _ASKS + b"method" not in wanted:
            return None
        headers = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _MAX_AGE)]
        names = wanted.get(_ASKS + b"headers", b"")
        if names and _NAMES.fullmatch(names):
            headers.append((b"access-control-allow-headers", names))
        if wanted.get(_ASKS + b"private-network") == b"true":
            headers.append((b"access-control-allow-private-network", b"true"))
        return Answer(NO_CONTENT, "preflight", "", headers)

    def refusal(self, asked: ClientRequest, *, guarded: bool) -> Answer | None:
        """Why a request is not taken; `guarded`: it could lead to a key that is held here."""
        if guarded and not self._is_ours(authority.asked(asked.headers)):
            return answers.foreign_host()
        pages = _values(asked.headers, b"origin")
        if pages:
            return answers.foreign_page() if (guarded or self._origins) and not self._allows(asked.headers) else None
        # No Origin comes with what a page embeds: such a request is only known by this.
        sites = _values(asked.headers, b"sec-fetch-site")
        return answers.foreign_page() if guarded and any(site != b"none" for site in sites) else None

    def page(self, headers: RawHeaders) -> tuple[tuple[bytes, bytes], ...]:
        """By a request's headers those by which the page that asks may read the response."""
        if not self._allows(headers):
            return ()
        exposed = (b"access-control-expose-headers", ANY)
        if ANY in self._origins:
            return ((b"access-control-allow-origin", ANY), exposed)
        origin = _values(headers, b"origin")[0]
        return ((b"access-control-allow-origin", origin), exposed, (b"vary", b"Origin"))

    def _allows(self, headers: RawHeaders) -> bool:
        """Whether a page asks, and it may."""
        if not self._origins:
            return False
        pages = _values(headers, b"origin")
        return len(pages) == 1 and (pages[0] in self._origins or ANY in self._origins)

    def _is_ours(self, host: bytes | None) -> bool:
        found = None if host is None else authority.parse(host)
        if found is None:
            return False
        return found.host == "localhost" or found.host in self._hosts or _is_loopback(found.host)


def _values(headers: RawHeaders, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name.lower() == wanted]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

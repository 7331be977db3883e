"""URLs that an upstream gives for the bytes of uploads (Google's resumable protocol), and how they lead back to where
it was asked: a client that follows them as they are goes past us.

Pure: must not know which upstreams there are, nor how a change is recorded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from proxy import authority
from proxy.authority import canonical

Headers = list[tuple[bytes, bytes]]

_NAMED = frozenset((b"x-goog-upload-control-url", b"x-goog-upload-url"))
_LOCATION = b"location"
_RESUMABLE = frozenset((200, 201, 308))  # 308 is "Resume Incomplete" there, and no redirect
_OF_UPLOADS = re.compile(rb"/upload(?:/|\Z)")
# Nothing that readers of URLs take off or understand in two ways; an authority has no user in it.
_URL = re.compile(rb"([A-Za-z]+)://(" + authority.PATTERN + rb")((?:/[!-~]*?)?)((?:[?#][!-~]*)?)")
_WAY = re.compile(rb"(?:/~[^/?]*)?(?:/[^/?]*)?")
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Scheme and host in canonical form, and the port, as no URL with the default one needs to say."""

    scheme: str
    host: str
    port: int


class Url(NamedTuple):
    """An absolute URL in its parts, as they are written; `rest` is the query with its `?`, and the fragment."""

    address: Address
    path: bytes
    rest: bytes


def address(scheme: str, host: str, port: int | None = None) -> Address:
    """Of a URL's parts; the host without the brackets of IPv6."""
    return Address(scheme, canonical(host), port or _PORTS[scheme])


def parse(value: bytes) -> Url | None:
    """None for what is no absolute URL of HTTP, and for what programs do not all read alike."""
    found = _URL.fullmatch(value)
    if found is None:
        return None
    scheme, where, path = found[1].decode().lower(), authority.parse(found[2]), found[3]
    if scheme not in _PORTS or where is None or b"\\" in path or not {b".", b".."}.isdisjoint(_segments(path)):
        return None
    return Url(Address(scheme, where.host, _PORTS[scheme] if where.port is None else where.port), path, found[4])


def way_to(target: bytes) -> bytes:
    """What of a target of the data port is not the upstream's: of `/~a=b/openai/v1/x` it is `/~a=b/openai`."""
    found = _WAY.match(target)
    return b"" if found is None else found[0]


@dataclass(frozen=True, slots=True)
class WayBack:
    """Of the answers to one request. `here` is the URL by which its client reached the upstream, up to what comes
    before `asked`, the target there. `there` is where the upstream is, and `base` what all its paths begin with; of an
    upstream that is anywhere (None) that is what stands before the path that was asked for."""

    here: bytes
    asked: bytes
    there: Address | None
    base: bytes = b""

    def turned(self, value: bytes) -> bytes | None:
        """A URL that leads to the upstream as one that leads back here; None for all others."""
        url = parse(value)
        if url is None or self.there not in (None, url.address):
            return None
        base = self._base(url.path)
        rest = url.path[len(base) :]
        if not url.path.startswith(base) or rest[:1] not in (b"", b"/"):
            return None
        return self.here + rest + url.rest

    def turn(self, status: int, headers: Headers) -> Headers:
        """Have the headers of a response lead back, in place. All of the names that are concerned as they are now, in
        order; none where nothing leads past."""
        names = _NAMED
        if status in _RESUMABLE and _OF_UPLOADS.search(self.base + self._asked_path) is not None:
            names = _NAMED | {_LOCATION}
        turned: set[bytes] = set()
        for place, (name, value) in enumerate(headers):
            lower = name.lower()
            back = self.turned(value) if lower in names else None
            if back is not None:
                headers[place] = (name, back)
                turned.add(lower)
        return [header for header in headers if header[0].lower() in turned] if turned else []

    @property
    def _asked_path(self) -> bytes:
        return self.asked.partition(b"?")[0]

    def _base(self, path: bytes) -> bytes:
        if self.there is not None:
            return self.base
        asked = self._asked_path
        return path.removesuffix(asked) if asked and path.endswith(asked) else b""


def _segments(path: bytes) -> list[bytes]:
    return path.lower().replace(b"%2e", b".").split(b"/")

"""Whose a URL is: which upstream answers there, and as what the data port would have been asked for it. Pure.

Must not know settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_URL = re.compile(r"(https?|wss?)://(?:[^/?#@]*@)?([^/?#@]+)([^?#]*)(\?[^#]*)?", re.IGNORECASE | re.DOTALL)
_PORTS = {"http": ":80", "https": ":443"}
_VALUE = re.compile("[A-Z]{2,}")  # what stands in an example for what only its user knows


class Known(NamedTuple):
    """An upstream. Of a template the address is an example: what stands in capitals there may be anything."""

    name: str
    url: str
    dialect: str
    template: bool = False


class Place(NamedTuple):
    """`target` is the data port's."""

    upstream: str
    dialect: str
    target: str


class _Parts(NamedTuple):
    origin: str
    path: str
    query: str


class Places:
    """All upstreams that are known. `everywhere`: a host that is none becomes one, of the name that it has."""

    def __init__(self, known: Iterable[Known], *, everywhere: bool = False) -> None:
        self._known: list[tuple[Known, re.Pattern[str], str]] = []
        self._everywhere = everywhere
        for each in known:
            parts = _parts(each.url)
            if parts is not None:
                host = re.escape(parts.origin)
                if each.template:
                    # `https://resource.openai.azure.com` became small letters with the rest of the host.
                    host = re.escape(each.url.partition("://")[2].partition("/")[0])
                    host = "https://" + _VALUE.sub(lambda _: "[a-z0-9-]+", host)
                self._known.append((each, re.compile(host), parts.path.rstrip("/")))
        # The longest path first, and an address before an example.
        self._known.sort(key=lambda each: (each[0].template, -len(each[2])))

    def find(self, url: str, named: str | None = None) -> Place | None:
        """The place of a URL, None where nobody known is; of several that answer there, the one that is `named`."""
        parts = _parts(url)
        if parts is None:
            return None
        fitting = [(each, base) for each, host, base in self._known if host.fullmatch(parts.origin)]
        fitting = [(each, base) for each, base in fitting if f"{parts.path}/".startswith(f"{base}/")]
        for each, base in sorted(fitting, key=lambda found: found[0].name != named):
            return Place(each.name, each.dialect, f"/{each.name}{parts.path[len(base) :]}{parts.query}")
        if not self._everywhere:
            return None
        host = parts.origin.partition("://")[2]
        return Place(host, "openai", f"/{host}{parts.path}{parts.query}")


def host_of(url: str) -> str:
    """The host of a URL, to be told to a person; its beginning where it has none."""
    parts = _parts(url)
    return url[:40] if parts is None else parts.origin.partition("://")[2]


def _parts(url: str) -> _Parts | None:
    """Without whoever is named before the host: that may be a credential."""
    found = _URL.match(url)
    if found is None:
        return None
    scheme = found[1].lower().replace("ws", "http")
    return _Parts(f"{scheme}://{found[2].lower().removesuffix(_PORTS[scheme])}", found[3], found[4] or "")

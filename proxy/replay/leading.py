"""How what playback answers leads back to where it was asked: URLs for uploads, whoever's they were. Pure."""

from __future__ import annotations

from proxy import authority
from proxy.upload_urls import Address, WayBack, way_to
from proxy.wire.interface import ClientRequest


def way_of(asked: ClientRequest, there: Address | None = None) -> WayBack | None:
    """The way back for the answers to a request: from anywhere, or from a data port that is asked for the same target.
    None where its client does not say by which name it reaches us."""
    host = authority.asked(asked.headers)
    if host is None:
        return None
    way = way_to(asked.target)
    return WayBack(b"http://%b%b" % (host, way), asked.target[len(way) :], there, b"" if there is None else way)

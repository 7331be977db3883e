"""Has the URLs that an upstream gives for uploads lead back through us, and records it. Must not know sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from proxy import authority, upload_urls
from proxy.exchange import Change
from proxy.forward.recorder import Recorder
from proxy.forward.redact import Redactor
from proxy.upload_urls import WayBack
from proxy.wire.interface import ClientRequest, RawHeaders


class Home(NamedTuple):
    """Where an upstream is whose URLs for uploads are to lead back, and what all its paths begin with."""

    address: upload_urls.Address
    base_path: bytes


@dataclass(frozen=True, slots=True)
class Uploads:
    """Of the answers to one request."""

    way: WayBack
    redactor: Redactor

    def lead_back(self, status: int, headers: RawHeaders, recorder: Recorder) -> None:
        """In place."""
        turned = self.way.turn(status, headers)
        if turned:
            recorder.change(Change("upload_url_rewritten", self.redactor.headers(turned)))


def uploads(home: Home, asked: ClientRequest, way: bytes, scheme: bytes, redactor: Redactor) -> Uploads | None:
    """`way` is the beginning of the client's target, up to what is the upstream's. None where the client does not say
    by which name it reaches us."""
    host = authority.asked(asked.headers)
    if host is None:
        return None
    here = b"%b://%b%b" % (scheme, host, way)
    return Uploads(WayBack(here, asked.target[len(way) :], home.address, home.base_path), redactor)

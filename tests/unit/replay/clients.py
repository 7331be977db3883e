"""A client of playback that only notes what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.wire.interface import ClientListener, ClientRequest, RawHeaders, Upload, UpstreamResponse


class Client:
    """A wire.interface.ClientSide that notes what it is told, and when."""

    def __init__(self, method: bytes = b"POST", headers: RawHeaders | None = None) -> None:
        self.request = ClientRequest(method, b"/x", "1.1", headers or [])
        self.address = ""
        self.started = False
        self.told: list[tuple[str, Any]] = []
        self.flushed = 0
        self.on_write: Callable[[], None] = lambda: None

    def attach(self, listener: ClientListener) -> Upload:
        return Upload()

    def interim(self, response: UpstreamResponse) -> None:
        self.told.append(("interim", response.status))

    def start(self, response: UpstreamResponse, trailers_follow: bool = False) -> None:
        self.told.append(("start", (response.status, response.reason, response.bodiless, trailers_follow)))

    def tunnel(self, response: UpstreamResponse) -> None:
        self.told.append(("tunnel", response.headers))

    def write(self, data: bytes) -> None:
        self.told.append(("write", data))
        self.on_write()

    def send(self, data: bytes) -> None:
        self.write(data)
        self.flush()

    def end(self, trailers: RawHeaders) -> None:
        self.told.append(("end", trailers))

    def flush(self) -> None:
        self.flushed = len(self.told)

    def discard(self) -> None: ...

    def abort(self, *, reset: bool = False) -> None:
        self.told.append(("reset" if reset else "abort", None))

    def pause_upload(self) -> None: ...

    def resume_upload(self) -> None: ...

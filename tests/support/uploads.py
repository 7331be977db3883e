"""Google's resumable uploads: an upstream that takes them, and a client that follows the URLs it is given.

Must not know the proxy.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from urllib.parse import urlsplit

from tests.support.rawhttp import IDLE, Ended, Message, Peer, RawUpstream

OK = b"200 OK"
_RANGE = re.compile(rb"bytes (?:(\d+)-\d+|\*)/\d+")


class Google(RawUpstream):
    """Takes uploads under any path with a segment `upload`. `files` are the bytes of each by its upload_id, `seen` the
    requests it got."""

    def __init__(self) -> None:
        super().__init__(self._serve, deadline=IDLE)
        self.seen: list[Message] = []
        self.files: dict[str, bytes] = {}
        self._numbers = itertools.count()
        self._one_by_one = threading.Lock()

    @property
    def asked(self) -> list[tuple[bytes, bytes]]:
        """Method and target of each request."""
        return [(each.method, each.target) for each in self.seen]

    def _serve(self, peer: Peer) -> None:
        try:
            while True:
                request = peer.read_message()
                with self._one_by_one:
                    self.seen.append(request)
                    status, headers, body = self._answer(request)
                lines = b"".join(b"%b: %b\r\n" % header for header in headers)
                peer.send(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, lines, len(body), body))
        except Ended:
            return

    def _answer(self, request: Message) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
        found = re.search(rb"[?&]upload_id=([^&]+)", request.target)
        if found is None:
            return self._begun(request)
        name = found[1].decode()
        if request.all("x-goog-upload-command"):
            return self._commanded(request, name)
        place = _RANGE.fullmatch(request.one("content-range") or b"")
        assert place is not None
        if place[1] is not None:
            self._take(name, int(place[1]), request.body)
        size = int((request.one("content-range") or b"").rpartition(b"/")[2])
        if len(self.files[name]) == size:
            return b"201 Created", [(b"Location", self._url(request, name))], self._file(name)
        headers = [(b"Location", self._url(request, name)), (b"Range", b"bytes=0-%d" % (len(self.files[name]) - 1))]
        return b"308 Resume Incomplete", headers, b""

    def _begun(self, request: Message) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
        name = f"AAseCrEt{next(self._numbers):04}uPlOaD"
        self.files[name] = b""
        url = self._url(request, name)
        if not request.all("x-goog-upload-protocol"):
            return OK, [(b"Location", url)], b""
        assert request.one("x-goog-upload-command") == b"start"
        given = [(b"X-Goog-Upload-URL", url), (b"X-Goog-Upload-Control-URL", url + b"&control=1")]
        return OK, [(b"X-Goog-Upload-Status", b"active"), *given], b""

    def _commanded(self, request: Message, name: str) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
        commands = (request.one("x-goog-upload-command") or b"").replace(b" ", b"").split(b",")
        if b"upload" in commands:
            self._take(name, int(request.one("x-goog-upload-offset") or b"-1"), request.body)
        received = (b"X-Goog-Upload-Size-Received", b"%d" % len(self.files[name]))
        if b"finalize" in commands:
            return OK, [(b"X-Goog-Upload-Status", b"final"), (b"Content-Type", b"application/json")], self._file(name)
        return OK, [(b"X-Goog-Upload-Status", b"active"), received], b""

    def _take(self, name: str, offset: int, data: bytes) -> None:
        assert offset == len(self.files[name]), f"{offset} is not behind what is there"
        self.files[name] += data

    def _file(self, name: str) -> bytes:
        size = str(len(self.files[name]))
        return json.dumps({"file": {"name": "files/synthetic", "sizeBytes": size, "state": "ACTIVE"}}).encode()

    def _url(self, request: Message, name: str) -> bytes:
        path = request.target.partition(b"?")[0]
        return b"%b%b?upload_id=%b&upload_protocol=resumable" % (self.url.encode(), path, name.encode())


def headers(*given: bytes, body: bytes | None = b"") -> bytes:
    """Lines of a request's head, with its end and its body; None: the body is sent otherwise."""
    lines = [*given] if body is None else [*given, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"", body or b""])


def begin(client: Peer, target: bytes, host: bytes, size: int) -> Message:
    """Ask for an upload."""
    client.send(b"POST %b HTTP/1.1\r\nHost: %b\r\n" % (target, host))
    started = (b"X-Goog-Upload-Protocol: resumable", b"X-Goog-Upload-Command: start")
    about = (b"X-Goog-Upload-Header-Content-Length: %d" % size, b"Content-Type: application/json")
    return client.send(headers(*started, *about, body=b'{"file": {"displayName": "x"}}')).read_message()


def command(client: Peer, url: bytes, words: bytes, offset: int | None = None, data: bytes = b"") -> Message:
    """Follow the URL of an upload, on a connection to where it leads."""
    parts = urlsplit(url.decode())
    target = url[url.index(parts.path.encode(), len(parts.scheme) + 3) :]
    client.send(b"POST %b HTTP/1.1\r\nHost: %b\r\n" % (target, parts.netloc.encode()))
    place = [] if offset is None else [b"X-Goog-Upload-Offset: %d" % offset]
    return client.send(headers(b"X-Goog-Upload-Command: " + words, *place, body=data)).read_message()

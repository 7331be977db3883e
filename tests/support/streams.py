"""The recorded streams under tests/data/streams: bodies, how they were served, and what they mean."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.rawhttp import Peer
from tests.support.websocket import Frame, Op, accepted

FOLDER = Path(__file__).parents[1] / "data" / "streams"


DIALECTS = {
    "google": "gemini",
    "google-vertex": "gemini",
    "anthropic": "anthropic",
    "mistral": "mistral",
    "cohere": "cohere",
    "ollama": "ollama",
    "bedrock": "bedrock",
}
"""Provider -> dialect of the upstream, where it is not `openai`."""

SWITCHED = [("Upgrade", "websocket"), ("Connection", "Upgrade")]


@dataclass(frozen=True)
class Stream:
    """One recorded answer. `cuts`: the offsets at which its writes were cut; `whole`: it came to its end.

    Of a WebSocket, `body` is what the server sent after the switch, and `sent` what the client did.
    """

    name: str
    body: bytes
    about: dict[str, Any]
    sent: bytes | None = None

    @property
    def socket(self) -> bool:
        return self.sent is not None

    @property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = self.about["expected"]
        return found

    @property
    def cuts(self) -> list[int]:
        if self.socket:
            return list(range(0, len(self.body), 100))
        return sorted(set(self.about["write_chunks_at"]))

    @property
    def whole(self) -> bool:
        return not (self.expected["terminator"] is None and not self.expected["complete"])

    @property
    def method(self) -> str:
        return str(self.about["request"]["method"])

    @property
    def target(self) -> str:
        return str(self.about["request"]["path"])

    @property
    def request(self) -> bytes:
        body = self.about["request"]["body"]
        return b"" if body is None else json.dumps(body).encode()

    @property
    def status(self) -> int:
        if self.socket:
            return 101
        return int(self.about["http"]["status"])

    @property
    def headers(self) -> list[tuple[str, str]]:
        if self.socket:
            return SWITCHED
        found = dict(self.about["http"]["headers"])
        kind = self.about["http"]["content_type"]
        if kind is not None and not any(name.lower() == "content-type" and kind == found[name] for name in found):
            found = {"content-type": kind, **{name: found[name] for name in found if name.lower() != "content-type"}}
        return list(found.items())

    @property
    def dialect(self) -> str:
        return DIALECTS.get(self.about["provider"], "openai")

    def pieces(self) -> list[bytes]:
        """The body, cut where it was cut."""
        places = [0, *(cut for cut in self.cuts if 0 < cut < len(self.body)), len(self.body)]
        return [self.body[start:end] for start, end in itertools.pairwise(places)]


@cache
def streams() -> dict[str, Stream]:
    """All of them, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.expected.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        name = path.name.removesuffix(".expected.json")
        body = (FOLDER / about["file"]).read_bytes()
        if about["framing"] == "ws-frames":
            found[name] = Stream(name, frames(body, "recv"), about, frames(body, "send", masked=True))
        else:
            found[name] = Stream(name, body, about)
    return found


def frames(lines: bytes, direction: str, *, masked: bool = False) -> bytes:
    """One direction of a WebSocket, a text frame for each of its lines."""
    said = [json.loads(line) for line in lines.splitlines() if line.strip()]
    mine = [json.dumps(each["data"], separators=(",", ":")).encode() for each in said if each["dir"] == direction]
    return b"".join(Frame(Op.TEXT, data, masked=masked).encode(b"mask" if masked else b"") for data in mine)


def names() -> list[str]:
    """Of all of them."""
    return list(streams())


def serve(peer: Peer, stream: Stream) -> None:
    """Serve a stream as it was: its head, its body cut where it was cut, each piece a chunk of its own."""
    if stream.socket:
        accepted(peer)
        peer.read_exactly(len(stream.sent or b""))  # or closing would be a reset, which takes the last pieces with it
        for piece in stream.pieces():
            peer.send(piece)
        return
    peer.read_message()
    headers = "".join(f"{name}: {value}\r\n" for name, value in stream.headers)
    peer.send(f"HTTP/1.1 {stream.status} OK\r\n{headers}transfer-encoding: chunked\r\n\r\n".encode())
    for piece in stream.pieces():
        peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    if stream.whole:
        peer.send(b"0\r\n\r\n")  # the others end without a last chunk


EXTRA = frozenset(("duplicate_of_billing", "first_sequence_number"))
"""What fixtures say beside the meaning of one exchange."""


def differences(shown: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Of what `show` says: name -> (shown, expected), for what is expected otherwise."""
    wrong = {}
    for name, value in expected.items():
        here = shown.get(name, "nothing of this name")
        if name == "safety" and here is not None:
            here = {key: here[key] for key in value}
        elif isinstance(value, dict) and isinstance(here, dict):
            here = {key: here.get(key) for key in value}
        if here != value and name not in EXTRA:
            wrong[name] = (here, value)
    return wrong

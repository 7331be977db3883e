"""An upstream that answers as the providers do, with their bytes out of tests/data/sdk. Must not know the proxy.

The model that is asked for says how it answers: `tools`, `refuses`, `breaks` (in the middle); any other plainly.
"""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

from tests.support.rawhttp import DEADLINE, IDLE, Ended, Message, Peer, RawUpstream, chunked

DATA = Path(__file__).parents[2] / "data" / "sdk"
KINDS = {
    b"/v1/chat/completions": "openai-chat",
    b"/v1/responses": "openai-responses",
    b"/v1/messages": "anthropic-messages",
}
GEMINI = re.compile(rb"/v1/models/(?P<model>[\w-]+):(?P<verb>generateContent|streamGenerateContent\?alt=sse)")
REFUSALS = {"openai": b"429 Too Many Requests", "anthropic": b"529 ", "gemini": b"429 Too Many Requests"}


class Provider(RawUpstream):
    """`seen` are the requests it got. A `gate` holds every event back until it is released for it."""

    def __init__(self) -> None:
        super().__init__(self._serve, deadline=IDLE)
        self.seen: list[Message] = []
        self.gate: threading.Semaphore | None = None

    def _serve(self, peer: Peer) -> None:
        try:
            while True:
                request = peer.read_message()
                self.seen.append(request)
                if not self._answer(peer, request):
                    return
        except Ended:
            return  # an SDK hangs up when it has what it wants

    def _answer(self, peer: Peer, request: Message) -> bool:
        """Whether the connection can take another request."""
        kind, model, streams = _asked(request)
        if model == "refuses":
            provider = kind.partition("-")[0]
            peer.send(_document(REFUSALS[provider], (DATA / f"{provider}-error.json").read_bytes()))
        elif streams:
            name = f"{kind}-tools" if model == "tools" else kind
            return self._stream(peer, events(DATA / f"{name}.sse"), breaks=model == "breaks")
        elif model == "breaks":
            document = _document(b"200 OK", (DATA / f"{kind}.json").read_bytes())
            peer.send(document[:-40])
            return False
        else:
            peer.send(_document(b"200 OK", (DATA / f"{kind}.json").read_bytes()))
        return True

    def _stream(self, peer: Peer, parts: list[bytes], *, breaks: bool) -> bool:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: req_SYN\r\n")
        peer.send(b"Transfer-Encoding: chunked\r\n\r\n")
        for part in parts[:3] if breaks else parts:
            if self.gate is not None and b"event: ping" not in part:
                assert self.gate.acquire(timeout=DEADLINE), "nobody waits for the next event"
            peer.send(b"%x\r\n%b\r\n" % (len(part), part))
        if not breaks:
            peer.send(chunked())
        return not breaks


def events(file: Path) -> list[bytes]:
    """The events of a stream, each with the blank line that ends it."""
    return re.findall(rb".+?(?:\r\n\r\n|\n\n)", file.read_bytes(), re.DOTALL)


def _asked(request: Message) -> tuple[str, str, bool]:
    """(which answer, the model, whether as a stream)."""
    gemini = GEMINI.fullmatch(request.target)
    if gemini is not None:
        return "gemini-generate", gemini["model"].decode(), gemini["verb"].startswith(b"stream")
    asked = json.loads(request.body)
    return KINDS[request.target.partition(b"?")[0]], asked["model"], bool(asked.get("stream"))


def _document(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nx-request-id: req_SYN\r\n\r\n"
    return head % (status, len(body)) + body

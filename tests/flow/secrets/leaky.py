"""An upstream whose answers hold credentials wherever answers can. Must not know the proxy."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from tests.flow.secrets.marks import SHAPES, Mint
from tests.support.rawhttp import IDLE, Ended, Message, Peer, RawUpstream, chunked

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Leaky(RawUpstream):
    """Answers by the path. `said` are the keys that stand in its stream's texts, `seen` the requests it got."""

    def __init__(self, mint: Mint) -> None:
        super().__init__(self._serve, deadline=IDLE)
        self.said = [mint.shaped(shape) for shape in SHAPES]
        self.cut = [mint.shaped(shape) for shape in SHAPES]
        self.next = threading.Semaphore(0)
        """Released for each further piece of what `/cut` and `/slow` answer."""
        self.seen: list[Message] = []
        self._answers: dict[str, Callable[[Peer], None]] = {
            "/v1/chat/completions": self._stream,
            "/cut": self._cut,
            "/slow": self._slow,
            "/broken/cookie": _sends(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=%b\r\n folded\r\n\r\n", mint.plain("broken")),
            "/broken/status": _sends(b"HTTP/1.1 %b\r\n\r\n", mint.shaped("openai")),
            "/broken/length": _sends(b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n", mint.plain("broken")),
            "/broken/chunk": _sends(EVENTS + b"%b\r\n", mint.shaped("openai")),
            "/broken/body": _sends(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n%b", mint.shaped("openai")),
        }
        self._plain = _document(mint)

    @property
    def heard(self) -> bytes:
        """Every byte that was sent to it."""
        return b"\n".join(peer.received for peer in self.peers)

    def _serve(self, peer: Peer) -> None:
        try:
            while True:
                request = peer.read_message()
                self.seen.append(request)
                answer = self._answers.get(request.target.decode().partition("?")[0])
                if answer is not None:
                    answer(peer)
                    return
                peer.send(self._plain)
        except Ended:
            return

    def _stream(self, peer: Peer) -> None:
        peer.send(EVENTS)
        for key in self.said:
            peer.send(b"%x\r\n%b\r\n" % (len(event := _event(f"it is\n{key}\n")), event))
        peer.send(chunked(b"data: [DONE]\n\n"))

    def _cut(self, peer: Peer) -> None:
        """Each key in three pieces, which arrive one after another; and one in many chunks that arrive at once."""
        peer.send(EVENTS)
        for number, key in enumerate(self.cut):
            event = _event(f"it is {key}")
            middle = event.index(key.encode())
            first, second = middle + 1 + number % 9, middle + 12 + number % 5
            for part in (event[:first], event[first:second], event[second:]):
                assert self.next.acquire(timeout=20), "nobody reads on"
                peer.send(b"%x\r\n%b\r\n" % (len(part), part))
        event = _event(f"it is {self.cut[0]}")
        peer.send(chunked(*(event[at : at + 1] for at in range(len(event)))))

    def _slow(self, peer: Peer) -> None:
        """A key, and then nothing until the other side ends."""
        part = _event(f"it is {self.said[0]}")
        peer.send(EVENTS, b"%x\r\n%b\r\n" % (len(part), part))
        peer.read_to_end()


def _event(text: str) -> bytes:
    chunk = {"id": "chatcmpl-SYN", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"


def _sends(answer: bytes, secret: str) -> Callable[[Peer], None]:
    def send(peer: Peer) -> None:
        peer.send(answer % secret.encode())

    return send


def _document(mint: Mint) -> bytes:
    """A plain answer with credentials in its head, its body and its trailers."""
    signature = mint.plain("signature", 64)
    head = [
        "HTTP/1.1 200 OK",
        f"Set-Cookie: __cf_bm={mint.plain('set-cookie')}; path=/; HttpOnly",
        f"set-cookie: session={mint.shaped('jwt')}",
        f"Location: https://bucket.example.com/a?X-Amz-Credential={mint.shaped('aws')}%2Fx&X-Amz-Signature={signature}",
        f"Content-Location: /signed?se=1&sig={mint.plain('sig')}",
        f"Operation-Location: https://example.com/operations/1?api-version=1&sig={mint.plain('operation')}",
        f'Link: <https://example.com/next?token={mint.plain("link")}>; rel="next"',
        f"x-goog-upload-url: https://example.com/upload?upload_id={mint.plain('upload')}&upload_protocol=resumable",
        f"x-amz-security-token: {mint.plain('security token')}",
        f"x-refreshed-token: {mint.plain('refreshed')}",
        "Content-Type: application/json",
        "Trailer: x-api-key",
        "Transfer-Encoding: chunked",
    ]
    body = json.dumps({"client_secret": {"value": mint.shaped("ephemeral")}, "key": mint.shaped("openai")}).encode()
    trailers = [(b"x-api-key", mint.plain("trailer").encode())]
    return "\r\n".join([*head, "", ""]).encode() + chunked(body, trailers=trailers)

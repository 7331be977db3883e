"""An upstream that is asked for the usage of its streams, between a real client and a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from proxy.exchange import Change, End, Side, as_passed
from proxy.forward.access import Access
from proxy.forward.app import App
from proxy.forward.held import Held
from proxy.forward.policy import Policy, Rules
from proxy.forward.redact import Redactor
from proxy.forward.routes import Wish
from proxy.journal import record
from tests.support.rawhttp import Ended, Message, Peer, RawUpstream, Script, connect
from tests.unit.forward.serving import HOST, OURS, Served, destination, serving
from tests.unit.forward.tape import Stage, body_of, decoded, sha

PLAIN = b'{"model": "m", "stream": true, "messages": []}'
ASKING = b'{"model": "m", "stream": true, "messages": [], "stream_options": {"include_usage":true}}'
JSON = b"Content-Type: application/json\r\n"
CHAT = b"POST /o/v1/chat/completions HTTP/1.1\r\n"

WORD = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = WORD + WORD + USAGE + DONE
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = EVENTS + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSAL = b'{"error":{"message":"Unrecognized request argument supplied: stream_options","key":"sk-%b"}}' % (b"x" * 40)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(body: bytes, head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n") -> bytes:
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


STREAMED = CHUNKED + chunk(STREAM) + b"0\r\n\r\n"


class Answers:
    """A script that answers requests one after another, the last answer again and again; it keeps the requests."""

    def __init__(self, *answers: bytes) -> None:
        self.requests: list[Message] = []
        self._answers = list(answers)

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                self.requests.append(peer.read_message())
                peer.send(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
        except Ended:
            return


class Scene:
    """A client, the data port and an upstream that is to be asked."""

    def __init__(self, stage: Stage, served: Served, client: Peer, upstream: RawUpstream, wish: Wish) -> None:
        self.stage, self.served, self.client, self.upstream, self.wish = stage, served, client, upstream, wish

    def ask(self, body: bytes = PLAIN, *headers: bytes, line: bytes = CHAT) -> Message:
        return self.client.send(post(body, *headers, line=line)).read_message()

    def end(self) -> End:
        return self.served.ends()[-1]

    @property
    def changes(self) -> list[Change]:
        return decoded(self.stage.records(), record.CHANGE, Change)

    def holds(self, requested: bytes, answered: bytes) -> None:
        """The records tell what the upstream got, and what the client."""
        end, tape, changes = self.end(), self.stage.records(), self.changes
        sides = (
            (Side.REQUEST, record.REQUEST_CHUNK, requested, end.request_hash, end.request_out_hash),
            (Side.RESPONSE, record.RESPONSE_CHUNK, answered, end.response_hash, end.response_out_hash),
        )
        for side, kind, passed, came_hash, out_hash in sides:
            came = body_of(tape, kind)
            assert b"".join(as_passed([came], changes, side)) == passed
            assert came_hash == sha(came)
            assert out_hash == (None if came == passed else sha(passed))


def post(body: bytes, *headers: bytes, line: bytes = CHAT) -> bytes:
    lines = b"".join(headers) or JSON
    length = b"" if b"chunked" in lines else b"Content-Length: %d\r\n" % len(body)
    return b"%b%b%b%b\r\n%b" % (line, HOST, lines, length, body)


@contextmanager
def scene(
    stage: Stage,
    *scripts: Script,
    drain: bool = False,
    limit: int = 2**20,
    record: str = "all",
    expose_id: bool = False,
    server: str = OURS,
    key: Held | None = None,
    keep_alive: float | None = None,
) -> Iterator[Scene]:
    wish = Wish()
    policy = Policy(Rules(expose_id, None, limit), True, False, {}, Access(["wiretape.test"]))
    with RawUpstream(*scripts) as upstream:
        here = destination(upstream.port, drain=drain, record=record)
        asked = replace(here, usage=wish, key=key, keep_alive=keep_alive)
        app = App({b"o": asked}, stage.recording, Redactor(b"k" * 32), policy, lambda: None)
        with serving(app, stage, server) as served, connect(served.port) as client:
            yield Scene(stage, served, client, upstream, wish)


def unchunked(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        found, data = found + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return found

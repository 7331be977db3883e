"""The same client and the same origin twice: with nothing between them, and with wiretape between them.

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(b"/v1/x"), b"{}"))
        peer.read_message()

    both = twice(stage, client, answering(response(b"answer")))
    assert_same_requests(both)
    assert_same_responses(both)

What may differ is what HTTP has a proxy change: the value of Host, hop-by-hop headers, the version, the cutting of
chunks, and `x-wiretape-exchange`. Must not know what any of it means.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.flow.wire.stage import HOST, Origin, Stage, response
from tests.support.rawhttp import DEADLINE, End, Ended, Message, Peer, RawHeaders, RawUpstream, TooLate, connect

HOPS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings"))
"""Headers between two neighbours; `transfer-encoding` is one too, but framing is to stay what it was."""
ID = b"x-wiretape-exchange"
_CODING = frozenset((b"transfer-encoding",))
_FRAMING = _CODING | {b"content-length"}


@dataclass(frozen=True)
class Seen:
    """What arrived on one connection. `ended` is how the other side ended it, None if the script did not look.

    `rest` are the bytes behind the last whole message; `broken` is the message that they begin, as far as it came (its
    body without the framing), if at least its head is whole.
    """

    received: bytes
    ended: End | None
    messages: list[Message] = field(default_factory=list)
    rest: bytes = b""
    broken: Message | None = None


class Run:
    """One of the two runs. Both sides' scripts get it, and may signal each other by it; afterwards it holds what they
    saw.

    `origin` listens, `host` is the Host that it is to be asked by, `client` and `connections` (the origin's, in the
    order in which they came) are there once the run is over.
    """

    def __init__(self, origin: RawUpstream, port: int) -> None:
        self.origin = origin
        self.port = port
        self.proxied = isinstance(origin, Origin)
        self.host = b"127.0.0.1:%d" % origin.port if self.proxied else HOST
        self.client = Seen(b"", None)
        self.connections: list[Seen] = []
        self._told: Counter[str] = Counter()
        self._changed = threading.Condition()

    def at(self, rest: bytes = b"/v1/x") -> bytes:
        """The target by which the client reaches `rest` at the origin."""
        return self.origin.at(rest) if isinstance(self.origin, Origin) else rest

    def connect(self, deadline: float = DEADLINE, receive_buffer: int | None = None) -> Peer:
        """One more client's connection; the caller closes it."""
        return connect(self.port, deadline=deadline, receive_buffer=receive_buffer)

    def tell(self, what: str) -> None:
        """Let the other script go on that waits for this."""
        with self._changed:
            self._told[what] += 1
            self._changed.notify_all()

    def wait(self, what: str, count: int = 1) -> None:
        """Until it was told so often, in all of this run. Raises TooLate."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._told[what] >= count, DEADLINE):
                raise TooLate(f"{what!r} was told {self._told[what]} times, not {count}")

    @property
    def requests(self) -> list[Message]:
        """All whole requests that the origin got."""
        return [message for seen in self.connections for message in seen.messages]

    @property
    def responses(self) -> list[Message]:
        """All whole responses that the client got, interim ones too."""
        return self.client.messages


Actor = Callable[[Peer, Run], None]


@dataclass(frozen=True)
class Both:
    """The two runs. `origin` is the upstream of the proxied one, by which `stage.recorded` finds its exchanges."""

    direct: Run
    proxied: Run
    origin: Origin


def answering(answer: bytes = response(), *, times: int | None = None) -> Actor:
    """An origin that gives each whole request the same answer; after so many `times` it ends the connection."""

    def origin(peer: Peer, run: Run) -> None:
        count = 0
        try:
            while times is None or count < times:
                peer.read_message()
                peer.send(answer)
                count += 1
        except Ended:
            return

    return origin


def finish(peer: Peer) -> None:
    """Send no more, and read until the other side has ended as well, which it may have done before."""
    try:
        peer.fin()
    except OSError:
        pass  # it reset the connection
    peer.read_to_end()


def twice(
    stage: Stage,
    client: Actor,
    *origins: Actor,
    kind: str = "plain",
    settled: bool = False,
    receive_buffer: int | None = None,
) -> Both:
    """Run the client against the origin, first directly, then through wiretape.

    The n-th connection of an origin gets the n-th script, all later ones the last; without any it answers all requests.
    When the client's script returns, its connection is closed; with `settled` what the origin saw is looked at only
    when all scripts of the origin have returned. `receive_buffer` is the origin's, to have it hold the other side back.
    """
    scripts = origins or (answering(),)
    direct = _run(lambda bound: RawUpstream(*bound, receive_buffer=receive_buffer), None, client, scripts, settled)
    proxied = _run(
        lambda bound: stage.origin(*bound, kind=kind, receive_buffer=receive_buffer),
        stage.port,
        client,
        scripts,
        settled,
    )
    assert isinstance(proxied.origin, Origin)
    return Both(direct, proxied, proxied.origin)


def _run(
    listen: Callable[[list[Callable[[Peer], None]]], RawUpstream],
    port: int | None,
    client: Actor,
    scripts: Sequence[Actor],
    settled: bool,
) -> Run:
    runs: list[Run] = []

    def bound(script: Actor) -> Callable[[Peer], None]:
        return lambda peer: script(peer, runs[0])

    with listen([bound(script) for script in scripts]) as origin:
        run = Run(origin, port or origin.port)
        runs.append(run)
        with _named(run), run.connect() as peer:
            client(peer, run)
        if settled or not run.proxied:
            with _named(run):
                origin.wait_idle()
        run.connections = [taken_apart(each) for each in list(origin.peers)]
    methods = [each.method for each in run.requests]
    methods += [each.rest.partition(b" ")[0] for each in run.connections if each.rest]
    run.client = taken_apart(peer, methods)
    return run


@contextmanager
def _named(run: Run) -> Iterator[None]:
    """What fails says in which of the two runs it did."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the {'proxied' if run.proxied else 'direct'} run")
        raise


# What was seen, taken apart


class _Tape(Peer):
    """A connection that is over: what arrived on it is read again."""

    def __init__(self, data: bytes, ended: End | None) -> None:
        self.received = bytearray(data)
        self.sent = 0
        self.ended = End.FIN  # nothing will come that is not here
        self._deadline = 0.0
        self._taken = 0
        self._finished = ended is End.FIN

    @property
    def left(self) -> bytes:
        return bytes(self.received[self._taken :])

    def skip(self, size: int) -> None:
        self._taken += size

    def read_to_end(self) -> bytes:
        """A body that only the end of its connection ends is whole if that was a FIN."""
        if not self._finished:
            raise Ended("it was not read to its end, or that was no FIN")
        return super().read_to_end()


def taken_apart(peer: Peer, methods: Sequence[bytes] = ()) -> Seen:
    """`methods` are those of the requests that the messages answer, if they are responses."""
    data, ended = bytes(peer.received), peer.ended
    tape, answered = _Tape(data, ended), 0
    messages: list[Message] = []
    while tape.left:
        rest = tape.left
        if rest.startswith(b"\r\n"):
            tape.skip(2)  # a blank line before a request
            continue
        try:
            message = tape.read_message(bodiless=answered < len(methods) and methods[answered] == b"HEAD")
            answered += message.start.startswith(b"HTTP/") and message.status >= 200
        except (AssertionError, ValueError, IndexError):
            return Seen(data, ended, messages, rest, _begun(rest))
        messages.append(message)
    return Seen(data, ended, messages)


def _begun(rest: bytes) -> Message | None:
    tape = _Tape(rest, None)
    try:
        start, headers = tape.read_head()
    except Ended:
        return None
    if not any(name.lower() == b"transfer-encoding" for name, _ in headers):
        return Message(start, headers, tape.left)
    chunks: list[bytes] = []
    try:
        while size := int(tape.read_until(b"\r\n")[:-2].partition(b";")[0], 16):
            chunks.append(tape.left[:size])
            tape.read_exactly(size + 2)
    except (Ended, ValueError):
        pass
    return Message(start, headers, b"".join(chunks), chunks)


# Comparing


def assert_same_requests(both: Both, *, chunks: bool = False, but: Collection[bytes] = ()) -> None:
    """That the origin got the same requests, unfinished ones included; headers named in `but` (in lower case) are left
    out. With `chunks` they must be cut alike."""
    got = [[_request(each, run, chunks, but) for each in _all(run.connections)] for run in (both.direct, both.proxied)]
    _assert_same("the origin was asked", *got)


def assert_same_responses(
    both: Both, *, chunks: bool = False, framing: bool = True, but: Collection[bytes] = ()
) -> None:
    """That the client got the same responses, interim and unfinished ones included; the other options as with requests.
    Without `framing` a body may have come by another one (a length, chunks, until close)."""
    left_out = {*but, *(() if framing else _FRAMING)}
    got = [
        [_response(each, run.proxied, chunks, left_out) for each in _all([run.client])]
        for run in (both.direct, both.proxied)
    ]
    _assert_same("the client was answered", *got)


Kind = Literal["whole", "broken"]


def _all(connections: list[Seen]) -> list[tuple[Kind, Message]]:
    found: list[tuple[Kind, Message]] = []
    for seen in connections:
        found += [("whole", message) for message in seen.messages]
        if seen.broken is not None:
            found.append(("broken", seen.broken))
        elif seen.rest:
            found.append(("broken", Message(b"", [], b"")))
    return found


def _request(found: tuple[Kind, Message], run: Run, chunks: bool, but: Collection[bytes]) -> tuple[Kind, Message]:
    kind, message = found
    start = message.start.rpartition(b" ")[0]  # the version is each hop's own
    headers = _end_to_end(message.headers, run.proxied, but)
    hosted = [
        (name, b"(host)" if name.lower() == b"host" and (not run.proxied or value == run.host) else value)
        for name, value in headers
    ]
    return kind, replace(message, start=start, headers=hosted, chunks=message.chunks if chunks else None)


def _response(found: tuple[Kind, Message], proxied: bool, chunks: bool, but: Collection[bytes]) -> tuple[Kind, Message]:
    kind, message = found
    start = message.start.partition(b" ")[2].rstrip(b" ")  # no reason may come with its blank or without
    headers = _end_to_end(message.headers, proxied, {*but, *((ID,) if proxied else ())})
    return kind, replace(message, start=start, headers=headers, chunks=message.chunks if chunks else None)


def _end_to_end(headers: RawHeaders, proxied: bool, but: Collection[bytes]) -> RawHeaders:
    """What a neighbour's neighbour is to see. Behind the proxy only what it says of its own connection is left out."""
    named: set[bytes] = set()
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    out = {*but, b"connection", b"te"} if proxied else {*but, *HOPS, *(named - _FRAMING - {b"host"})}
    codings = [(b"transfer-encoding", value.lower()) for name, value in headers if name.lower() in _CODING - out]
    return [header for header in headers if header[0].lower() not in out | _CODING] + codings  # in a place of its own


def _assert_same(what: str, direct: list[tuple[Kind, Message]], proxied: list[tuple[Kind, Message]]) -> None:
    for at, (one, other) in enumerate(zip(direct, proxied, strict=False)):
        for name in ("start", "headers", "trailers", "chunks", "body"):
            here, there = getattr(one[1], name), getattr(other[1], name)
            assert here == there, f"{what}, {at + 1}., {name}:\ndirect  {_shown(here)}\nproxied {_shown(there)}"
        assert one[0] == other[0], f"{what}, {at + 1}.: direct {one[0]}, proxied {other[0]}"
    counts = len(direct), len(proxied)
    more = (direct if counts[0] > counts[1] else proxied)[min(counts) :]
    assert counts[0] == counts[1], f"{what} {counts[0]} times directly, {counts[1]} times by proxy; first: {more[0]}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 2000 else f"{text[:1000]}…{text[-1000:]} ({len(text)} characters)"


# What wiretape answers by itself


def error_type(message: Message) -> str:
    """The `error.type` of an answer of ours, which has the form that all of them have."""
    assert message.one("content-type") == b"application/json", message
    error = json.loads(message.body)["error"]
    assert error["message"]
    return str(error["type"])


def refused(
    stage: Stage,
    data: Callable[[Run], bytes],
    status: int = 400,
    kind: str = "wiretape_bad_request",
) -> Both:
    """That what reaches an origin as it is, is answered by wiretape itself, which then closes with a FIN; no upstream
    sees anything of it."""

    def origin(peer: Peer, run: Run) -> None:
        if run.proxied:
            peer.read_some()  # and end, so that the test fails soon
            return
        peer.read_exactly(len(data(run)))
        peer.send(response(b"taken"))

    def client(peer: Peer, run: Run) -> None:
        try:
            peer.send(data(run))
        except Ended:
            assert run.proxied  # what it said before it left is here, or the test fails
        if peer.read_message().status == (status if run.proxied else 200):
            peer.read_to_end()

    both = twice(stage, client, origin)
    assert both.direct.connections[0].received == data(both.direct)
    assert [each.body for each in both.direct.responses] == [b"taken"]
    assert both.proxied.connections == [], f"the upstream got {both.proxied.connections[0].received[:1000]!r}"
    answers, seen = both.proxied.responses, both.proxied.client
    assert ([each.status for each in answers], seen.rest) == ([status], b""), f"{seen}"
    assert error_type(answers[0]) == kind
    assert answers[0].all(ID.decode()) == []
    assert seen.ended is End.FIN
    return both

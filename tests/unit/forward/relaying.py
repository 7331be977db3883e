"""A relay between a client and an upstream that do what the test says. Both see to it that nothing passes which is not
in the journal already."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.exchange import Change, End, Origin
from proxy.forward.policy import Rules
from proxy.forward.redact import Redactor
from proxy.forward.relay import Relay
from proxy.forward.routes import Destination
from proxy.journal import record
from proxy.journal.record import Record
from proxy.wire.interface import (
    ClientListener,
    ClientRequest,
    RawHeaders,
    Upload,
    UpstreamError,
    UpstreamExchange,
    UpstreamListener,
    UpstreamRequest,
    UpstreamResponse,
)
from tests.support.rawhttp import DEADLINE
from tests.unit.forward.tape import Clock, Stage, body_of, decoded, end_of, kinds

HEAD = UpstreamResponse(200, b"OK", [(b"Content-Type", b"text/event-stream")], bodiless=False)
EARLY = UpstreamResponse(103, b"Early", [(b"Link", b"x")], bodiless=True)
SWITCH = UpstreamResponse(101, b"Switching", [(b"Connection", b"upgrade"), (b"Upgrade", b"x")], bodiless=True)
BROKEN = UpstreamError("incomplete", "it broke")


class Side:
    """What is asked of a side is in `log`. `fail` names a call that fails, once, as code of ours might."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fail = ""
        self.records: Callable[[], list[Record]] | None = None  # of the exchange; None: it is not looked

    def _fault(self, name: str) -> None:
        if self.fail == name:
            self.fail = ""
            raise RuntimeError("sk-Secret")


class ScriptedClient(Side):
    """A wire.interface.ClientSide. What is not flushed is not in `log`."""

    def __init__(self, request: ClientRequest, upload: Upload) -> None:
        super().__init__()
        self.request = request
        self.address = "192.0.2.1"
        self.started = False
        self.upload = upload
        self.heads: list[UpstreamResponse] = []
        self.body = b""
        self.trailers: RawHeaders = []
        self._out: list[tuple[str, bytes]] = []

    def attach(self, listener: ClientListener) -> Upload:
        self.listener = listener
        return self.upload

    def interim(self, response: UpstreamResponse) -> None:
        self._fault("interim")
        self.heads.append(response)
        self._out.append((f"interim {response.status}", b""))

    def start(self, response: UpstreamResponse, trailers_follow: bool = False) -> None:
        self._fault("start")
        assert not self.started, "a second head"
        self.heads.append(response)
        self._out.append((f"head {response.status}", b""))

    def tunnel(self, response: UpstreamResponse) -> None:
        self._fault("tunnel")
        self.heads.append(response)
        self._out.append(("tunnel", b""))

    def write(self, data: bytes) -> None:
        self._fault("write")
        assert data
        self._out.append(("body", data))

    def send(self, data: bytes) -> None:
        self.write(data)
        self.flush()

    def end(self, trailers: RawHeaders) -> None:
        self._fault("end")
        self.trailers = trailers
        self._out.append(("end", b""))

    def flush(self) -> None:
        self._fault("flush")
        out, self._out = self._out, []
        for word, data in out:
            assert "abort" not in self.log, f"{word} after it was broken off"
            self.started |= word.startswith("head ") or word == "tunnel"
            self.body += data
            self.log.append(word)
        if out and self.records is not None:
            self._check(self.records(), [word for word, _ in out])

    def discard(self) -> None:
        assert "end" not in self.log or "tunnel" in self.log, "what is over is taken back"
        self._out.clear()

    def abort(self, *, reset: bool = False) -> None:
        self._out.clear()
        self.log.append("reset" if reset else "abort")

    def pause_upload(self) -> None:
        self.log.append("pause upload")

    def resume_upload(self) -> None:
        self.log.append("resume upload")

    def _check(self, records: list[Record], words: list[str]) -> None:
        own = [change for change in decoded(records, record.CHANGE, Change) if change.kind == "own_response"]
        if own:
            assert self.body.decode() == own[0].body
        else:
            assert body_of(records).startswith(self.body), "bytes pass that are not in the journal"
            heads = sum(word.startswith(("interim", "head", "tunnel")) for word in self.log)
            assert kinds(records).count(record.RESPONSE_HEAD) >= heads, "a head passes that is not in the journal"
        if "end" in words and "tunnel" not in self.log:
            assert kinds(records)[-1] == record.END


class ScriptedUpstream(Side):
    """An upstream and its only exchange. `connected` lets connections come about, unless there is a `refusal`."""

    def __init__(self, *, waiting: bool = True) -> None:
        super().__init__()
        self.listener: UpstreamListener | None = None
        self.connected = asyncio.Event()
        self.refusal: UpstreamError | None = None
        self.on_begin: Callable[[], None] = lambda: None
        self.request: UpstreamRequest | None = None
        self.received = b""
        self.trailers: RawHeaders = []
        self._waiting = waiting

    def start(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange | None:
        self._fault("start upstream")
        return self._begin(request, listener, upload) if self._waiting else None

    async def connect(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange:
        self.log.append("connect")
        await self.connected.wait()
        self._fault("connect")
        if self.refusal is not None:
            raise self.refusal
        return self._begin(request, listener, upload)

    def _begin(self, request: UpstreamRequest, listener: UpstreamListener, upload: Upload) -> UpstreamExchange:
        self.request, self.listener = request, listener
        self.received = b""
        self.log.append("begin and end" if upload.complete else "begin")
        self.trailers = upload.trailers or []
        self._take(upload.body)
        self.on_begin()
        return self

    def write(self, data: bytes) -> None:
        assert data
        self.log.append("write")
        self._take(data)

    def end(self, trailers: RawHeaders) -> None:
        self.trailers = trailers
        self.log.append("end")

    def pause(self) -> None:
        self.log.append("pause")

    def resume(self) -> None:
        self.log.append("resume")

    def abort(self) -> None:
        self.log.append("abort")

    def close(self) -> None:
        """Nothing waits."""

    def _take(self, data: bytes) -> None:
        self.received += data
        if self.records is not None:
            journaled = body_of(self.records(), record.REQUEST_CHUNK)
            assert journaled.startswith(self.received), "bytes pass that are not in the journal"


class Run:
    """A relay with both its sides; `over` counts how often it said that it is. Begun and started unless `begin` is
    false."""

    def __init__(
        self,
        stage: Stage,
        upstream: ScriptedUpstream | None = None,
        *,
        upload: Upload | None = None,
        drain: bool = False,
        expose_id: bool = False,
        limit: int | None = None,
        takes_trailers: bool = False,
        method: bytes = b"POST",
        begin: bool = True,
    ) -> None:
        self.upstream = upstream or ScriptedUpstream()
        self.clock = Clock()
        self.recorder = stage.recorder(clock=self.clock)
        asked = ClientRequest(method, b"/o/v1/x", "1.1", [(b"Host", b"h")], takes_trailers=takes_trailers)
        self.client = ScriptedClient(asked, upload or Upload(b"{}"))
        self.client.records = self.upstream.records = lambda: stage.records(self.recorder)
        self.over = 0
        self._stage = stage
        self.relay = Relay(
            Destination("o", "openai", self.upstream, b"h", b"", Origin.LIVE, "all", drain),
            UpstreamRequest(method, b"/v1/x", b"", chunked=False),
            self.recorder,
            Redactor(b"k"),
            Rules(expose_id=expose_id, max_request_body=limit),
            self.client,
            self._count,
        )
        if begin:
            self.relay.begin()
            self.relay.start()

    def _count(self, relay: Relay) -> None:
        assert relay is self.relay
        self.over += 1

    def told(self, *what: UpstreamResponse | bytes | str) -> None:
        """The upstream tells, all of it from one socket read: heads, body bytes, `end`."""
        relay = self.relay
        for each in what:
            if isinstance(each, bytes):
                relay.on_chunk(each)
            elif isinstance(each, str):
                relay.on_end([])
            elif each.status == 101:
                relay.on_upgraded(each)
            elif each.status < 200:
                relay.on_interim(each)
            else:
                relay.on_head(each)
        relay.flush()

    @property
    def tape(self) -> list[Record]:
        return self._stage.records(self.recorder)

    @property
    def end(self) -> End:
        """As it is recorded, once the exchange is over."""
        assert self.over == 1, f"it was over {self.over} times"
        return end_of(self.tape)

    @property
    def error(self) -> dict[str, Any]:
        """Of our own answer, which is recorded as it was sent."""
        (change,) = [each for each in decoded(self.tape, record.CHANGE, Change) if each.kind == "own_response"]
        assert change.body == self.client.body.decode()
        assert change.status == self.client.heads[-1].status
        sent = [(name.decode(), value.decode()) for name, value in self.client.heads[-1].headers]
        assert change.headers == sent
        found: dict[str, Any] = json.loads(self.client.body)["error"]
        return found


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Until something is so that no event announces."""
    loop = asyncio.get_running_loop()
    late = loop.time() + DEADLINE
    for _ in iter(condition, True):
        assert loop.time() < late, f"not within {DEADLINE:g} s: {what}"
        await asyncio.sleep(0.001)


def play(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in a loop of its own; fails where a task or a callback failed."""
    complaints: list[str] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(repr(context)))
        await main()
        await turns()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, "tasks were left"

    asyncio.run(watched())
    assert complaints == []

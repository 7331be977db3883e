"""A listener that keeps what it hears, and event loops that must be left as clean as they were found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from proxy.wire.interface import (
    RawHeaders,
    Timeouts,
    Upload,
    UpstreamError,
    UpstreamExchange,
    UpstreamRequest,
    UpstreamResponse,
)
from proxy.wire.pool import PooledUpstream
from proxy.wire.request import encode_head

DEADLINE = 20.0
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


class Ear:
    """A wire.interface.UpstreamListener. `log` holds words in the order in which they were heard, `flush` left out;
    `react` is called after each."""

    def __init__(self, react: Callable[[str], None] | None = None) -> None:
        self.log: list[str] = []
        self.interims: list[UpstreamResponse] = []
        self.head: UpstreamResponse | None = None
        self.chunks: list[bytes] = []
        self.trailers: RawHeaders = []
        self.error: UpstreamError | None = None
        self.heard = asyncio.Event()
        self.over = asyncio.Event()
        self._react = react
        self._flushed = 0  # words that a `flush` has followed

    def on_interim(self, response: UpstreamResponse) -> None:
        self.interims.append(response)
        self._note(f"interim {response.status}")

    def on_head(self, response: UpstreamResponse) -> None:
        self.head = response
        self._note(f"head {response.status}")

    def on_upgraded(self, response: UpstreamResponse) -> None:
        self.head = response
        self._note("upgraded")

    def on_chunk(self, data: bytes) -> None:
        self.chunks.append(data)
        self._note("chunk" if data else "an empty chunk")

    def on_data(self, data: bytes) -> None:
        self.on_chunk(data)
        self.flush()

    def on_end(self, trailers: RawHeaders) -> None:
        self.trailers = trailers
        self._note("end")

    def on_broken(self, error: UpstreamError) -> None:
        self.error = error
        self._note(error.code)

    def flush(self) -> None:
        assert self.error is None, "a flush after it broke"
        self._flushed = len(self.log)

    def pause_upload(self) -> None:
        self._note("pause")

    def resume_upload(self) -> None:
        self._note("resume")

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def words(self) -> list[str]:
        """The log without how the body was cut and how the upload flowed."""
        seen = [word for word in self.log if word not in {"pause", "resume"}]
        return [word for at, word in enumerate(seen) if word != "chunk" or at == 0 or seen[at - 1] != "chunk"]

    async def finish(self) -> list[str]:
        """Wait for the exchange's end: `words`."""
        await asyncio.wait_for(self.over.wait(), DEADLINE)
        assert self.error is not None or self._flushed == len(self.log), "nothing flushes what was told last"
        return self.words

    async def hears(self, word: str) -> None:
        """Until the word was heard."""
        await self._until(lambda: word in self.log)

    async def has(self, body: bytes) -> None:
        """Until this, and no more, is the body."""
        await self._until(lambda: self.body == body)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.heard.clear()
                await self.heard.wait()

    def _note(self, word: str) -> None:
        assert not self.over.is_set(), f"{word} after the end"
        self.log.append(word)
        self.heard.set()
        if word == "end" or self.error is not None:
            self.over.set()
        if self._react is not None:
            self._react(word)


def pool(port: int, timeouts: Timeouts | None = None, host: str = "127.0.0.1") -> PooledUpstream:
    return PooledUpstream(host, port, None, timeouts or Timeouts())


def request(
    method: bytes = b"POST", *headers: tuple[bytes, bytes], chunked: bool = False, upgrade: bool = False
) -> UpstreamRequest:
    return UpstreamRequest(method, b"/x?", encode_head(method, b"/x?", [(b"Host", b"h"), *headers]), chunked, upgrade)


async def begin(
    upstream: PooledUpstream,
    ear: Ear,
    asked: UpstreamRequest | None = None,
    body: bytes = b"",
    complete: bool = True,
) -> UpstreamExchange:
    """As the relay does it: on a connection that waits, or else on a new one."""
    asked, upload = asked or request(), Upload(body, complete)
    return upstream.start(asked, ear, upload) or await upstream.connect(asked, ear, upload)


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Until something is so that no event announces."""
    loop = asyncio.get_running_loop()
    late = loop.time() + DEADLINE
    for _ in iter(condition, True):
        assert loop.time() < late, f"not within {DEADLINE:g} s: {what}"
        await asyncio.sleep(0.001)


def sockets() -> set[str]:
    """The open sockets of this process."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def run_clean(factory: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, T]) -> T:
    """Run on a new loop; fails where a callback failed, a task was left, or a socket stays open."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        before = sockets()
        try:
            result = await main
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, "tasks were left"
        await eventually(lambda: sockets() <= before, "sockets stay open")
        return result

    with asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(watched())
    assert complaints == []
    return result

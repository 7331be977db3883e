"""The upstream of the mixed traffic: it answers each request as its plan says, and notes what should not be.

Must not know clients, wiretape, or what is recorded.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Self

from tests.chaos.mix import TARGET, Leave, Met, Way

Fields = list[tuple[bytes, bytes]]
Take = Callable[[bytes], None]

PATIENCE = 30.0
BLOCK = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close with RST
_HEAD = b"HTTP/1.1 %b\r\nContent-Type: text/event-stream\r\n%b\r\n"
TRAILERS = [(b"X-Sum", b"of all"), (b"X-Other", b"")]
HUGE = 1 << 40  # the length of a body that nobody waits for the end of


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    sock = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # it is closed already
    writer.transport.abort()


async def read_head(reader: asyncio.StreamReader) -> tuple[bytes, Fields]:
    """A start line and header fields. Raises IncompleteReadError and ConnectionError."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    fields = [line.partition(b":") for line in lines]
    return start, [(name.lower(), value.strip()) for name, _, value in fields]


async def read_some(reader: asyncio.StreamReader, most: int, take: Take) -> int:
    """Take at most `most` bytes; how many. Raises IncompleteReadError where there are none any more."""
    data = await reader.read(min(most, BLOCK))
    if not data:
        raise asyncio.IncompleteReadError(b"", most)
    take(data)
    return len(data)


async def read_body(reader: asyncio.StreamReader, fields: Fields, take: Take) -> Fields:
    """A body by its framing, taken as it comes; its trailers. None where the head names no framing. Raises as the
    others."""
    named = dict(fields)
    left = int(named.get(b"content-length", b"0"))
    while left:
        left -= await read_some(reader, left, take)
    if b"transfer-encoding" not in named:
        return []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        while size:
            size -= await read_some(reader, size, take)
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("a chunk is longer than it says")
    trailers = []
    while line := (await reader.readuntil(b"\r\n"))[:-2]:
        name, _, value = line.partition(b":")
        trailers.append((name, value.strip()))
    return trailers


class MixedUpstream:
    """Listens on a free port. `met` are the exchanges to come, by token; `faults` a sentence each."""

    def __init__(self) -> None:
        self.met: dict[str, Met] = {}
        self.faults: list[str] = []
        self.gate = asyncio.Event()  # lets go what is held
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._busy: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=1 << 20, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._server.close()
        with nullcontext() if error is None else suppress(TimeoutError):
            await self.close_all()

    async def close_all(self) -> None:
        """Close every connection, which nobody uses any more, and wait for that. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while self._open:
                for writer in self._open - self._busy:
                    writer.close()
                await asyncio.sleep(0.01)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        writer.transport.set_write_buffer_limits(BLOCK)
        try:
            goes_on = True
            while goes_on:
                start, fields = await read_head(reader)
                self._busy.add(writer)
                async with asyncio.timeout(PATIENCE):
                    goes_on = await self._request(start, fields, reader, writer)
                self._busy.discard(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has left; whether it should have is for the outcome to say
        except Exception as error:  # noqa: BLE001 - the edge of a connection: the campaign must hear of it
            self.faults.append(f"the upstream: {error!r}")
        finally:
            writer.close()
            self._busy.discard(writer)
            self._open.discard(writer)

    async def _request(
        self, start: bytes, fields: Fields, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request; whether the connection goes on."""
        target = start.split(b" ")[1]
        met = self.met[target.removeprefix(TARGET).decode()]
        plan = met.plan
        if met.arrived.is_set():
            self.faults.append(f"asked twice: {plan}")
        met.arrived.set()
        if plan.leave is Leave.BEFORE_HEAD:
            await read_body(reader, fields, met.take_upload)
            await self._wait_left(reader, met)
            return False
        if plan.way is Way.EARLY:
            return await self._answer_early(reader, writer, met)
        if plan.way is Way.CONTINUE:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await read_body(reader, fields, met.take_upload)
        if met.upload != plan.uploaded or plan.leave is Leave.AMID_UPLOAD:
            self.faults.append(f"{len(met.upload)} bytes of the upload came: {plan}")
        if plan.way is Way.TUNNEL:
            await self._tunnel(reader, writer, met)
            return False
        return await self._answer(reader, writer, met)

    async def _answer_early(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, met: Met) -> bool:
        """Before the upload is over; what still comes is swallowed, or the kernel would reset the answer away."""
        body = met.plan.body
        await reader.read(1)
        framing = b"Connection: close\r\nContent-Length: %d\r\n" % len(body)
        writer.write(_HEAD % (b"413 Content Too Large", framing) + body)
        await writer.drain()
        while await reader.read(BLOCK):
            pass
        return False

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, met: Met) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        plan, left = met.plan, len(met.plan.body) if not met.plan.endless else HUGE
        while left and (data := await reader.read(BLOCK)):
            left -= len(data)
            writer.write(data)
            await writer.drain()
        if plan.endless:
            return
        if not plan.closing and await reader.read(BLOCK):
            self.faults.append(f"the tunnel brought too much: {plan}")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, met: Met) -> bool:
        plan = met.plan
        if plan.way is Way.SILENT:
            reset(writer)
            return False
        if plan.way is Way.GARBAGE:
            writer.write(b"220 %b ready\r\n" % plan.token.encode())
            await self._wait_left(reader, met)
            return False
        if plan.way is Way.HINTS:
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <%b>\r\n\r\n" % plan.token.encode())
        writer.write(_HEAD % (b"200 OK", self._framing(met)))
        await self._send_body(writer, met)
        if plan.way is Way.CUT:
            reset(writer)
            return False
        if plan.way is Way.TRAILERS:
            writer.write(b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in TRAILERS))
        elif plan.response_chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return not (plan.closing or plan.way in (Way.CLOSE, Way.SHORT))

    def _framing(self, met: Met) -> bytes:
        plan = met.plan
        lines = b"Connection: close\r\n" if plan.closing else b""
        if plan.way is Way.GZIP:
            lines += b"Content-Encoding: gzip\r\n"
        if plan.response_chunked:
            return lines + b"Transfer-Encoding: chunked\r\n"
        if plan.way is Way.CLOSE:
            return lines
        length = HUGE if plan.endless else len(plan.body) + (plan.way is Way.SHORT)
        return lines + b"Content-Length: %d\r\n" % length

    async def _send_body(self, writer: asyncio.StreamWriter, met: Met) -> None:
        plan = met.plan
        for number, part in enumerate(plan.parts()):
            writer.write(b"%x\r\n%b\r\n" % (len(part), part) if plan.response_chunked else part)
            await writer.drain()
            if not number and plan.way is Way.CUT:
                await met.flowing.wait()  # a reset would take with it what has not been read yet
            if not number and plan.held:
                await self.gate.wait()
            if plan.pace or plan.endless:
                await asyncio.sleep(plan.pace or 0.001)

    async def _wait_left(self, reader: asyncio.StreamReader, met: Met) -> None:
        """Until the connection ends, which must be soon, though the upstream says nothing."""
        try:
            async with asyncio.timeout(PATIENCE - 5):
                if await reader.read(BLOCK):
                    self.faults.append(f"more came than the request: {met.plan}")
        except TimeoutError:
            self.faults.append(f"its client has left, but nobody told the upstream: {met.plan}")

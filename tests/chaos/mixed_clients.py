"""The clients of the mixed traffic: each carries out one plan after the other, leaving where the plan says so.

Must not know the upstream, or what is recorded.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.chaos.mix import BROKEN, FAILED, Leave, Met, Plan, Way
from tests.chaos.mixed_upstream import BLOCK, PATIENCE, TRAILERS, Fields, read_body, read_head, read_some, reset

_ENDED = (ConnectionError, asyncio.IncompleteReadError)
_INTERIMS = {Way.HINTS: [103], Way.CONTINUE: [100]}
_PIECE = 16_000  # bytes of an upload that are sent at once


@dataclass(frozen=True, slots=True)
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def leave(self, *, by_reset: bool) -> None:
        if by_reset:
            reset(self.writer)
        else:
            self.writer.close()


class Client:
    """One client of the data port at `port`; its connection may carry several exchanges. Ask `up`, or `dead` for what
    nobody answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None

    async def carry_out(self, met: Met) -> None:
        """Raises TimeoutError, and ValueError for what makes no sense."""
        async with asyncio.timeout(PATIENCE):
            connection, self._connection = self._connection or await self._connect(), None
            goes_on = False
            try:
                goes_on = await self._act(connection, met) and not met.plan.last
            except _ENDED:
                pass  # `met` tells how far it came
            finally:
                if goes_on:
                    self._connection = connection
                else:
                    connection.writer.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.writer.close()
            self._connection = None

    async def _connect(self) -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20))
        connection.writer.transport.set_write_buffer_limits(BLOCK)
        return connection

    async def _act(self, connection: Connection, met: Met) -> bool:
        """Whether the connection can carry another exchange."""
        plan = met.plan
        head = _head(plan)
        if plan.leave is Leave.HALF_HEAD:
            connection.writer.write(head[: len(head) // 2])
            connection.leave(by_reset=plan.reset)
            return False
        connection.writer.write(head)
        sending = asyncio.create_task(_upload(connection.writer, met))
        try:
            if plan.leave is Leave.BEFORE_HEAD:
                await sending
                await met.arrived.wait()
            elif plan.leave is Leave.AMID_UPLOAD:
                await met.halfway.wait()
            else:
                fields = await _final_head(connection.reader, met)
                return await self._response(connection, fields, met)
            connection.leave(by_reset=plan.reset)
            return False
        finally:
            sending.cancel()

    async def _response(self, connection: Connection, fields: Fields, met: Met) -> bool:
        plan = met.plan
        if plan.way is Way.TUNNEL and met.status == 101:
            await self._tunnel(connection, met)
            return False
        if plan.leave is Leave.AMID_RESPONSE:
            reading = asyncio.create_task(read_body(connection.reader, fields, met.take_response))
            await met.flowing.wait()
            reading.cancel()
            connection.leave(by_reset=plan.reset)
            return False
        met.trailers = await read_body(connection.reader, fields, met.take_response)
        met.complete = True
        return len(met.upload) == len(plan.uploaded) and (b"connection", b"close") not in fields

    async def _tunnel(self, connection: Connection, met: Met) -> None:
        """Each piece must come back before the next goes out."""
        reader, writer, plan = connection.reader, connection.writer, met.plan
        for part in plan.parts():
            writer.write(part)
            left = len(part)
            while left:
                left -= await read_some(reader, left, met.take_response)
            if plan.leave is Leave.AMID_RESPONSE and len(met.body) > 2 * plan.size:
                connection.leave(by_reset=True)
                return
        if not plan.closing:
            writer.write_eof()
        met.complete = not await reader.read(BLOCK)


def _head(plan: Plan) -> bytes:
    # A GET may be asked again where its connection ends without an answer.
    method = b"GET" if not plan.upload and plan.way is not Way.SILENT else b"POST"
    name = b"dead" if plan.way is Way.DEAD else b"up"
    lines = [b"%b /%b%b HTTP/1.1" % (method, name, plan.target), b"Host: soak.test", b"X-Soak: " + plan.token.encode()]
    if plan.upload or method == b"POST":
        framing = b"Transfer-Encoding: chunked" if plan.chunked else b"Content-Length: %d" % len(plan.uploaded)
        lines.append(framing)
    if plan.way is Way.CONTINUE:
        lines.append(b"Expect: 100-continue")
    elif plan.way is Way.TRAILERS:
        lines += [b"TE: trailers", b"Connection: TE"]
    elif plan.way is Way.TUNNEL:
        lines += [b"Connection: upgrade", b"Upgrade: echo"]
    return b"\r\n".join([*lines, b"", b""])


async def _upload(writer: asyncio.StreamWriter, met: Met) -> None:
    plan = met.plan
    data = plan.uploaded
    if plan.way is Way.CONTINUE:
        await met.invited.wait()
    if plan.leave is Leave.AMID_UPLOAD:
        data = data[: (len(data) + 1) // 2]
    try:
        for start in range(0, len(data), _PIECE):
            part = data[start : start + _PIECE]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part) if plan.chunked else part)
            await writer.drain()
            await asyncio.sleep(plan.pace / 4)
        if plan.chunked and plan.leave is not Leave.AMID_UPLOAD:
            writer.write(b"0\r\n\r\n")
    except ConnectionError:
        pass  # an answer that came early ended it; what it was is read elsewhere


async def _final_head(reader: asyncio.StreamReader, met: Met) -> Fields:
    while True:
        start, fields = await read_head(reader)
        status = int(start.split(b" ")[1])
        if status >= 200 or status == 101:
            met.status = status
            met.id = dict(fields).get(b"x-wiretape-exchange", b"").decode() or None
            return fields
        met.interims.append(status)
        met.invited.set()


def fault(met: Met) -> str | None:
    """What is wrong with what a client got."""
    plan, body = met.plan, bytes(met.body)
    if plan.leave is Leave.AMID_RESPONSE:
        return None if plan.begins_with(body) else "what came is not what was sent"
    if plan.leave is not None:
        return None
    if met.status != plan.status or met.id is None:
        return f"the status is {met.status}"
    if plan.way in BROKEN:
        return None if plan.begins_with(body) and not met.complete else "a stream that broke looks whole, or is another"
    if not met.complete:
        return f"it ended after {len(body)} bytes"
    wanted = (
        _INTERIMS.get(plan.way, []),
        TRAILERS if plan.way is Way.TRAILERS else [],
        body if plan.way in FAILED else plan.body,
    )
    found = (met.interims, met.trailers, body)
    return None if found == wanted else f"what came is not what was sent: {found[:2]} and {len(body)} bytes"

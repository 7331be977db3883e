"""`receive` and `send` for an ASGI application that does not know the wire's extension. Must not know sockets."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from proxy.wire.interface import ClientSide, RawHeaders, RequestError, UpstreamResponse

Message = dict[str, Any]

HIGH_WATER = 256 * 1024  # bytes of a body that the application has not asked for, above which the client is not read


class AsgiEnd:
    """The application's end of one request; a wire.interface.ClientListener from the first `receive` or `send` on."""

    def __init__(self, client: ClientSide) -> None:
        self._client = client
        self._attached = False
        self._messages: deque[Message] = deque()
        self._size = 0
        self._upload_paused = False
        self._lost = False
        self._changed: asyncio.Future[None] | None = None
        self._response_paused = False
        self._head: UpstreamResponse | None = None
        self._trailers_follow = False
        self._begun = False  # the head was handed on
        self._asked = False  # for the body
        self._ended = False

    async def receive(self) -> Message:
        self._attach()
        if self._client.request.awaits_continue and not self._asked and not self._begun:
            self._asked = True  # whoever reads wants the body, and the client waits to hear so
            self._client.interim(UpstreamResponse(100, b"Continue", [], bodiless=True))
            self._client.flush()
        while not self._messages:
            if self._lost or self._ended:
                return {"type": "http.disconnect"}
            await self._change()
        message = self._messages.popleft()
        self._size -= len(message["body"])
        if self._upload_paused and self._size <= HIGH_WATER:
            self._upload_paused = False
            self._client.resume_upload()
        return message

    async def send(self, message: Message) -> None:
        """Raises ConnectionResetError where the client has left."""
        self._attach()
        kind = message["type"]
        if self._ended:
            return
        await asyncio.sleep(0)  # the event loop has to turn to see a client leave
        if self._lost:
            raise ConnectionResetError("the client has left")
        if kind == "http.response.start":
            status = message["status"]
            bodiless = self._client.request.method == b"HEAD" or status in (204, 304)
            headers: RawHeaders = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self._head = UpstreamResponse(status, message.get("reason") or b"", headers, bodiless)
            self._trailers_follow = bool(message.get("trailers"))
        elif kind == "http.response.body":
            self._body(message.get("body", b""), more=bool(message.get("more_body")))
        elif kind == "http.response.trailers" and not message.get("more_trailers"):
            self._end([(bytes(name), bytes(value)) for name, value in message.get("headers", ())])
        while self._held_back():
            await self._change()

    def give_up(self) -> None:
        """The application is done, and its response is not."""
        if self._ended or self._lost:
            return
        self._attach()
        if self._begun:
            self._client.abort()
            return
        body = b"Internal Server Error"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        self._head = UpstreamResponse(500, body, headers, self._client.request.method == b"HEAD")
        self._trailers_follow = False
        self._body(body, more=False)

    def _held_back(self) -> bool:
        return self._response_paused and not (self._lost or self._ended)

    def _body(self, data: bytes, *, more: bool) -> None:
        head = self._head
        if head is None:
            raise RuntimeError("a response's body before its head")
        if not self._begun:
            self._begun = True
            self._client.start(head, self._trailers_follow)
        if data and not head.bodiless:
            self._client.write(bytes(data))
        if not more and not self._trailers_follow:
            self._end([])
        else:
            self._client.flush()

    def _end(self, trailers: RawHeaders) -> None:
        self._ended = True
        self._client.end(trailers)
        self._client.flush()
        self._tell()

    # What the client's side tells

    def on_body(self, data: bytes) -> None:
        self._put(data, more=True)
        if self._size > HIGH_WATER and not self._upload_paused:
            self._upload_paused = True
            self._client.pause_upload()

    def on_request_end(self, trailers: RawHeaders) -> None:
        self._put(b"", more=False)

    def on_request_failed(self, error: RequestError) -> None:
        self.on_lost(reset=False)
        self._client.abort()

    def on_lost(self, *, reset: bool) -> None:
        self._lost = True
        self._messages.clear()
        self._tell()

    def pause_response(self) -> None:
        self._response_paused = True

    def resume_response(self) -> None:
        self._response_paused = False
        self._tell()

    def _attach(self) -> None:
        if self._attached:
            return
        self._attached = True
        upload = self._client.attach(self)
        if upload.body or upload.complete:
            self._put(upload.body, more=not upload.complete)

    def _put(self, data: bytes, *, more: bool) -> None:
        self._size += len(data)
        self._messages.append({"type": "http.request", "body": data, "more_body": more})
        self._tell()

    async def _change(self) -> None:
        """Until something has changed: `receive` and `send` may both be waiting, in tasks that may be cancelled."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _tell(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

"""The built-in upstream as a partner: what it refuses, when it answers, and that it minds pause and abort."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest

from proxy.forward.demo import MAX_BODY, DemoUpstream
from proxy.forward.demo_streams.provider import pauses
from proxy.wire.interface import Upload, Upstream
from tests.unit.forward.demo_partner import (
    CHAT,
    DEADLINE,
    GENERATE,
    MESSAGES,
    SSE_GENERATE,
    STREAMS,
    Heard,
    as_body,
    ask,
    chat,
    hear,
    request,
    turns,
)


def openai_error(document: Any) -> str:
    error = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return str(error["message"])


def anthropic_error(document: Any) -> str:
    assert (document["type"], document.keys()) == ("error", {"type", "error", "request_id"})
    assert document["error"].keys() == {"type", "message"}
    return str(document["error"]["message"])


def gemini_error(document: Any) -> str:
    assert document["error"].keys() == {"code", "message", "status"}
    return str(document["error"]["message"])


SHAPES = [(CHAT, openai_error), (MESSAGES, anthropic_error), (SSE_GENERATE, gemini_error), (GENERATE, gemini_error)]
UNREADABLE = {
    "empty": b"",
    "cut": b'{"model": "m", "stream": tr',
    "more": b'{"model": "m"} {}',
    "text": b"hello",
    "array": b"[]",
    "null": b"null",
    "bytes": b"\x1f\x8b\x08\x00",
    "deep": b'{"messages": ' + b"[" * 100_000,
    "deep and whole": b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize(("target", "message_of"), SHAPES)
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_body(target: str, message_of: Callable[[Any], str], body: bytes) -> None:
    heard = ask(target, body)
    assert (heard.head.status, heard.head.reason) == (400, b"Bad Request")
    assert "request body" in message_of(heard.document)


@pytest.mark.parametrize("field", [{"stream": "yes"}, {"model": 5}, {"model": "m" * 1000}, {"stream_options": []}])
def test_fields_of_the_wrong_kind(field: dict[str, object]) -> None:
    heard = ask(CHAT, field)
    assert heard.head.status == 400
    assert f"$.{next(iter(field))}" in openai_error(heard.document)


def test_a_model_name_too_long_in_the_path() -> None:
    assert ask(f"/v1/models/{'m' * 1000}:generateContent", {}).head.status == 400


@pytest.mark.parametrize("target", ["/", "", "/v1", "/v1/messages/", "/v1/embeddings", "/v1beta/models", "/%ff\xff"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_unknown_path(target: str, method: str) -> None:
    heard = ask(target, b"not looked at", method)
    assert heard.head.status == 404
    message = openai_error(heard.document)
    assert all(path in message for path in (CHAT, MESSAGES, ":streamGenerateContent"))


@pytest.mark.parametrize(("target", "message_of"), SHAPES)
@pytest.mark.parametrize("method", ["GET", "PUT", "post"])
def test_wrong_method(target: str, message_of: Callable[[Any], str], method: str) -> None:
    heard = ask(target, {}, method)
    assert heard.head.status == 405
    assert heard.headers["allow"] == "POST"
    assert "POST" in message_of(heard.document)


def test_wrong_method_for_models() -> None:
    heard = ask("/v1/models", {})
    assert (heard.head.status, heard.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(("target", "message_of"), SHAPES)
def test_body_over_the_limit(target: str, message_of: Callable[[Any], str]) -> None:
    fits = json.dumps({"padding": ""}).encode()
    fits = fits.replace(b'""', b'"' + b"x" * (MAX_BODY - len(fits)) + b'"')
    assert ask(target, fits).head.status == 200
    heard = ask(target, fits + b" ")
    assert heard.head.status == 413
    assert str(MAX_BODY) in message_of(heard.document)


@pytest.mark.parametrize(("target", "content"), STREAMS)
def test_body_in_pieces_of_one_byte(target: str, content: object) -> None:
    async def scenario() -> Heard:
        heard = Heard()
        body = as_body(content)
        exchange = DemoUpstream(0).start(request(target), heard, Upload(body[:1], complete=False))
        for at in range(1, len(body)):
            exchange.write(body[at : at + 1])
        await turns()
        assert heard.log == [], "answered before the request was complete"
        exchange.end([])
        assert heard.log == []
        await asyncio.wait_for(heard.over.wait(), DEADLINE)
        return heard

    assert len(asyncio.run(scenario()).chunks) == len(ask(target, content).chunks)


def test_start_and_connect_tell_nothing_at_once() -> None:
    async def scenario() -> None:
        upstream: Upstream = DemoUpstream(0)
        one, two = Heard(), Heard()
        assert upstream.start(request(CHAT), one, Upload(b"{}")) is not None
        await upstream.connect(request(CHAT), two, Upload(b"{}"))
        assert one.log == two.log == []
        for heard in (one, two):
            await asyncio.wait_for(heard.over.wait(), DEADLINE)
        upstream.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("target", "content"), STREAMS)
def test_pause_and_resume_lose_nothing(target: str, content: object) -> None:
    def pause(heard: Heard) -> None:
        assert heard.exchange is not None
        heard.exchange.pause()

    async def scenario() -> Heard:
        heard = Heard(pause)
        heard.exchange = DemoUpstream(0).start(request(target), heard, Upload(as_body(content)))
        heard.exchange.pause()
        while not heard.over.is_set():
            events = len(heard.log)
            await turns(20)
            assert len(heard.log) == events, "told something while paused"
            heard.told.clear()
            heard.exchange.resume()
            heard.exchange.resume()
            assert len(heard.log) == events, "told something from inside resume"
            await asyncio.wait_for(heard.told.wait(), DEADLINE)
            assert len(heard.log) == events + 1
        heard.exchange.resume()
        await turns()
        return heard

    heard = asyncio.run(scenario())
    assert [len(chunk) for chunk in heard.chunks] == [len(chunk) for chunk in ask(target, content).chunks]
    assert heard.log[-1] == "end"


def test_pause_before_the_request_is_complete() -> None:
    async def scenario() -> None:
        heard = Heard()
        exchange = DemoUpstream(0).start(request(CHAT), heard, Upload(b"{}", complete=False))
        exchange.pause()
        exchange.end([])
        await turns()
        assert heard.log == []
        exchange.resume()
        await asyncio.wait_for(heard.over.wait(), DEADLINE)
        assert heard.log == ["head", "chunk", "end"]

    asyncio.run(scenario())


def test_pause_and_resume_within_an_event() -> None:
    def blink(heard: Heard) -> None:
        assert heard.exchange is not None
        heard.exchange.pause()
        heard.exchange.pause()
        heard.exchange.resume()

    async def scenario() -> Heard:
        heard = Heard(blink)
        heard.exchange = DemoUpstream(0).start(request(CHAT), heard, Upload(b'{"stream": true}'))
        await asyncio.wait_for(heard.over.wait(), DEADLINE)
        await turns()
        return heard

    heard = asyncio.run(scenario())
    assert heard.log == ["head", *["chunk"] * len(chat(stream=True).chunks), "end"]


@pytest.mark.parametrize("events", [0, 1, 4])
def test_abort_silences(events: int) -> None:
    def leave(heard: Heard) -> None:
        if len(heard.log) == events:
            assert heard.exchange is not None
            heard.exchange.abort()

    async def scenario() -> Heard:
        heard = Heard(leave)
        heard.exchange = DemoUpstream(0).start(request(CHAT), heard, Upload(b'{"stream": true}'))
        if events == 0:
            heard.exchange.abort()
        await turns()
        heard.exchange.resume()
        heard.exchange.write(b"late")
        heard.exchange.end([])
        heard.exchange.abort()
        await turns()
        return heard

    assert len(asyncio.run(scenario()).log) == events


def test_abort_during_the_upload() -> None:
    async def scenario() -> Heard:
        heard = Heard()
        exchange = DemoUpstream(0).start(request(CHAT), heard, Upload(b"{", complete=False))
        exchange.abort()
        exchange.write(b"}")
        exchange.end([])
        await turns()
        return heard

    assert asyncio.run(scenario()).log == []


def test_the_pace_of_a_model() -> None:
    count = len(chat(stream=True).chunks)
    before_head, before_first, *between = pauses(count)
    assert before_head + before_first == pytest.approx(0.3)
    assert len(between) == count - 1
    assert all(0.02 <= pause <= 0.08 for pause in between)
    assert len(set(between)) > 5
    assert sum(pauses(count)) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("stream", [True, False])
def test_pauses_are_kept(stream: bool) -> None:
    pace = 0.1
    count = len(chat(stream=True).chunks)

    async def scenario() -> tuple[float, Heard]:
        began = asyncio.get_running_loop().time()
        return began, await hear(CHAT, {"stream": stream}, pace=pace)

    began, heard = asyncio.run(scenario())
    expected = [*pauses(count), 0.0] if stream else [sum(pauses(count)), 0.0, 0.0]
    # From the beginning and never from one event to the next: an event may be late, none is early.
    earliest = [began + 0.99 * pace * waited for waited in accumulate(expected)]
    assert all(told >= due for told, due in zip(heard.times, earliest, strict=True))

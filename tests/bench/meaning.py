"""What it costs to understand: the lens by itself, then reading back, lens and writing; and apart from that the index.

`python -m tests.bench.meaning`: microseconds of CPU, beside what is allowed. Every text that comes out is compared.
"""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Recording
from proxy.store.fulltext import index_some
from tests.support.aws import event
from tests.support.journals import a_house, exchange, merged
from tests.support.websocket import Frame, Op

FIXED_US, PER_BYTE_US, PER_EVENT_US = 300.0, 0.005, 10.0
"""What is allowed, index apart."""

_ID = b'"id":"chatcmpl-SYN0001","object":"chat.completion.chunk","created":1726623632,"model":"gpt-4o-mini-2024-07-18"'
_SSE = ("Content-Type", "text/event-stream")


class Form(NamedTuple):
    """A wire format: `event` says one more `word`, `last` has the usage and ends the stream."""

    name: str
    target: str
    word: str
    event: bytes
    last: bytes
    header: tuple[str, str] = _SSE


_CHAT = (
    b"data: {%s," % _ID
    + b'"choices":[{"index":0,"delta":{"content":" hello"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n',
    b'data: {%s,"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n' % _ID
    + b"data: [DONE]\n\n",
)
_RESPONSES = (
    (
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_1","output_i'
        b'ndex":1,"content_index":0,"delta":"2 + 2","logprobs":[],"obfuscation":"zz","sequence_number":11}\n\n'
    ),
    (
        b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1","status":"completed",'
        b'"model":"gpt-5","usage":{"input_tokens":9,"output_tokens":2,"total_tokens":11}}}\n\n'
    ),
)
_WORDS = "Checking the weather in Paris, please wait a moment for me to answer this"
_MESSAGES = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":'
    b'"%s"}          }\n\n' % _WORDS.encode(),
    (
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":'
        b'{"output_tokens":30}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
    ),
)
_GENERATE = (
    (
        b'data: {"candidates": [{"content": {"parts": [{"text": "Well, "}],"role": "model"},"index": 0}],"usageMeta'
        b'data": {"promptTokenCount": 9,"totalTokenCount": 11},"modelVersion": "gemini-2.5-flash","responseId":'
        b' "r"}\r\n\r\n'
    ),
    (
        b'data: {"candidates": [{"finishReason": "STOP"}],"usageMetadata": {"promptTokenCount": 9,'
        b'"candidatesTokenCount": 2,"totalTokenCount": 11}}\r\n\r\n'
    ),
)
_GEMINI = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent"
FORMS = (
    Form("openai chat", "/openai/v1/chat/completions", " hello", *_CHAT),
    Form("openai responses", "/openai/v1/responses", "2 + 2", *_RESPONSES),
    Form("anthropic", "/anthropic/v1/messages", _WORDS, *_MESSAGES),
    Form("gemini", _GEMINI, "Well, ", *_GENERATE),
)

_PAYLOAD = {"contentBlockIndex": 0, "delta": {"text": "Well, "}, "p": "abcdefghijklmnopqrstuvwxyz" * 3}
_NATIVE = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Well, "}}'
_CONVERSE = "/bedrock/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/"
_AWS = ("Content-Type", "application/vnd.amazon.eventstream")
_COHERE = b'event: %s\ndata: {"type":"%s","index":0,"delta":%s}\n\n'


def _text(message: dict[str, Any]) -> bytes:
    """A message of a WebSocket's server."""
    return Frame(Op.TEXT, json.dumps(message).encode()).encode()


OTHERS = (
    Form(
        "bedrock converse",
        _CONVERSE + "converse-stream",
        "Well, ",
        event("contentBlockDelta", _PAYLOAD),
        event("metadata", {"usage": {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11}}),
        _AWS,
    ),
    Form(
        "bedrock invoke",
        _CONVERSE + "invoke-with-response-stream",
        "Well, ",
        event("chunk", {"bytes": base64.b64encode(_NATIVE).decode(), "p": "abcdefgh"}),
        event("chunk", {"bytes": base64.b64encode(b'{"type":"message_stop"}').decode()}),
        _AWS,
    ),
    Form(
        "cohere",
        "/cohere/v2/chat",
        "Well, ",
        _COHERE % (b"content-delta", b"content-delta", b'{"message":{"content":{"text":"Well, "}}}'),
        _COHERE
        % (b"message-end", b"message-end", b'{"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":9}}}'),
    ),
    Form(
        "ollama",
        "/ollama/api/chat",
        "Well, ",
        b'{"model":"llama3.2","created_at":"2025-10-26T17:15:24.097767Z","message":{"role":"assistant","content":'
        b'"Well, "},"done":false}\n',
        b'{"model":"llama3.2","message":{"role":"assistant","content":""},"done":true,"eval_count":2}\n',
        ("Content-Type", "application/x-ndjson"),
    ),
    Form(
        "realtime",
        "/openai/v1/realtime?model=gpt-realtime",
        "Well, ",
        _text(
            {
                "type": "response.output_audio_transcript.delta",
                "event_id": "event_3",
                "response_id": "resp_RT1",
                "item_id": "item_1",
                "output_index": 0,
                "content_index": 0,
                "delta": "Well, ",
            }
        ),
        _text({"type": "response.done", "response": {"id": "r", "status": "completed", "usage": {"input_tokens": 9}}}),
        ("Upgrade", "websocket"),
    ),
)
"""Those that are measured without rows, which cost the same for all."""


def table(*, quick: bool = False) -> str:
    """All of it, as lines to print. Raises AssertionError where a text is not what was sent."""
    events, count = (500, 100) if quick else (5000, 1000)
    lines = [
        (
            f"interpretation, CPU us (allowed: {FIXED_US:.0f} an exchange, {PER_EVENT_US:.0f} an event of 200 bytes,"
            f" {PER_BYTE_US * 1000:.0f} ns a byte; index apart)"
        ),
        (
            f"{'':18}{'lens, an event':>16}{'lens, an exchange':>20}{'with rows: 1 event':>20}{'20 events':>12}"
            f"{'500 events':>12}{'allowed':>8}{'index':>8}"
        ),
    ]
    for form in FORMS:
        event_us, each = _lens(form, events, count)
        rows = {number: _with_rows(form, max(count // max(number // 10, 1), 10), number) for number in (1, 20, 500)}
        shown = "".join(f"{rows[number][0]:{width}.0f}" for number, width in ((1, 20), (20, 12), (500, 12)))
        lines.append(f"{form.name:18}{event_us:16.1f}{each:20.0f}{shown}{rows[500][1]:8.0f}{rows[20][2]:8.0f}")
    for form in OTHERS:
        event_us, each = _lens(form, events, count)
        lines.append(f"{form.name:18}{event_us:16.1f}{each:20.0f}")
    lines.append(f"a body of 1 MiB, asked and answered: {_large():.1f} ns a byte (lens)")
    size = 10_000_000 if quick else 100_000_000
    peak, text = _memory(FORMS[0], size)
    lines.append(f"a stream of {size // 10**6} MB: {peak:.1f} MiB of memory at most, its text is {text:.1f} MiB (lens)")
    return "\n".join(lines)


def _recording(form: Form, events: int) -> Recording:
    target = "/" + form.target.split("/", 2)[2]
    pieces = [*[form.event] * events, form.last]
    socket = form.header[0] == "Upgrade"
    asked = [] if socket else [(0, b'{"model":"m","stream":true}')]
    method, status = ("GET", 101) if socket else ("POST", 200)
    return Recording("", method, target, [], status, [form.header], asked, list(enumerate(pieces)), whole=True)


def _lens(form: Form, events: int, count: int) -> tuple[float, float]:
    """Microseconds an event of a long stream, and an exchange of one event."""
    began = time.process_time()
    meaning = interpret(_recording(form, events))
    each = (time.process_time() - began) / events * 1e6
    assert meaning.text == form.word * events, f"{form.name}: the text is another"
    short = [_recording(form, 1) for _ in range(count)]
    began = time.process_time()
    for recording in short:
        interpret(recording)
    return each, (time.process_time() - began) / count * 1e6


def _memory(form: Form, size: int) -> tuple[float, float]:
    """MiB that are allocated at most while a stream of `size` bytes is read, and MiB of its text."""
    count = size // len(form.event)
    pieces = ((number, form.last if number == count else form.event) for number in range(count + 1))
    recording = Recording("", "POST", "/v1/chat/completions", [], 200, [_SSE], [], pieces, whole=True)
    tracemalloc.start()
    try:
        meaning = interpret(recording)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert meaning.text == form.word * count, f"{form.name}: the text of a large stream is another"
    # The text is there in pieces and joined, and once more while it is looked through.
    assert peak < 4 * len(meaning.text) + 2**22, f"{form.name}: a stream of {size} bytes takes {peak} bytes of memory"
    return peak / 2**20, len(meaning.text) / 2**20


def _large() -> float:
    """Nanoseconds a byte of a large request and a large answer in one piece."""
    text = "a word and another " * (2**20 // 19)
    request = b'{"messages":[{"role":"user","content":"%s"}]}' % text.encode()
    answer = b'{"choices":[{"message":{"content":"%s"}}],"usage":{"prompt_tokens":1}}' % text.encode()
    kind = [("Content-Type", "application/json")]

    def pieces(body: bytes) -> Iterator[tuple[int, bytes]]:
        return ((0, body[at : at + 65536]) for at in range(0, len(body), 65536))

    began = time.process_time()
    for _ in range(10):
        recording = Recording(
            "", "POST", "/v1/chat/completions", kind, 200, kind, pieces(request), pieces(answer), True
        )
        assert interpret(recording).text == text
    return (time.process_time() - began) / 10 / (len(request) + len(answer)) * 1e9


def _with_rows(form: Form, count: int, events: int) -> tuple[float, float, float]:
    """Microseconds an exchange, what is allowed for one, and microseconds of the index, for exchanges in a database."""
    upload = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"' + b"a question " * 30 + b'"}]}'
    chunks = [form.event] * events + [form.last]
    more: dict[str, Any] = {"target": form.target, "credential": "c", "tags": [("env", "ci")]}
    with TemporaryDirectory() as folder, a_house(Path(folder) / "home", "sqlite") as house:
        tapes = [
            exchange(number, chunks=chunks, upload=[upload], session=f"s{number % 20}", **more)
            for number in range(1, count + 1)
        ]
        house.record(merged(*tapes))
        house.drain()
        began = time.process_time()
        house.interpret()
        meaning = (time.process_time() - began) / count * 1e6
        stored = house.query("SELECT data FROM texts WHERE seq = -1")
        assert len(stored) == count, f"{form.name}: {len(stored)} texts are stored"
        assert set(stored) == {(form.word * events,)}, f"{form.name}: another text is stored"
        assert house.engine is not None
        began = time.process_time()
        while index_some(house.engine):
            pass
        index = (time.process_time() - began) / count * 1e6
    allowed = FIXED_US + PER_BYTE_US * (len(upload) + sum(map(len, chunks))) + PER_EVENT_US * events
    return meaning, allowed, index


if __name__ == "__main__":
    print(table())

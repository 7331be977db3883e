"""What the tests of interpretation share: recorded streams as recordings, and a Meaning under the fixtures' names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Meaning, Recording
from tests.support.streams import Stream
from tests.support.websocket import Frame, Op, deflated

STEP_US = 1000


def recording(stream: Stream, pieces: Iterable[bytes] | None = None, *, whole: bool | None = None) -> Recording:
    """A stream as it would be recorded; each piece comes a millisecond after the one before."""
    cut = stream.pieces() if pieces is None else pieces
    return Recording(
        dialect=stream.dialect,
        method=stream.method,
        target=stream.target,
        request_headers=[("Content-Type", "application/json")] if stream.request else [],
        status=stream.status,
        response_headers=stream.headers,
        request=[(0, sent)] if (sent := stream.sent or stream.request) else [],
        response=[(number * STEP_US, piece) for number, piece in enumerate(cut, 1)],
        whole=stream.whole if whole is None else whole,
    )


def read(
    body: bytes,
    target: str = "/v1/chat/completions",
    kind: str = "text/event-stream",
    *,
    method: str = "POST",
    status: int = 200,
    request: bytes = b"{}",
    headers: Iterable[tuple[str, str]] = (),
    asked: Iterable[tuple[str, str]] = (),
    whole: bool = True,
    family: str = "openai",
) -> Meaning:
    """The meaning of one response."""
    return interpret(
        Recording(
            family,
            method,
            target,
            list(asked),
            status,
            [("Content-Type", kind), *headers],
            [(0, request)],
            [(STEP_US, body)],
            whole,
        )
    )


def read_events(*events: Any, target: str, request: Any = None, named: str | None = None, **more: Any) -> Meaning:
    """The meaning of a stream of events that are these as JSON; `named`: the key whose value names each."""
    lines = []
    for event in events:
        name = f"event: {event[named]}\n" if named is not None and named in event else ""
        lines.append(f"{name}data: {event if type(event) is str else json.dumps(event)}\n\n")
    return read("".join(lines).encode(), target, request=json.dumps(request or {}).encode(), **more)


def read_json(answer: Any, target: str, request: Any = None, **more: Any) -> Meaning:
    """The meaning of an answer that is one JSON."""
    asked = json.dumps(request or {}).encode()
    return read(json.dumps(answer).encode(), target, "application/json", request=asked, **more)


def read_socket(*said: tuple[str, Any], target: str, family: str = "openai", extensions: str = "") -> Meaning:
    """The meaning of a WebSocket through which these went, one a millisecond: `sent` or `came`, and its JSON."""
    sides: dict[str, list[tuple[int, bytes]]] = {"sent": [], "came": []}
    for number, (way, message) in enumerate(said, 1):
        client = way == "sent"
        data = json.dumps(message).encode()
        packed = bool(extensions)
        frame = Frame(Op.TEXT, deflated(data) if packed else data, packed=packed, masked=client)
        sides[way].append((number * STEP_US, frame.encode(b"mask") if client else frame.encode()))
    headers = [("Upgrade", "WebSocket"), *([("Sec-WebSocket-Extensions", extensions)] if extensions else [])]
    return interpret(Recording(family, "GET", target, [], 101, headers, sides["sent"], sides["came"], whole=True))


def shown(meaning: Meaning) -> dict[str, Any]:
    """A meaning under the names that the fixtures use."""
    found = asdict(meaning)
    found["tool_calls"] = [dict(each._asdict()) for each in meaning.tool_calls]
    usage = found["usage"]
    if usage is not None:
        usage.pop("others")
        read, wrote = usage["cache_read_tokens"] or 0, usage["cache_write_tokens"] or 0
        if usage["input_tokens"] is not None:
            found["uncached_input_tokens"] = usage["input_tokens"] - read - wrote
    pico = meaning.cost_reported_pico
    found.update(meaning.facts)
    found["requested_model"] = meaning.model_asked
    if meaning.usage_state == "non_token":
        found["usage"] = None
    found["cost_reported_usd"] = None if pico is None else pico / 10**12
    sides: dict[str, Any] = {"prompt": [], "completion": []}
    for rating in meaning.ratings:
        known = {"category": rating.category, "probability": rating.level, "blocked": rating.blocked}
        sides[rating.side].append({name: value for name, value in known.items() if value is not None})
    found["safety"] = {**sides, "prompt_block_reason": meaning.prompt_block_reason}
    return found


def differences(meaning: Meaning, expected: dict[str, Any]) -> dict[str, Any]:
    """Name -> (what was found, what was expected), for what is expected otherwise."""
    found = shown(meaning)
    wrong = {}
    for name, value in expected.items():
        if name in NOT_MEANING:
            continue
        here = found.get(name, "nothing of this name")
        if name in ("error", "safety", "usage") and isinstance(value, dict) and isinstance(here, dict):
            here = {key: here.get(key) for key in value}
        if here != value:
            wrong[name] = (here, value)
    return wrong


NOT_MEANING = frozenset(("duplicate_of_billing", "first_sequence_number"))
"""What fixtures say beside the meaning of one exchange."""

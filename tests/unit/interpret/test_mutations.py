"""Recorded streams in which any value may be any other: still read without raising, whatever dialect it is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy.interpret.eventstream import EventStreamParser
from proxy.interpret.exchange import interpret
from proxy.interpret.price import Pricing
from proxy.interpret.websocket import FrameParser
from tests.support.aws import event
from tests.support.streams import Stream, names, streams
from tests.support.websocket import Frame, Op
from tests.unit.interpret.reading import recording

ROUNDS = 40
VALUES: list[Any] = [
    None, True, 0, -1, 2**70, 1.5, "x", "", "a" * 1000, [], {}, [1], {"a": 1}, [[]], [None], {"text": 5}, {"usage": {}},
    {"type": []}, [{"type": {}}],
]  # fmt: skip


def mutated(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.08:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        return {key: mutated(each, chance) for key, each in value.items() if chance.random() > 0.03}
    if isinstance(value, list):
        return [mutated(each, chance) for each in value]
    return value


def _of_lines(body: bytes, change: Callable[[Any], Any]) -> bytes:
    lines = []
    for line in body.split(b"\n"):
        begin = b"data: " if line.startswith(b"data: ") else b""
        try:
            lines.append(begin + json.dumps(change(json.loads(line[len(begin) :]))).encode())
        except ValueError:
            lines.append(line)
    return b"\n".join(lines)


def _of_aws(body: bytes, change: Callable[[Any], Any]) -> bytes:
    messages = EventStreamParser().feed(body)
    return b"".join(event(each.name, change(json.loads(each.payload))) for each in messages)


def _of_frames(body: bytes, change: Callable[[Any], Any], *, client: bool = False) -> bytes:
    messages = [change(json.loads(each.data)) for each in FrameParser(client=client).feed(body)]
    frames = [Frame(Op.TEXT, json.dumps(each).encode(), masked=client) for each in messages]
    return b"".join(frame.encode(b"mask") if client else frame.encode() for frame in frames)


def changed(stream: Stream, change: Callable[[Any], Any]) -> bytes:
    if stream.socket:
        return _of_frames(stream.body, change)
    if stream.about["framing"] == "eventstream":
        return _of_aws(stream.body, change)
    return _of_lines(stream.body, change)


@pytest.mark.parametrize("name", names())
def test_any_value_anywhere(name: str) -> None:
    stream = streams()[name]
    chance = random.Random(name)
    paths = [each.target for each in streams().values()]
    for _ in range(ROUNDS):
        body = changed(stream, lambda value: mutated(value, chance))
        made = recording(stream, [body])
        if stream.sent is not None:
            sent = _of_frames(stream.sent, lambda value: mutated(value, chance), client=True)
            made = replace(made, request=[(0, sent)])
        else:
            asked = mutated(stream.about["request"]["body"] or {"input": ["x"]}, chance)
            made = replace(made, request=[(0, json.dumps(asked).encode())])
            if chance.random() < 0.3:
                made = replace(made, target=chance.choice(paths))
        meaning = interpret(made)
        json.dumps(meaning.facts)
        Pricing().cost(meaning, "openai", 10**15)

"""Exchanges as examples of chats."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from proxy.exchange import WireEnd
from proxy.replay.chat import Skipped, chat
from proxy.store.unread import Recorded
from tests.support.streams import FOLDER

MESSAGES = [
    {"role": "developer", "content": "be short"},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f"}}]},
    {"role": "tool", "tool_call_id": "a", "content": "42"},
]
ANSWER = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yo"}, "finish_reason": "stop"}],
}


def exchange(asked: Any, answer: bytes, target: str, **more: Any) -> Recorded:
    usual: dict[str, Any] = {
        **dict.fromkeys(("started_us", "record", "size", "chunks", "unrecorded_bytes", "lost_records"), 0),
        **dict.fromkeys(("target_long", "request_sent_us", "interpreter", "interpretation_error")),
        "dialect": "openai",
        "status": 200,
        "wire_end": WireEnd.UPSTREAM_END,
        "response_headers": [("content-type", "application/json")],
    }
    body = asked if isinstance(asked, bytes) else msgspec.json.encode(asked)
    # Read once, as from the database.
    sides = {"request": iter([(0, body[:5]), (1, body[5:])]), "response": iter([(2, answer)])}
    return Recorded(id=UUID(int=1), upstream="u", method="POST", target=target, **{**usual, **sides, **more})


def openai(asked: Any, answer: Any = ANSWER, **more: Any) -> dict[str, Any] | Skipped:
    return chat(exchange(asked, msgspec.json.encode(answer), "/openai/v1/chat/completions", **more))


def test_messages_in_the_form_stay_as_they_are() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert openai({"model": "m", "messages": MESSAGES, "tools": tools, "n": 1}) == {
        "messages": [*MESSAGES, {"role": "assistant", "content": "yo"}],
        "tools": tools,
    }


def test_a_stream_with_tool_calls() -> None:
    stream = (FOLDER / "openai-chat-tool-calls-cached.sse").read_bytes()
    expected = msgspec.json.decode((FOLDER / "openai-chat-tool-calls-cached.expected.json").read_bytes())["expected"]
    kind = [("content-type", "text/event-stream")]
    asked = {"messages": MESSAGES[1:2], "stream": True}
    found = chat(exchange(asked, stream, "/openai/v1/chat/completions", response_headers=kind))
    assert isinstance(found, dict)
    answer = found["messages"][-1]
    assert answer["role"] == "assistant"
    assert [each["function"]["name"] for each in answer["tool_calls"]] == [
        each["name"] for each in expected["tool_calls"]
    ]
    assert all(each["type"] == "function" and each["id"] for each in answer["tool_calls"])


def test_another_provider_becomes_roles_and_texts() -> None:
    answer = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "yo"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    asked = {"system": "be short", "messages": [{"role": "user", "content": "hi"}], "tools": [{"name": "f"}]}
    target = "/anthropic/v1/messages"
    found = chat(exchange(asked, msgspec.json.encode(answer), target, dialect="anthropic"))
    assert isinstance(found, dict)
    *before, said = found["messages"]
    assert before == [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]
    assert said["content"] == "yo"
    assert msgspec.json.decode(said["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert set(found) == {"messages"}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"asked": {"messages": MESSAGES, "n": 2}}, Skipped.NO_ANSWER),
        ({"asked": {"messages": MESSAGES}, "status": 429}, Skipped.NO_ANSWER),
        ({"asked": {"messages": MESSAGES}, "wire_end": WireEnd.CLIENT_LEFT}, Skipped.NO_ANSWER),
        ({"asked": {"messages": MESSAGES}, "answer": {"object": "chat.completion", "choices": []}}, Skipped.NO_ANSWER),
        ({"asked": b"{}"}, Skipped.NO_CHAT),
        ({"asked": b"\xff"}, Skipped.NO_CHAT),
    ],
)
def test_what_is_no_example(more: dict[str, Any], why: Skipped) -> None:
    assert openai(**more) is why


def test_embeddings_are_no_chat() -> None:
    body = b'{"object":"list","data":[]}'
    assert chat(exchange({"input": "a"}, body, "/openai/v1/embeddings")) is Skipped.NO_CHAT

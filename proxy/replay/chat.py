"""A recorded exchange as an example of a chat, in the form that OpenAI's fine-tuning takes. Pure.

The form: https://platform.openai.com/docs/api-reference/fine-tuning/chat-input. Messages that a client wrote in it are
kept as they are; those of other providers become roles and texts, as the lens reads them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import msgspec

from proxy.interpret.body import decoder
from proxy.interpret.exchange import interpret
from proxy.interpret.headers import joined
from proxy.interpret.meaning import Meaning
from proxy.interpret.recorded import Stored, recording, upstream_target

_CHATS = frozenset(("chat", "conversation", "converse", "generate", "interactions", "invoke", "messages", "responses"))
_ROLES = {
    "assistant": "assistant",
    "chatbot": "assistant",
    "developer": "system",
    "instructions": "system",
    "model": "assistant",
    "system": "system",
}
_OPENAI = re.compile(r".*/chat/completions/?")
_BESIDE = ("tools", "parallel_tool_calls")


class Skipped(StrEnum):
    """Why an exchange is no example."""

    NO_CHAT = "no chat"
    NO_ANSWER = "without one whole answer"


def chat(found: Stored) -> dict[str, Any] | Skipped:
    """`{"messages": [...]}`, the answer last, and the tools that were offered."""
    found.request = list(found.request)  # it is read twice
    meaning = interpret(recording(found))
    if meaning.operation not in _CHATS:
        return Skipped.NO_CHAT
    asked = _asked(found)
    if not meaning.complete or meaning.error is not None or asked.get("n") not in (None, 1):
        return Skipped.NO_ANSWER
    if not (meaning.text or meaning.tool_calls):
        return Skipped.NO_ANSWER
    messages = _as_sent(found, asked) or _as_read(meaning)
    if not messages:
        return Skipped.NO_CHAT
    tools = {name: asked[name] for name in _BESIDE if name in asked} if _is_openai(found) else {}
    return {"messages": [*messages, _answer(meaning)], **tools}


def _asked(found: Stored) -> dict[str, Any]:
    """The request's JSON object; empty if it is none."""
    coded = decoder(joined(found.request_headers, "content-encoding"))
    body = b"".join(piece for _, data in found.request for piece in coded.steps(data)) + coded.finish()
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _is_openai(found: Stored) -> bool:
    path = upstream_target(found.target_long or found.target or "").partition("?")[0]
    return _OPENAI.fullmatch(path) is not None


def _as_sent(found: Stored, asked: dict[str, Any]) -> list[Any]:
    """The messages, where the client sent them in this form; else none."""
    messages = asked.get("messages")
    if not _is_openai(found) or not isinstance(messages, list):
        return []
    said = all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in messages)
    return messages if said else []


def _as_read(meaning: Meaning) -> list[dict[str, Any]]:
    return [{"role": _ROLES.get(each.role.lower(), "user"), "content": each.text} for each in meaning.prompts]


def _answer(meaning: Meaning) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": meaning.text or None}
    if meaning.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id or f"call_{number}",
                "type": "function",
                "function": {"name": call.name or "", "arguments": call.arguments},
            }
            for number, call in enumerate(meaning.tool_calls, 1)
        ]
    return said

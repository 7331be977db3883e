"""What Responses can hold where no recorded stream shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.interpret.meaning import Meaning, ToolCall
from tests.unit.interpret.reading import read

USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def stream(*events: dict[str, Any], **options: Any) -> Meaning:
    data = "".join(f"event: {each.get('type')}\ndata: {json.dumps(each)}\n\n" for each in events)
    return read(data.encode(), "/v1/responses", **options)


def ended(status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": {"id": "r", "status": status, "usage": USAGE, **fields}}


def test_a_stream_that_was_cut_keeps_its_deltas() -> None:
    meaning = stream(
        {"type": "response.created", "response": {"id": "r", "model": "m"}},
        {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
        {"type": "response.output_text.delta", "delta": "he"},
        {"type": "response.output_text.delta", "delta": "llo"},
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {"type": "function_call", "call_id": "c", "name": "f"},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"a"'},
        {"type": "response.something.new", "delta": 5},
        whole=False,
    )
    assert (meaning.text, meaning.reasoning) == ("hello", "hm")
    assert meaning.tool_calls == [ToolCall("c", "f", '{"a"')]
    assert (meaning.complete, meaning.usage_state) == (False, "missing")


@pytest.mark.parametrize(
    ("event", "reason", "norm"),
    [
        (
            ended("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "incomplete:max_output_tokens",
            "length",
        ),
        (
            ended("incomplete", incomplete_details={"reason": "content_filter"}),
            "incomplete:content_filter",
            "content_filter",
        ),
        (ended("failed", error={"code": "server_error", "message": "m"}), "failed", "error"),
        (ended("cancelled"), "cancelled", "cancelled"),
        (ended(), "completed", "stop"),
    ],
)
def test_how_it_ends(event: dict[str, Any], reason: str, norm: str) -> None:
    meaning = stream(event)
    assert (meaning.finish_reason, meaning.finish_reason_norm) == (reason, norm)
    assert (meaning.complete, meaning.terminated, meaning.usage_state) == (True, True, "complete")


def test_the_output_at_the_end_is_the_answer() -> None:
    output = [
        {"type": "reasoning", "summary": [{"text": "a"}], "content": [{"text": "b"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "x"}, {"type": "refusal", "refusal": "no"}]},
        {"type": "mcp_call", "id": "m1", "name": "tool", "arguments": "{}"},
        {"type": "computer_call", "call_id": "c1", "action": {"type": "click"}},
        {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "q"}},
        {"type": "web_search_call", "id": "w", "action": {"type": "open_page", "url": "u"}},
        {"type": "never heard of"},
    ]
    meaning = stream({"type": "response.output_text.delta", "delta": "other"}, ended(output=output))
    assert (meaning.text, meaning.reasoning) == ("xno", "ab")
    assert meaning.tool_calls == [ToolCall("m1", "tool", "{}"), ToolCall("c1", "computer_call", '{"type": "click"}')]
    assert meaning.usage is not None
    assert meaning.usage.others == {"web_searches": 1}
    assert meaning.finish_reason_norm == "tool_calls"


def test_background_is_not_finished_yet() -> None:
    body: dict[str, Any] = {"object": "response", "id": "r", "status": "queued", "usage": None, "output": []}
    meaning = read(json.dumps(body).encode(), "/v1/responses", "application/json")
    assert (meaning.response_id, meaning.finish_reason, meaning.usage_state) == ("r", None, "missing")


@pytest.mark.parametrize(
    ("method", "target", "operation", "state"),
    [
        ("GET", "/v1/responses/r", "responses.retrieve", "complete"),
        ("POST", "/v1/responses/r/cancel", "responses.cancel", "complete"),
        ("POST", "/v1/responses/compact", "responses.compact", "complete"),
        ("POST", "/v1/responses/input_tokens", "count", "none"),
        ("GET", "/v1/responses/r/input_items", "metadata", "none"),
        ("DELETE", "/v1/responses/r", "metadata", "none"),
    ],
)
def test_operations(method: str, target: str, operation: str | None, state: str) -> None:
    body = {"object": "response", "id": "r", "status": "completed", "usage": USAGE, "input_tokens": 5}
    meaning = read(json.dumps(body).encode(), target, "application/json", method=method)
    assert (meaning.operation, meaning.usage_state) == (operation, state)


def test_an_error_with_the_error_inside() -> None:
    meaning = stream({"type": "error", "error": {"type": "t", "code": "c", "message": "m"}})
    assert meaning.error is not None
    assert (meaning.error.type, meaning.error.code, meaning.error.message) == ("t", "c", "m")
    assert (meaning.complete, meaning.terminator) == (False, "error")


def test_a_tool_that_failed_is_not_the_stream_s_end() -> None:
    meaning = stream(
        {"type": "response.mcp_call.failed", "error": None},
        {"type": "response.mcp_list_tools.failed", "error": {"message": "unreachable"}},
        ended(),
    )
    assert (meaning.error, meaning.complete, meaning.terminator) == (None, True, "response.completed")


def test_a_failed_response_in_one_piece_has_error_and_usage() -> None:
    failed = ended("failed", object="response", error={"code": "server_error", "message": "m" * 5000})["response"]
    meaning = read(json.dumps(failed).encode(), "/v1/responses", "application/json")
    assert meaning.error is not None
    assert (meaning.error.code, len(meaning.error.message or "")) == ("server_error", 4096)
    assert (meaning.finish_reason_norm, meaning.usage_state) == ("error", "complete")


def test_without_names_and_with_done() -> None:
    """As OpenRouter sends it."""
    data = "".join(
        f"data: {json.dumps(each)}\n\n" for each in ({"type": "response.output_text.delta", "delta": "x"}, ended())
    )
    meaning = read((data + "data: [DONE]\n\n").encode(), "/api/v1/responses")
    assert (meaning.terminator, meaning.events, meaning.text) == ("response.completed", 3, "x")


def test_what_was_asked() -> None:
    asked = {
        "model": "m",
        "stream": True,
        "instructions": "be brief",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "function_call_output", "call_id": "c", "output": "42"},
        ],
    }
    meaning = stream(ended(), request=json.dumps(asked).encode())
    assert [tuple(each) for each in meaning.prompts] == [
        ("system", "be brief"),
        ("user", "hi"),
        ("function_call_output", "42"),
    ]

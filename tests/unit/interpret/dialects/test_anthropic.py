"""What Anthropic's messages can hold where no recorded stream shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.interpret.meaning import Meaning, Part, Rating, ToolCall, Usage
from tests.unit.interpret.reading import read


def stream(*events: dict[str, Any], **options: Any) -> Meaning:
    data = "".join(f"event: {each.get('type')}\ndata: {json.dumps(each)}\n\n" for each in events)
    return read(data.encode(), options.pop("target", "/v1/messages"), **options)


def start(**usage: Any) -> dict[str, Any]:
    return {"type": "message_start", "message": {"id": "msg", "model": "claude", "usage": usage}}


def changed(reason: str | None = None, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STOP = {"type": "message_stop"}


def test_usage_grows_and_each_field_keeps_its_last_value() -> None:
    meaning = stream(
        start(input_tokens=702, output_tokens=1, cache_read_input_tokens=10, cache_creation_input_tokens=None),
        changed(None, input_tokens=1591, output_tokens=20),
        changed("end_turn", output_tokens=30, cache_read_input_tokens=None),
        STOP,
    )
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.cache_read_tokens) == (1601, 30, 10)
    assert meaning.usage.total_tokens == 1631


def test_iterations_of_others_are_parts_and_not_in_the_usage() -> None:
    iterations = [
        {"type": "message", "input_tokens": 220, "output_tokens": 5},
        {"type": "compaction", "input_tokens": 55_196, "output_tokens": 900},
        {"type": "advisor_message", "model": "claude-big", "input_tokens": 7, "cache_read_input_tokens": 3},
    ]
    meaning = stream(start(input_tokens=220), changed("end_turn", output_tokens=5, iterations=iterations), STOP)
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens) == (220, 5)
    assert meaning.parts == [
        Part("compaction", None, Usage(55_196, 900, 56_096)),
        Part("advisor_message", "claude-big", Usage(10, None, 10, 3)),
    ]


def test_searches_are_counted() -> None:
    meaning = stream(start(input_tokens=1), changed("end_turn", server_tool_use={"web_search_requests": 2}), STOP)
    assert meaning.usage is not None
    assert meaning.usage.others == {"web_searches": 2}


@pytest.mark.parametrize(
    ("reason", "norm"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
        ("compaction", "other"),
    ],
)
def test_stop_reasons(reason: str, norm: str) -> None:
    meaning = stream(start(), changed(reason), STOP)
    assert (meaning.finish_reason, meaning.finish_reason_norm, meaning.terminator) == (reason, norm, "message_stop")


def block(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def test_tools_whose_input_comes_whole_in_pieces_or_not_at_all() -> None:
    meaning = stream(
        start(),
        block(0, type="tool_use", id="a", name="f", input={}),
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"x":1}'}},
        block(1, type="server_tool_use", id="b", name="web_search", input={"q": 1}),
        block(2, type="mcp_tool_use", id="c", name="g"),
        block(3, type="never_heard_of"),
        STOP,
    )
    assert meaning.tool_calls == [
        ToolCall("a", "f", '{"x":1}'),
        ToolCall("b", "web_search", '{"q": 1}'),
        ToolCall("c", "g", "{}"),
    ]


def test_in_one_piece() -> None:
    body = {
        "type": "message",
        "role": "assistant",
        "id": "m",
        "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 2, "service_tier": "batch", "speed": "standard"},
    }
    meaning = read(json.dumps(body).encode(), "/gateway/anthropic", "application/json")
    assert (meaning.text, meaning.reasoning, meaning.service_tier) == ("ab", "hm", "batch")
    assert (meaning.complete, meaning.usage_state) == (True, "complete")
    body["usage"] = {"speed": "fast"}
    assert read(json.dumps(body).encode(), "/v1/messages", "application/json").service_tier == "fast"


def test_an_error_event_names_the_request() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "req_1"}
    meaning = stream(start(input_tokens=5, output_tokens=1), error)
    assert meaning.error is not None
    assert (meaning.error.type, meaning.request_id, meaning.usage_state) == ("overloaded_error", "req_1", "partial")


def test_events_without_names_and_the_old_completions() -> None:
    data = "".join(f"data: {json.dumps(each)}\n\n" for each in (start(), changed("end_turn"), STOP))
    assert read(data.encode(), "/v1/messages").complete
    old = stream(
        {"type": "completion", "completion": "a"},
        {"type": "completion", "stop_reason": "stop_sequence"},
        target="/v1/complete",
    )
    assert (old.text, old.finish_reason_norm, old.complete, old.usage_state) == ("a", "stop", True, "missing")


def test_counting_is_free() -> None:
    meaning = read(b'{"input_tokens": 14}', "/v1/messages/count_tokens", "application/json")
    assert (meaning.operation, meaning.usage, meaning.usage_state) == ("count", None, "none")


def test_what_was_asked() -> None:
    asked = {
        "model": "c",
        "stream": True,
        "system": [{"type": "text", "text": "s"}],
        "messages": [{"role": "user", "content": "u"}],
    }
    meaning = stream(start(), STOP, request=json.dumps(asked).encode(), asked=[("x-stainless-retry-count", "2")])
    assert [tuple(each) for each in meaning.prompts] == [("system", "s"), ("user", "u")]
    assert (meaning.model_asked, meaning.streaming, meaning.retry_count) == ("c", True, 2)


def test_a_fallback_goes_on_with_another_model() -> None:
    to = {"type": "content_block_start", "index": 1, "content_block": {"type": "fallback", "to": {"model": "claude-b"}}}
    meaning = stream(start(input_tokens=5), to, changed("end_turn", output_tokens=3), STOP)
    assert meaning.response_model == "claude-b"
    iterations = [{"type": "message", "input_tokens": 1}, {"type": "fallback_message", "model": "claude-c"}]
    meaning = stream(start(input_tokens=5), changed("end_turn", output_tokens=3, iterations=iterations), STOP)
    assert (meaning.response_model, meaning.parts) == ("claude-c", [])


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "no"}
    end = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}}
    said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "I"}}
    meaning = stream(start(), said, end, STOP)
    assert meaning.ratings == [Rating("completion", "cyber", blocked=True)]
    assert (meaning.text, meaning.finish_reason_norm, meaning.complete) == ("I", "content_filter", True)


def test_the_cache_s_split_is_kept_as_far_as_it_was_told() -> None:
    split = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 20}
    meaning = stream(
        start(input_tokens=1, cache_creation_input_tokens=120, cache_creation=split),
        changed("end_turn", cache_creation_input_tokens=150),
        STOP,
    )
    assert meaning.usage is not None
    assert (meaning.usage.cache_write_5m_tokens, meaning.usage.cache_write_1h_tokens) == (100, 20)
    assert (meaning.usage.cache_write_tokens, meaning.usage.input_tokens) == (150, 151)


def test_what_is_neither_text_nor_thought_is_passed_over() -> None:
    meaning = stream(
        start(),
        block(0, type="redacted_thinking", data="secret"),
        block(1, type="compaction", content="summary"),
        {"type": "content_block_delta", "index": 1, "delta": {"type": "compaction_delta", "content": "summary"}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "citations_delta", "citation": {}}},
        block(3, type="web_search_tool_result", content=[{"type": "web_search_result", "title": "t"}]),
        {"type": "content_block_stop", "index": 3},
        {"type": "ping"},
        {"type": "something.new", "usage": {"input_tokens": 9}},
        STOP,
    )
    assert (meaning.text, meaning.reasoning, meaning.tool_calls, meaning.usage) == ("", "", [], None)
    assert (meaning.events, meaning.complete, meaning.usage_state) == (11, True, "missing")


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("POST", "/v1/messages/batches", "batch"),
        ("GET", "/v1/messages/batches/b1", "batch"),
        ("GET", "/v1/messages/batches/b1/results", "batch.results"),
        ("GET", "/v1/models?limit=5", "metadata"),
        ("GET", "/v1/models/claude", "metadata"),
        ("POST", "/v1/files", "metadata"),
        ("POST", "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict", "count"),
    ],
)
def test_what_costs_nothing(method: str, target: str, operation: str) -> None:
    meaning = read(b'{"input_tokens": 14, "usage": {"input_tokens": 14}}', target, "application/json", method=method)
    assert (meaning.operation, meaning.usage, meaning.usage_state) == (operation, None, "none")


def test_on_vertex_the_path_names_the_model() -> None:
    target = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x%4020250101:streamRawPredict"
    meaning = stream(start(input_tokens=5), changed("end_turn", output_tokens=3), STOP, target=target)
    assert (meaning.operation, meaning.model_asked, meaning.usage_state) == (
        "messages",
        "claude-x@20250101",
        "complete",
    )


def test_the_id_of_a_request_stands_in_its_error() -> None:
    body = b'{"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "req_9"}'
    meaning = read(body, "/v1/messages", "application/json", status=529)
    assert meaning.error is not None
    assert (meaning.request_id, meaning.error.type, meaning.error.status) == ("req_9", "overloaded_error", 529)

"""AWS Bedrock: converse and invoke, in one piece and as a stream."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from proxy.interpret.meaning import Meaning
from tests.support.aws import event, exception
from tests.unit.interpret.reading import read, read_json

MODEL = "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.anthropic.claude-v1%3A0"
KIND = "application/vnd.amazon.eventstream"


def invoked(*pieces: dict[str, Any], model: str = MODEL) -> Meaning:
    """The meaning of what a model said in its own form, in base64."""
    data = b"".join(
        event("chunk", {"bytes": base64.b64encode(json.dumps(p).encode()).decode(), "p": "ab"}) for p in pieces
    )
    return read(data, f"/model/{model}/invoke-with-response-stream", KIND, family="bedrock")


METRICS = {"inputTokenCount": 12, "outputTokenCount": 34, "invocationLatency": 900, "firstByteLatency": 100}


def test_the_path_names_the_model_also_an_arn() -> None:
    meaning = read_json({}, f"/model/{MODEL}/converse", family="bedrock")
    assert meaning.model_asked == "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-v1:0"


def test_converse_in_one_piece() -> None:
    content = [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"text": "I look."},
        {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"a": 1}}},
    ]
    answer = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use",
        "usage": {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 115,
            "cacheReadInputTokens": 60,
            "cacheWriteInputTokens": 40,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 30}, {"ttl": "1h", "inputTokens": 10}],
        },
        "metrics": {"latencyMs": 1200},
        "serviceTier": {"type": "priority"},
    }
    asked = {"system": [{"text": "be brief"}], "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    meaning = read_json(answer, f"/model/{MODEL}/converse", asked, family="bedrock")
    assert meaning.usage is not None
    usage = meaning.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.total_tokens) == (
        110,
        60,
        40,
        115,
    )
    assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == (30, 10)
    assert (meaning.text, meaning.reasoning, meaning.finish_reason_norm) == ("I look.", "hm", "tool_calls")
    assert [tuple(each) for each in meaning.tool_calls] == [("t1", "look", '{"a": 1}')]
    assert (meaning.service_tier, meaning.facts["timings_ms"]) == ("priority", {"total": 1200})
    assert [tuple(each) for each in meaning.prompts] == [("system", "be brief"), ("user", "hello")]


def test_a_refusal_has_its_type_in_a_header() -> None:
    headers = [("x-amzn-errortype", "ThrottlingException:http://internal.amazon.com/"), ("x-amzn-requestid", "r1")]
    meaning = read_json(
        {"message": "Too many requests"}, f"/model/{MODEL}/converse", status=429, headers=headers, family="bedrock"
    )
    assert meaning.error is not None
    assert (meaning.error.type, meaning.error.message, meaning.error.status) == (
        "ThrottlingException",
        "Too many requests",
        429,
    )
    assert (meaning.request_id, meaning.usage_state) == ("r1", "none")


def test_claude_in_base64() -> None:
    meaning = invoked(
        {"type": "message_start", "message": {"id": "msg_bdrk_1", "model": "claude", "usage": {"input_tokens": 9}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS},
    )
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens) == (9, 4)
    assert (meaning.text, meaning.terminator, meaning.complete) == ("Hello", "message_stop", True)
    assert (meaning.response_id, meaning.facts["timings_ms"]) == ("msg_bdrk_1", {"total": 900, "first_byte": 100})


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        (({"outputText": "Hel"}, {"outputText": "lo", "completionReason": "FINISH"}), "FINISH"),
        (({"generation": "Hel"}, {"generation": "lo", "stop_reason": "stop"}), "stop"),
        (({"outputs": [{"text": "Hel"}]}, {"outputs": [{"text": "lo", "stop_reason": "stop"}]}), "stop"),
        (({"choices": [{"text": "Hel"}]}, {"choices": [{"text": "lo", "stop_reason": "stop"}]}), "stop"),
    ],
)
def test_other_families_say_their_tokens_in_the_metrics(pieces: tuple[dict[str, Any], ...], reason: str) -> None:
    meaning = invoked(*pieces[:-1], {**pieces[-1], "amazon-bedrock-invocationMetrics": METRICS})
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage.total_tokens) == (12, 34, 46)
    assert (meaning.text, meaning.finish_reason, meaning.finish_reason_norm) == ("Hello", reason, "stop")
    assert (meaning.terminator, meaning.complete) == ("invocationMetrics", True)


def test_nova_speaks_as_converse_does() -> None:
    meaning = invoked(
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "Hello"}, "contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 2}}, "amazon-bedrock-invocationMetrics": METRICS},
        model="amazon.nova-lite-v1%3A0",
    )
    assert meaning.usage is not None
    assert (meaning.text, meaning.usage.total_tokens, meaning.terminator) == ("Hello", 5, "metadata")


@pytest.mark.parametrize(
    ("answer", "text", "tokens"),
    [
        (
            {"generation": "Hi", "prompt_token_count": 5, "generation_token_count": 2, "stop_reason": "stop"},
            "Hi",
            (5, 2),
        ),
        ({"inputTextTokenCount": 5, "results": [{"tokenCount": 2, "outputText": "Hi"}]}, "Hi", (5, 2)),
        ({"embedding": [0.1], "inputTextTokenCount": 5}, "", (5, None)),
        (
            {
                "object": "chat.completion",
                "choices": [{"message": {"content": "Hi"}}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 2},
            },
            "Hi",
            (5, 2),
        ),
    ],
)
def test_whole_answers_of_other_families(answer: Any, text: str, tokens: tuple[int, int | None]) -> None:
    meaning = read_json(answer, "/model/x/invoke", family="bedrock")
    assert meaning.usage is not None
    assert (meaning.text, (meaning.usage.input_tokens, meaning.usage.output_tokens)) == (text, tokens)


def test_the_headers_tell_where_the_body_does_not() -> None:
    headers = [("x-amzn-bedrock-input-token-count", "7"), ("x-amzn-bedrock-output-token-count", "8")]
    meaning = read_json({"outputs": [{"text": "Hi"}]}, "/model/mistral/invoke", headers=headers, family="bedrock")
    assert meaning.usage is not None
    assert (meaning.usage.input_tokens, meaning.usage.output_tokens, meaning.usage_state) == (7, 8, "complete")


def test_pictures_of_bedrock() -> None:
    meaning = read_json({"images": ["A" * 100, "B" * 50]}, "/model/nova-canvas/invoke", family="bedrock")
    assert [tuple(each) for each in meaning.media] == [("response", "image", 0, 0, 150)]


def test_an_exception_ends_an_invocation() -> None:
    piece = {"bytes": base64.b64encode(b'{"generation":"Hel"}').decode()}
    data = event("chunk", piece) + exception("modelStreamErrorException", "it broke")
    meaning = read(data, "/model/x/invoke-with-response-stream", KIND, family="bedrock")
    assert meaning.error is not None
    assert (meaning.error.type, meaning.complete, meaning.text) == ("modelStreamErrorException", False, "Hel")


@pytest.mark.parametrize(
    "piece", [{"bytes": "%%%"}, {"bytes": base64.b64encode(b"no json").decode()}, {"bytes": 5}, {}]
)
def test_pieces_that_are_none(piece: Any) -> None:
    meaning = read(event("chunk", piece), "/model/x/invoke-with-response-stream", KIND, family="bedrock")
    assert (meaning.text, meaning.complete, meaning.usage_state) == ("", False, "missing")

"""What OpenTelemetry's conventions for generative AI call what we draw out of exchanges: THE one table. Pure.

The names: https://github.com/open-telemetry/semantic-conventions-genai (state of November 2026, still in development).
Tokens are inclusive there as here: cached ones are part of the input, reasoning is part of the output.
"""

from __future__ import annotations

from collections.abc import Mapping

ATTRIBUTES: Mapping[str, str] = {
    "operation": "gen_ai.operation.name",
    "upstream": "gen_ai.provider.name",
    "model_asked": "gen_ai.request.model",
    "streaming": "gen_ai.request.stream",
    "response_id": "gen_ai.response.id",
    "response_model": "gen_ai.response.model",
    "finish_reason": "gen_ai.response.finish_reasons",
    "first_event_us": "gen_ai.response.time_to_first_chunk",
    "service_tier": "openai.response.service_tier",
    "session": "gen_ai.conversation.id",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "input_audio_tokens": "gen_ai.usage.audio.input_tokens",
    "output_audio_tokens": "gen_ai.usage.audio.output_tokens",
    "cache_audio_read_tokens": "gen_ai.usage.audio.cache_read.input_tokens",
    "input_image_tokens": "gen_ai.usage.image.input_tokens",
    "output_image_tokens": "gen_ai.usage.image.output_tokens",
    "error": "error.type",
    "prompts": "gen_ai.input.messages",
    "text": "gen_ai.output.messages",
}
"""Our field -> the attribute of a span. Times are seconds there, finish reasons an array; `prompts` and `text` hold
content and are for those who ask for it."""

OWN = "wiretape."
"""What the names begin with of fields that the conventions have no word for."""

OPERATIONS: Mapping[str, str] = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "converse": "chat",
    "invoke": "chat",
    "conversation": "chat",
    "realtime": "chat",
    "live": "generate_content",
    "generate": "generate_content",
    "interactions": "generate_content",
    "images": "generate_content",
    "speech": "generate_content",
    "transcription": "generate_content",
    "translation": "generate_content",
    "text": "text_completion",
    "embeddings": "embeddings",
    "rerank": "retrieval",
    "chat.retrieve": "fetch_response",
    "responses.retrieve": "fetch_response",
    "interactions.retrieve": "fetch_response",
}
"""Our operation -> theirs. One that is not here keeps its own name; of `fetch_response` no tokens are reported."""

PROVIDERS: Mapping[str, str] = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "anthropic": "anthropic",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "groq": "groq",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "perplexity": "perplexity",
    "xai": "x_ai",
}
"""Our upstream -> their provider. One that is not here keeps its own name."""


def attribute(field: str) -> str:
    """The attribute of a field."""
    return ATTRIBUTES.get(field, OWN + field)
